package outbox_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/outbox"
)

func TestRowsOfOneKeyAreMerged(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		users := &fake{name: "users"}
		for range 20 {
			b.keys("users", "1", "2")
		}
		relay := b.relay(users)
		b.run(relay)
		await(t, "an empty outbox", func() bool { return b.backlog("users").Pending == 0 })
		if got := users.took(); len(got) != 2 {
			t.Errorf("%q", got)
		}
		await(t, "the counts", func() bool { s := relay.Stats().Caches["users"]; return s.Applied == 40 && s.Merged == 38 })
	})
}

func TestAClearStandsForWhatIsBesideIt(t *testing.T) {
	b := newBench(t, "SQLite")
	users := &fake{name: "users"}
	orders := &fake{name: "orders"}
	b.in(func(tx *outbox.Tx) error {
		ctx := t.Context()
		return errors.Join(tx.InvalidateEncoded(ctx, users, "1"), tx.InvalidateTags(ctx, users, "t"), tx.Clear(ctx, users), tx.InvalidateEncoded(ctx, orders, "1"))
	})
	b.run(b.relay(users, orders))
	await(t, "an empty outbox", func() bool { return b.backlog("users").Pending+b.backlog("orders").Pending == 0 })
	if got := users.took(); !slices.Equal(got, []string{"clear"}) {
		t.Errorf("%q", got)
	}
	if got := orders.took(); !slices.Equal(got, []string{"key 1"}) {
		t.Errorf("%q", got)
	}
}

func TestPoisonBecomesADeadLetter(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		users := &fake{name: "users"}
		poison := errors.New("no such key\x00\xff " + strings.Repeat("é", 1000))
		refuse := func(call string) error {
			switch call {
			case "key panics":
				panic("as it says")
			case "key bad":
				return poison
			}
			return nil
		}
		users.failing(refuse)
		relay := b.relay(users)
		relay.MaxAttempts = 3
		b.keys("users", "bad", "good", "panics")
		b.keys("users", "bad")
		b.exec(strings.ReplaceAll("INSERT INTO cache_outbox (cache, kind, item, created) VALUES (X, 99, X, 0)", "X",
			map[string]string{"PostgreSQL": "'users'", "MariaDB": "'users'", "MySQL": "'users'", "SQLite": "CAST('users' AS BLOB)"}[b.data.Kind]))
		b.run(relay)
		await(t, "four dead letters", func() bool { return b.backlog("users") == outbox.Backlog{Dead: 4} })
		if !users.has("key good") {
			t.Error("the good row was not applied")
		}
		dead, err := b.box.DeadLetters(ctx, b.db, 0, 10)
		if err != nil || len(dead) != 4 {
			t.Fatalf("%+v, %v", dead, err)
		}
		for _, want := range []string{"bad", "panics", "users"} {
			found := slices.ContainsFunc(dead, func(r outbox.Row) bool { return r.Item == want })
			if !found {
				t.Errorf("%q is missing in %+v", want, dead)
			}
		}
		for _, r := range dead {
			if r.Cache != "users" || r.Attempts != 3 || r.Error == "" {
				t.Errorf("%+v", r)
			}
			if r.Item == "users" && r.Kind != "kind 99" || r.Item != "users" && (r.Kind != "key" || time.Since(r.Created).Abs() > time.Hour) {
				t.Errorf("%+v", r)
			}
		}
		if some, err := b.box.DeadLetters(ctx, b.db, dead[0].ID, 2); err != nil || len(some) != 2 || some[0].ID != dead[1].ID {
			t.Errorf("the next two: %+v, %v", some, err)
		}
		if got := relay.Stats().Caches["users"]; got.Dead != 4 || got.Refused != 12 || got.Unavailable {
			t.Errorf("%+v", got)
		}

		// What has been repaired is replayed, the rest discarded.
		users.failing(nil)
		var replay, discard []int64
		for _, r := range dead {
			if r.Item == "bad" {
				replay = append(replay, r.ID)
			} else {
				discard = append(discard, r.ID)
			}
		}
		if n, err := b.box.Replay(ctx, b.db, append(replay, 1<<40)...); n != 2 || err != nil {
			t.Errorf("Replay: %d, %v", n, err)
		}
		if n, err := b.box.Discard(ctx, b.db, discard...); n != 2 || err != nil {
			t.Errorf("Discard: %d, %v", n, err)
		}
		await(t, "an empty outbox", func() bool { return b.backlog("users") == outbox.Backlog{} })
		if !users.has("key bad") || users.has("key panics") {
			t.Errorf("%q", users.took())
		}
		b.keys("orders", "1") // of no relay
		if n, err := b.box.Discard(ctx, b.db, 1, 2, 3, 4, 5, 6, 7, 8, 9); n != 0 || err != nil {
			t.Errorf("Discard of a row that waits: %d, %v", n, err)
		}
	})
}

func TestRowsWaitForRedis(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		users, orders := &fake{name: "users"}, &fake{name: "orders"}
		users.failing(away)
		var log safeBuffer
		relay := b.relay(users, orders)
		relay.Batch, relay.MaxAttempts, relay.LagWarning = 3, 2, time.Millisecond
		relay.Logger = slog.New(slog.NewTextHandler(&log, nil))
		for i := range 30 {
			b.keys("users", fmt.Sprint("secret", i))
		}
		b.run(relay)
		await(t, "attempts", func() bool { return relay.Stats().Caches["users"].Postponed > 40 })
		b.keys("orders", "1")
		await(t, "the other cache", func() bool { return orders.has("key 1") })
		if got := b.backlog("users"); got.Pending != 30 || got.Dead != 0 {
			t.Errorf("%+v", got)
		}
		if s := relay.Stats().Caches["users"]; !s.Unavailable || s.Lag <= 0 || !s.Held || s.Applied != 0 {
			t.Errorf("%+v", s)
		}
		users.failing(nil)
		await(t, "all rows", func() bool { return b.backlog("users").Pending == 0 })
		await(t, "the end of the outage", func() bool {
			s := relay.Stats().Caches["users"]
			return !s.Unavailable && s.Lag == 0 && s.Applied == 30
		})
		await(t, "the last line", func() bool { return strings.Contains(log.String(), "caught up") })
		for _, line := range []string{"this relay invalidates a cache now", "can't be invalidated at present", "fallen behind", "can be invalidated again"} {
			if strings.Count(log.String(), line) == 0 {
				t.Errorf("no line %q:\n%s", line, log.String())
			}
		}
		if n := strings.Count(log.String(), "can't be invalidated at present"); n != 1 {
			t.Errorf("%d lines for one outage", n)
		}
		if strings.Contains(log.String(), "secret") {
			t.Errorf("keys are logged:\n%s", log.String())
		}
	})
}

// One node of a cluster is down: its keys, which fill many pages, do not hold up the others.
func TestKeysOfOneNodeDoNotHoldUpOthers(t *testing.T) {
	b := newBench(t, "SQLite")
	users := &fake{name: "users"}
	users.failing(func(call string) error {
		if strings.HasPrefix(call, "key down") {
			return away(call)
		}
		return nil
	})
	relay := b.relay(users)
	relay.Batch = 5
	for i := range 10 {
		b.keys("users", fmt.Sprint("down", i, "a"), fmt.Sprint("down", i, "b"), fmt.Sprint("down", i, "c"), fmt.Sprint("up", i))
	}
	b.run(relay)
	for i := range 10 {
		await(t, "keys beside", func() bool { return users.has(fmt.Sprint("key up", i)) })
	}
	b.keys("users", "new")
	await(t, "a new key behind 30 that wait", func() bool { return users.has("key new") })
	await(t, "the end of the rows that were invalidated", func() bool { return b.backlog("users").Pending == 30 })
	users.failing(nil)
	await(t, "all", func() bool { return b.backlog("users").Pending == 0 })
}

func TestOneRelayIsAtWorkAndAnotherTakesOver(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		one, two := &fake{name: "users"}, &fake{name: "users"}
		first, second := b.relay(one), b.relay(two)
		stop := b.run(first)
		await(t, "the lease", func() bool { return first.Stats().Caches["users"].Held })
		b.run(second)
		for i := range 20 {
			b.keys("users", fmt.Sprint(i))
		}
		await(t, "an empty outbox", func() bool { return b.backlog("users").Pending == 0 })
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		if first.Stats().Caches["users"].Held {
			t.Error("it holds a cache after its end")
		}
		b.keys("users", "later")
		await(t, "the other relay", func() bool { return two.has("key later") })
		if n := len(one.took()) + len(two.took()); n < 21 {
			t.Errorf("%d calls", n)
		}
	})
}

// A relay that ended without giving its lease back is followed when the lease expires. One whose
// lease does not expire is not.
func TestALeaseExpires(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		users, orders := &fake{name: "users"}, &fake{name: "orders"}
		now := map[string]string{
			"PostgreSQL": "(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000)::BIGINT",
			"MariaDB":    "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
			"MySQL":      "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
			"SQLite":     "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)",
		}[b.data.Kind]
		for name, micros := range map[string]string{"users": "200000", "orders": "3600000000"} {
			text := "'" + name + "'"
			if b.data.Kind == "SQLite" {
				text = "CAST(" + text + " AS BLOB)"
			}
			b.exec("INSERT INTO cache_outbox_lease (cache, holder, expires) VALUES (" + text + ", 'a relay that was killed', " + now + " + " + micros + ")")
		}
		b.keys("users", "1")
		b.keys("orders", "1")
		relay := b.relay(users, orders)
		b.run(relay)
		await(t, "the expired lease", func() bool { return users.has("key 1") })
		if s := relay.Stats().Caches["orders"]; s.Held || len(orders.took()) > 0 {
			t.Errorf("it took a lease of another relay: %+v", s)
		}
	})
}

// Both targets of a name must acknowledge: caches of two regions, say.
func TestTargetsOfOneName(t *testing.T) {
	b := newBench(t, "SQLite")
	here, there := &fake{name: "users"}, &fake{name: "users"}
	there.failing(away)
	relay := b.relay(here, there)
	b.keys("users", "1")
	b.run(relay)
	await(t, "attempts", func() bool { return relay.Stats().Caches["users"].Postponed > 2 })
	if !here.has("key 1") || b.backlog("users").Pending != 1 {
		t.Error("the row was removed, or the other target not asked")
	}
	there.failing(nil)
	await(t, "an empty outbox", func() bool { return b.backlog("users").Pending == 0 })
}

func TestAClosedTargetEndsTheRelay(t *testing.T) {
	b := newBench(t, "SQLite")
	users, err := cache.New[int, int](nil, "users", cache.LocalOnly())
	if err != nil {
		t.Fatal(err)
	}
	users.Close()
	b.keys("users", "1")
	if err := b.relay(users).Run(t.Context()); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
	other := &fake{name: "users"}
	b.run(b.relay(other))
	await(t, "another relay", func() bool { return other.has("key 1") })
}

func TestBadFieldsAreReportedTogether(t *testing.T) {
	b := newBench(t, "SQLite")
	var r outbox.Relay
	err := r.Run(t.Context())
	if !errors.Is(err, cache.ErrInvalidOption) || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("%v", err)
	}
	ok := func() *outbox.Relay { return b.relay(&fake{name: "users"}) }
	for what, spoil := range map[string]func(*outbox.Relay){
		"poll":     func(r *outbox.Relay) { r.Poll = -1 },
		"lease":    func(r *outbox.Relay) { r.Lease = time.Millisecond },
		"batch":    func(r *outbox.Relay) { r.Batch = 10_001 },
		"attempts": func(r *outbox.Relay) { r.MaxAttempts = -1 },
		"target":   func(r *outbox.Relay) { r.Targets = append(r.Targets, outbox.Client(nil)) },
		"listen":   func(r *outbox.Relay) { r.Listen = func(context.Context, string, func()) error { return nil } },
	} {
		r := ok()
		if spoil(r); !errors.Is(r.Run(t.Context()), cache.ErrInvalidOption) {
			t.Errorf("%s: it runs", what)
		}
	}
	running := ok()
	b.run(running)
	await(t, "the lease", func() bool { return running.Stats().Caches["users"].Held })
	if err := running.Run(t.Context()); !errors.Is(err, cache.ErrInvalidOption) {
		t.Errorf("a second Run: %v", err)
	}
}

// A program may start its relays before its migrations.
func TestARelayWaitsForItsTables(t *testing.T) {
	b := newBench(t, "SQLite")
	down := b.box.Migrations()[0].Down
	for _, s := range down {
		b.exec(s)
	}
	users := &fake{name: "users"}
	relay := b.relay(users)
	b.run(relay)
	await(t, "a failure", func() bool { return relay.Stats().DatabaseErrors > 2 })
	for _, s := range b.box.Migrations()[0].Up {
		b.exec(s)
	}
	b.keys("users", "1")
	await(t, "the key", func() bool { return users.has("key 1") })
}

func TestWakeShortensTheLag(t *testing.T) {
	b := newBench(t, "SQLite")
	users := &fake{name: "users"}
	relay := b.relay(users)
	relay.Poll, relay.Lease = time.Hour, 3*time.Hour
	b.run(relay)
	await(t, "the lease", func() bool { return relay.Stats().Caches["users"].Held })
	for i := range 5 {
		b.keys("users", fmt.Sprint(i))
		relay.Wake()
		await(t, "the key", func() bool { return users.has(fmt.Sprint("key ", i)) })
	}
}

// What exporters and the dashboard show: only the relay at work knows the gauges.
func TestOutboxesOfARelay(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		users, orders := &fake{name: "users"}, &fake{name: "orders"}
		users.failing(away)
		orders.failing(func(call string) error {
			if call == "key bad" {
				return errors.New("refused")
			}
			return nil
		})
		one, two := b.relay(users, orders), b.relay(users, orders)
		one.MaxAttempts = 1
		if got := one.Outboxes(); len(got) != 2 || got[0] != (metrics.Outbox{Cache: "orders"}) || got[1].Cache != "users" {
			t.Errorf("before Run: %+v", got)
		}
		stop := b.run(one)
		await(t, "the leases", func() bool { return one.Outboxes()[0].Held && one.Outboxes()[1].Held })
		b.run(two)
		b.keys("users", "1", "2", "3")
		b.keys("orders", "bad", "good")
		await(t, "the figures", func() bool {
			o := one.Outboxes()
			return o[0].DeadLetters == 1 && o[0].Backlog == 0 && o[0].Applied == 1 && o[0].Buried == 1 && o[0].Refused == 1 &&
				o[1].Backlog == 3 && o[1].Unavailable && o[1].Lag > 0 && o[1].Postponed > 0
		})
		for _, o := range two.Outboxes() {
			if o.Held || o.Lag != 0 || o.Backlog != 0 || o.DeadLetters != 0 || o.Unavailable {
				t.Errorf("a relay that stands by: %+v", o)
			}
		}
		lag := one.Outboxes()[1].Lag
		await(t, "a longer lag", func() bool { return one.Outboxes()[1].Lag > lag })
		_ = stop()
		for _, o := range one.Outboxes() {
			if o.Held || o.Lag != 0 || o.Backlog != 0 || o.DeadLetters != 0 || o.Unavailable {
				t.Errorf("a relay that has ended: %+v", o)
			}
		}
		await(t, "the other relay", func() bool { o := two.Outboxes(); return o[0].DeadLetters == 1 && o[1].Backlog == 3 && o[1].Lag > lag })
		users.failing(nil)
		await(t, "the end", func() bool {
			o := two.Outboxes()[1]
			return o.Backlog == 0 && o.Lag == 0 && o.Applied == 3 && o.Waited > 0
		})
	})
}

// failing is a database that does not answer while down is set.
type failing struct {
	outbox.Queryer
	down atomic.Bool
}

func (f *failing) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if f.down.Load() {
		return nil, errors.New("no answer")
	}
	return f.Queryer.ExecContext(ctx, query, args...)
}

func (f *failing) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if f.down.Load() {
		return nil, errors.New("no answer")
	}
	return f.Queryer.QueryContext(ctx, query, args...)
}

// While the database does not answer, the lag of what waits grows, and when the lease is over no
// relay is known to be at work.
func TestTheLagGrowsWhileTheDatabaseIsAway(t *testing.T) {
	b := newBench(t, "SQLite")
	users := &fake{name: "users"}
	users.failing(away)
	db := &failing{Queryer: b.db}
	relay := b.relay(users)
	relay.DB, relay.Lease = db, 2*time.Second
	b.run(relay)
	b.keys("users", "1")
	await(t, "a lag", func() bool { return relay.Stats().Caches["users"].Lag > 0 })
	db.down.Store(true)
	await(t, "failures", func() bool { return relay.Stats().DatabaseErrors > 1 })
	lag := relay.Stats().Caches["users"].Lag
	await(t, "a longer lag, or the end of the lease", func() bool {
		c := relay.Stats().Caches["users"]
		return c.Lag > lag || !c.Held
	})
	await(t, "the end of the lease", func() bool { return !relay.Stats().Caches["users"].Held })
	if c := relay.Stats().Caches["users"]; c.Lag != 0 || c.Backlog != 0 {
		t.Errorf("%+v", c)
	}
	db.down.Store(false)
	users.failing(nil)
	await(t, "the row", func() bool { return users.has("key 1") })
}

func TestStatsAreJSON(t *testing.T) {
	b := newBench(t, "SQLite")
	relay := b.relay(&fake{name: "users"})
	if s := relay.Stats(); s.Caches == nil {
		t.Error("a nil map before Run")
	}
	b.run(relay)
	await(t, "the lease", func() bool { return relay.Stats().Caches["users"].Held })
	text, err := json.Marshal(relay.Stats())
	if err != nil || !strings.Contains(string(text), `"users":{"Held":true`) {
		t.Errorf("%s, %v", text, err)
	}
}

// safeBuffer is a buffer for a log.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
