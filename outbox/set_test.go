package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/outbox"
	"github.com/delqhi/cache/outbox/internal/dbtest"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// shelf is a table of one row, 1, with the caches of some processes in front of it.
type shelf struct {
	*bench
	redis  redis.UniversalClient
	writer *cache.Cache[int64, string]
	reader *cache.Cache[int64, string]
	target *cache.Cache[int64, string]
}

func newShelf(t *testing.T, kind string) *shelf {
	t.Helper()
	redistest.Require(t)
	server := redistest.Start(t)
	s := &shelf{bench: newBench(t, kind), redis: server.Client(t)}
	s.exec("CREATE TABLE item (id BIGINT PRIMARY KEY, name VARCHAR(100) NOT NULL)")
	s.exec("INSERT INTO item (id, name) VALUES (1, 'first')")
	for _, c := range []**cache.Cache[int64, string]{&s.writer, &s.reader, &s.target} {
		var err error
		*c, err = cache.NewFrom(server.Client(t), "names", cache.Source[int64, string]{Load: s.name}, cache.WithStrategy(strategy.LRU(100), strategy.TTL(time.Hour)), cache.WithLogger(discard))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*c).Close() })
	}
	return s
}

func (s *shelf) name(ctx context.Context, id int64) (name string, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT name FROM item WHERE id = "+itoa(id)).Scan(&name)
	return name, err
}

func (s *shelf) begin() *sql.Tx {
	s.t.Helper()
	tx, err := s.db.BeginTx(s.t.Context(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

func (s *shelf) update(tx *sql.Tx, name string) {
	s.t.Helper()
	if _, err := tx.ExecContext(s.t.Context(), "UPDATE item SET name = '"+name+"' WHERE id = 1"); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) set(tx *sql.Tx, name string, opts ...cache.WriteOption) {
	s.t.Helper()
	if err := outbox.Set(s.t.Context(), s.box.In(tx), s.writer, 1, name, opts...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) commit(tx *sql.Tx) {
	s.t.Helper()
	if err := tx.Commit(); err != nil {
		s.t.Fatal(err)
	}
}

// change is a transaction with a Set.
func (s *shelf) change(name string) {
	s.t.Helper()
	tx := s.begin()
	s.update(tx, name)
	s.set(tx, name)
	s.commit(tx)
}

func (s *shelf) get(c *cache.Cache[int64, string]) string {
	s.t.Helper()
	v, err := c.Get(s.t.Context(), 1)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// drained waits until the relays have applied everything, and checks that every cache has what the
// row has.
func (s *shelf) drained() {
	s.t.Helper()
	await(s.t, "an empty outbox", func() bool { return s.backlog("names").Pending == 0 })
	want, err := s.name(s.t.Context(), 1)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range []*cache.Cache[int64, string]{s.writer, s.reader, s.target} {
		// While a notification is on its way the local tier may have the old value.
		await(s.t, "the row's value in every cache", func() bool { return s.get(c) == want })
	}
	if v, err := s.target.Get(s.t.Context(), 1, cache.SkipLocal()); v != want || err != nil {
		s.t.Errorf("Redis has %q, %v, and the row is %q", v, err, want)
	}
}

func TestSetSavesTheLoad(t *testing.T) {
	onAll(t, func(t *testing.T, kind string) {
		s := newShelf(t, kind)
		relay := s.relay(s.target)
		s.run(relay)
		if v := s.get(s.reader); v != "first" {
			t.Fatal(v)
		}
		loads := s.reader.Metrics().Loads + s.target.Metrics().Loads
		s.change("second")
		s.drained()
		if n := s.reader.Metrics().Loads + s.target.Metrics().Loads + s.writer.Metrics().Loads; n != loads {
			t.Errorf("%d loads after it", n-loads)
		}
		await(t, "the counts", func() bool { c := relay.Stats().Caches["names"]; return c.Replaced == 1 && c.Applied == 1 })

		// A rollback leaves everything as it is.
		tx := s.begin()
		s.update(tx, "third")
		s.set(tx, "third")
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if v := s.get(s.reader); v != "second" || s.backlog("names").Pending != 0 {
			t.Errorf("%q, and %d rows", v, s.backlog("names").Pending)
		}
	})
}

// Two transactions Set one key. The numbers of their rows are not the order of their commits:
//
//  1. A inserts row 1, with the value "a".
//  2. B inserts row 2, with the value "b", changes the row, and commits.
//  3. A changes the row, and commits: it has "a" now.
//
// A relay that applies both, the greater number last, leaves "b". Here it sees both rows at once,
// or row 2 first; A then finds the entry of which it knew replaced.
func TestTwoSetsThatAreCommittedInAnotherOrder(t *testing.T) {
	for _, kind := range dbtest.Servers {
		for _, together := range []bool{true, false} {
			t.Run(fmt.Sprint(kind, ", together ", together), func(t *testing.T) {
				t.Parallel()
				s := newShelf(t, kind)
				s.get(s.reader)
				a, b := s.begin(), s.begin()
				s.set(a, "a")
				s.set(b, "b")
				s.update(b, "b")
				relay := s.relay(s.target)
				if !together {
					s.run(relay)
				}
				s.commit(b)
				if !together {
					await(t, "row 2", func() bool { return relay.Stats().Caches["names"].Applied == 1 })
					if n := relay.Stats().Caches["names"].Replaced; n != 1 {
						t.Errorf("the first value to be committed was not put in place")
					}
				}
				s.update(a, "a")
				s.commit(a)
				if together {
					s.run(relay)
				}
				s.drained()
				await(t, "both rows", func() bool { return relay.Stats().Caches["names"].Applied == 2 })
				if n := relay.Stats().Caches["names"].Replaced; together && n != 0 || !together && n != 1 {
					t.Errorf("%d values were put in place", n)
				}
				if v := s.get(s.reader); v != "a" {
					t.Errorf("%q", v)
				}
			})
		}
	}
}

// interfering is a target in which something happens before or after its first call.
type interfering struct {
	*cache.Cache[int64, string]
	once          sync.Once
	before, after func()
	lost          bool // the first call takes effect, and its answer is lost
}

func (i *interfering) ReplaceEncoded(ctx context.Context, encoded string, value []byte) (ok bool, err error) {
	first := false
	i.once.Do(func() { first = true })
	if !first {
		return i.Cache.ReplaceEncoded(ctx, encoded, value)
	}
	if i.before != nil {
		i.before()
	}
	ok, err = i.Cache.ReplaceEncoded(ctx, encoded, value)
	if i.after != nil {
		i.after()
	}
	if i.lost && err == nil {
		err = fmt.Errorf("lost: %w", cache.ErrUnavailable)
	}
	return ok, err
}

// somebodyElse changes the row and says so to the cache, without the outbox, in some way.
var somebodyElse = map[string]func(ctx context.Context, c *cache.Cache[int64, string]) error{
	"invalidates": func(ctx context.Context, c *cache.Cache[int64, string]) error { return c.Invalidate(ctx, 1) },
	"sets":        func(ctx context.Context, c *cache.Cache[int64, string]) error { return c.Set(ctx, 1, "newer") },
	"clears":      func(ctx context.Context, c *cache.Cache[int64, string]) error { return c.Clear(ctx) },
	"tags":        func(ctx context.Context, c *cache.Cache[int64, string]) error { return c.InvalidateTags(ctx, "shelf") },
	"invalidates, and a reader loads": func(ctx context.Context, c *cache.Cache[int64, string]) error {
		if err := c.Invalidate(ctx, 1); err != nil {
			return err
		}
		_, err := c.Get(ctx, 1)
		return err
	},
}

// A row is delivered twice, and between the deliveries another program writes something newer:
//
//  1. The relay puts "second" in place. The answer is lost, or the relay ends before it removes the row.
//  2. Another program changes the row to "newer", and tells the cache.
//  3. The row is applied again.
func TestASetThatIsDeliveredAgainDoesNotOverwriteANewerWrite(t *testing.T) {
	for what, tell := range somebodyElse {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, "SQLite")
			s.get(s.reader)
			target := &interfering{Cache: s.target, lost: true, after: func() {
				if v := s.get(s.target); v != "second" {
					t.Errorf("the first delivery left %q", v)
				}
				s.exec("UPDATE item SET name = 'newer' WHERE id = 1")
				if err := tell(t.Context(), s.reader); err != nil {
					t.Error(err)
				}
			}}
			tx := s.begin()
			s.update(tx, "second")
			s.set(tx, "second", cache.Tags("shelf"))
			s.commit(tx)
			s.run(s.relay(target))
			s.drained()
			if v := s.get(s.reader); v != "newer" {
				t.Errorf("%q", v)
			}
		})
	}
}

// The relay lags, and the first delivery comes after a newer write of another program:
//
//  1. A transaction Sets "second", and commits. The relay does not get to it.
//  2. Another program changes the row to "newer", and tells the cache.
//  3. The relay applies the row.
//
// Or it lags between reading the row and applying it, while another relay goes on:
//
//  1. A transaction Sets "second", and commits. A relay reads the row, and is held up.
//  2. Its lease ends. Another relay applies the row.
//  3. A transaction Sets "newer", and commits; the other relay applies that too, and readers load.
//  4. The first relay goes on, and applies "second".
func TestARelayThatLagsDoesNotOverwriteANewerWrite(t *testing.T) {
	for what, tell := range somebodyElse {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, "SQLite")
			s.get(s.reader)
			tx := s.begin()
			s.update(tx, "second")
			s.set(tx, "second", cache.Tags("shelf"))
			s.commit(tx)
			s.exec("UPDATE item SET name = 'newer' WHERE id = 1")
			if err := tell(t.Context(), s.reader); err != nil {
				t.Fatal(err)
			}
			s.run(s.relay(s.target))
			s.drained()
			if v := s.get(s.reader); v != "newer" {
				t.Errorf("%q", v)
			}
		})
	}
	t.Run("held up", func(t *testing.T) {
		onAll(t, func(t *testing.T, kind string) {
			s := newShelf(t, kind)
			s.get(s.reader)
			entered, leave := make(chan struct{}), make(chan struct{})
			held := &interfering{Cache: s.target, before: func() { close(entered); <-leave }}
			stop := s.run(s.relay(held))
			s.change("second")
			<-entered
			other := s.relay(s.writer)
			s.run(other)
			await(t, "the other relay", func() bool { return other.Stats().Caches["names"].Applied == 1 })
			s.get(s.reader)
			s.change("newer")
			await(t, "the newer row", func() bool { return other.Stats().Caches["names"].Applied == 2 })
			await(t, "a reader", func() bool { return s.get(s.reader) == "newer" })
			close(leave)
			_ = stop() // which waits for what is in flight
			s.drained()
			if v := s.get(s.reader); v != "newer" {
				t.Errorf("%q", v)
			}
		})
	})
}

// What is not put in place is invalidated.
func TestASetThatOnlyInvalidates(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for name, c := range map[string]struct {
		prepare func(s *shelf)
		value   string
		target  func(t *testing.T, s *shelf) outbox.Target
		after   func(s *shelf, tx *sql.Tx) error
	}{
		"no entry":       {prepare: func(*shelf) {}},
		"a large value":  {value: long},
		"a client":       {target: func(t *testing.T, s *shelf) outbox.Target { return outbox.Client(clientOf(t, s.redis)) }},
		"two rows":       {after: func(s *shelf, tx *sql.Tx) error { return outbox.Invalidate(s.t.Context(), s.box.In(tx), s.writer, 1) }},
		"a tag beside":   {after: func(s *shelf, tx *sql.Tx) error { return s.box.In(tx).InvalidateTags(s.t.Context(), s.writer, "shelf") }},
		"a Clear beside": {after: func(s *shelf, tx *sql.Tx) error { return s.box.In(tx).Clear(s.t.Context(), s.writer) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, "SQLite")
			if c.prepare == nil {
				s.get(s.reader)
			}
			if c.value == "" {
				c.value = "second"
			}
			tx := s.begin()
			s.update(tx, "second")
			s.set(tx, c.value, cache.Tags("shelf"))
			if c.after != nil {
				if err := c.after(s, tx); err != nil {
					t.Fatal(err)
				}
			}
			s.commit(tx)
			target := outbox.Target(s.target)
			if c.target != nil {
				target = c.target(t, s)
			}
			relay := s.relay(target)
			s.run(relay)
			s.drained()
			if n := relay.Stats().Caches["names"].Replaced; n != 0 && name != "a tag beside" {
				t.Errorf("%d values were put in place", n)
			}
		})
	}
}

func clientOf(t *testing.T, rdb redis.UniversalClient) *invalidate.Client {
	t.Helper()
	c, err := invalidate.NewClient(rdb, "names")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Values of a page that are many together are read in parts.
func TestManyLargeValues(t *testing.T) {
	onAll(t, func(t *testing.T, kind string) {
		s := newShelf(t, kind)
		const n = 30
		old := map[int64]string{}
		for id := range int64(n) {
			old[id] = "old"
		}
		if err := s.writer.SetMany(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		tx := s.begin()
		for id := range int64(n) {
			if err := outbox.Set(t.Context(), s.box.In(tx), s.writer, id, itoa(id)+strings.Repeat("x", 900_000)); err != nil {
				t.Fatal(err)
			}
		}
		s.commit(tx)
		relay := s.relay(s.target)
		s.run(relay)
		await(t, "an empty outbox", func() bool { return s.backlog("names").Pending == 0 })
		await(t, "the counts", func() bool { return relay.Stats().Caches["names"].Replaced == n })
		for id := range int64(n) {
			if v, err := s.reader.Peek(t.Context(), id); !strings.HasPrefix(v, itoa(id)+"x") || err != nil {
				t.Errorf("%d: %d bytes, %v", id, len(v), err)
			}
		}
	})
}

func TestMistakesOfSetWriteNothing(t *testing.T) {
	s := newShelf(t, "SQLite")
	s.get(s.reader)
	ctx := t.Context()
	tx := s.begin()
	for what, err := range map[string]error{
		"a pool":       outbox.Set(ctx, s.box.In(s.db), s.writer, 1, "x"),
		"no cache":     outbox.Set(ctx, s.box.In(tx), (*cache.Cache[int64, string])(nil), 1, "x"),
		"an empty tag": outbox.Set(ctx, s.box.In(tx), s.writer, 1, "x", cache.Tags("")),
		"a nil option": outbox.Set(ctx, s.box.In(tx), s.writer, 1, "x", nil),
		"a nil tx":     outbox.Set(ctx, s.box.In((*sql.Tx)(nil)), s.writer, 1, "x"),
		"a short life": outbox.Set(ctx, s.box.In(tx), s.writer, 1, "x", cache.TTL(time.Nanosecond)),
	} {
		if !errors.Is(err, cache.ErrInvalidOption) {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.commit(tx)
	if n := s.backlog("names").Pending; n != 0 {
		t.Errorf("%d rows", n)
	}

	// A transaction does not depend on Redis.
	away := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	defer away.Close()
	c, err := cache.New[int64, string](away, "names", cache.WithLogger(discard))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tx = s.begin()
	s.update(tx, "second")
	if err := outbox.Set(ctx, s.box.In(tx), c, 1, "second"); err != nil {
		t.Fatal(err)
	}
	s.commit(tx)
	s.run(s.relay(s.target))
	s.drained()
}
