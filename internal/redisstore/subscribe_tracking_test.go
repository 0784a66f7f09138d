package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

// changed waits until everything that was done before has been told, and returns the
// keys that were told since the last call, each once.
func (h *hearing) changed(t *testing.T) (keys []string, flushed bool) {
	t.Helper()
	h.mu.Lock()
	from := h.next
	h.mu.Unlock()
	h.aliveSince(t, time.Now())
	for _, ev := range h.all()[from:h.next] {
		switch ev.kind {
		case "changed":
			keys = append(keys, ev.text)
		case "any":
			flushed = true
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), flushed
}

// changes are what may be done to key, or to others that begin like it.
var changes = []struct {
	name    string
	prepare func(ctx context.Context, c redis.UniversalClient, key string) error
	change  func(ctx context.Context, c redis.UniversalClient, key string) error
	told    bool
}{
	{"set", nil, set, true},
	{"set the same", set, set, true},
	{"del", set, func(ctx context.Context, c redis.UniversalClient, key string) error { return c.Del(ctx, key).Err() }, true},
	{"unlink", set, func(ctx context.Context, c redis.UniversalClient, key string) error { return c.Unlink(ctx, key).Err() }, true},
	{"expire", set, func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.Expire(ctx, key, time.Hour).Err()
	}, true},
	{"persist", setWithEnd, func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.Persist(ctx, key).Err()
	}, true},
	{"getex", set, func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.GetEx(ctx, key, time.Hour).Err()
	}, true},
	{"another type", nil, func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.RPush(ctx, key, "x").Err()
	}, true},
	{"lua", nil, func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.Eval(ctx, "return redis.call('set', KEYS[1], 'v')", []string{key}).Err()
	}, true},
	{"multi", nil, func(ctx context.Context, c redis.UniversalClient, key string) error {
		return firstError(c.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, key, "v", 0).Err() }))
	}, true},
	{"rename", func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.Set(ctx, "elsewhere:"+key, "v", 0).Err()
	}, func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.Rename(ctx, "elsewhere:"+key, key).Err()
	}, true},
	{"rename away", set, func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.Rename(ctx, key, "elsewhere:"+key).Err()
	}, true},
	{"get", set, func(ctx context.Context, c redis.UniversalClient, key string) error { return c.Get(ctx, key).Err() }, false},
	{"set nx in vain", set, func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.SetNX(ctx, key, "w", 0).Err()
	}, false},
	{"del of nothing", nil, func(ctx context.Context, c redis.UniversalClient, key string) error { return c.Del(ctx, key).Err() }, false},
}

func set(ctx context.Context, c redis.UniversalClient, key string) error {
	return c.Set(ctx, key, "v", 0).Err()
}

func setWithEnd(ctx context.Context, c redis.UniversalClient, key string) error {
	return c.Set(ctx, key, "v", time.Hour).Err()
}

func TestEveryChangeIsToldBeforeTheNextPulse(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		if b.Mini != nil {
			return
		}
		ctx := t.Context()
		prefix := b.Prefix + "p:"
		h := listen(t, newReal(t, b.Client), tracking(steady(b.Prefix+"news"), prefix))
		others := b.NewClient(t)
		for _, c := range changes {
			var keys []string
			for i := range 20 { // on all nodes, and with all bytes
				keys = append(keys, fmt.Sprintf("%s{%s:%d}\x00\r\n\xff'\"", prefix, c.name, i))
			}
			slices.Sort(keys)
			for _, key := range keys {
				if c.prepare != nil {
					if err := c.prepare(ctx, others, key); err != nil {
						t.Fatal(c.name, err)
					}
				}
			}
			h.changed(t)
			for _, key := range keys {
				if err := c.change(ctx, others, key); err != nil {
					t.Fatal(c.name, err)
				}
				if err := set(ctx, others, b.Prefix+"another:"+key); err != nil {
					t.Fatal(err)
				}
			}
			want := keys
			if !c.told {
				want = nil
			}
			if got, flushed := h.changed(t); !slices.Equal(got, want) || flushed {
				t.Errorf("%s: notified of %q, flush %v", c.name, got, flushed)
			}
		}
		h.checkOrder(t)
	})
}

func TestTheEndOfALifetimeIsTold(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		if b.Mini != nil {
			return
		}
		h := listen(t, newReal(t, b.Client), tracking(steady(b.Prefix+"news"), b.Prefix))
		for i := range 9 {
			key := b.Prefix + fmt.Sprint(i)
			if err := b.Client.Set(t.Context(), key, "v", time.Millisecond).Err(); err != nil {
				t.Fatal(err)
			}
			h.expectText(t, "changed", key) // the SET
			h.expectText(t, "changed", key) // its end, when Redis comes to it
		}
	})
}

func TestEvictionIsTold(t *testing.T) {
	server := redistest.Start(t, redistest.MaxMemory("4mb", "allkeys-random"))
	c := server.Client(t)
	h := listen(t, newReal(t, c), tracking(steady("news"), "k"))
	ctx := t.Context()
	value := string(make([]byte, 10_000))
	written := 0
	for evicted := ""; evicted == ""; {
		for range 100 {
			if err := c.Set(ctx, fmt.Sprint("k", written), value, 0).Err(); err != nil {
				t.Fatal(err)
			}
			written++
		}
		h.changed(t)
		for i := range written {
			if n, err := c.Exists(ctx, fmt.Sprint("k", i)).Result(); err != nil {
				t.Fatal(err)
			} else if n == 0 {
				evicted = fmt.Sprint("k", i)
			}
		}
		if evicted == "" {
			continue
		}
		told := 0
		for _, ev := range h.all("changed") {
			if ev.text == evicted {
				told++
			}
		}
		if told != 2 {
			t.Errorf("%s was set and evicted, and told %d times", evicted, told)
		}
	}
}

func TestAFlushIsToldAsAny(t *testing.T) {
	eachOwn(t, func(t *testing.T, c redis.UniversalClient) {
		if !canTrack(t) {
			return
		}
		h := listen(t, newReal(t, c), tracking(steady("news"), "k"))
		for _, flush := range []func(context.Context, *redis.Client) error{
			func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() },
			func(ctx context.Context, c *redis.Client) error { return c.FlushDB(ctx).Err() },
			func(ctx context.Context, c *redis.Client) error { return c.FlushAllAsync(ctx).Err() },
		} {
			if err := onMasters(t.Context(), c, flush); err != nil {
				t.Fatal(err)
			}
			if keys, flushed := h.changed(t); !flushed || len(keys) > 0 {
				t.Errorf("notified of %q, flush %v", keys, flushed)
			}
		}
	})
}

func TestMemoryTellsOfChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := storetest.NewMemory()
		h := listen(t, m, tracking(steady("news"), "k"))
		h.changed(t)
		for _, key := range []string{"k", "k1", "other", ""} {
			do(t, m, store.Command{Op: store.Set, Key: key, Frame: frame("a")})
		}
		do(t, m, store.Command{Op: store.Get, Key: "k2"})
		if keys, flushed := h.changed(t); !slices.Equal(keys, []string{"k", "k1"}) || flushed {
			t.Errorf("notified of %q, flush %v", keys, flushed)
		}
		all := listen(t, m, tracking(steady("news"), ""))
		do(t, m, store.Command{Op: store.Delete, Key: ""})
		m.PutOther("x")
		if keys, flushed := all.changed(t); !slices.Equal(keys, []string{"", "x"}) || flushed {
			t.Errorf("notified of %q, flush %v", keys, flushed)
		}
		m.ChangeAll()
		if keys, flushed := all.changed(t); len(keys) > 0 || !flushed {
			t.Errorf("notified of %q, flush %v", keys, flushed)
		}
	})
}

func TestWhoCannotTrackIsTold(t *testing.T) {
	refused := func(t *testing.T, c redis.UniversalClient) {
		t.Helper()
		s := newReal(t, c)
		h := start(t, s, tracking(steady("app:events"), "app:"))
		if err := h.end(t); !errors.Is(err, store.ErrNoTracking) || len(h.all("armed")) > 0 {
			t.Error(err)
		}
		listen(t, s, steady("app:events")).expectKind(t, "alive")
	}
	t.Run("miniredis", func(t *testing.T) {
		redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
			if b.Mini != nil {
				refused(t, b.Client)
			}
		})
	})
	server := redistest.Start(t, redistest.ACL(
		"tracker on >p ~app:* &app:* -@all +@read +@write +@pubsub +client|tracking",
		"blind on >p ~app:* &app:* -@all +@read +@write +@connection +@pubsub -client|tracking",
	))
	as := func(user string) redis.UniversalClient {
		o := server.Options()
		o.Username, o.Password = user, "p"
		c := redis.NewClient(o)
		t.Cleanup(func() { c.Close() })
		return c
	}
	t.Run("blind", func(t *testing.T) { refused(t, as("blind")) })
	t.Run("old protocol", func(t *testing.T) {
		refused(t, redistest.Start(t, redistest.Args("--rename-command", "HELLO", "")).Client(t))
	})
	t.Run("tracker", func(t *testing.T) {
		c := as("tracker")
		h := listen(t, newReal(t, c), tracking(steady("app:events"), "app:"))
		if err := set(t.Context(), c, "app:k"); err != nil {
			t.Fatal(err)
		}
		h.expectText(t, "changed", "app:k")
	})
}

// Credentials, TLS, the database and the protocol are those of the client.
func TestTrackingConnectsAsTheClientDoes(t *testing.T) {
	server := redistest.Start(t, redistest.Password("s3cret"), redistest.TLS())
	for _, protocol := range []int{2, 3} {
		o := server.Options()
		o.DB, o.Protocol, o.ClientName = 3, protocol, "somebody"
		var greeted atomic.Int32 // by goroutines of its pool, too
		o.OnConnect = func(context.Context, *redis.Conn) error { greeted.Add(1); return nil }
		o.PoolSize, o.MinIdleConns = 1, 1
		c := redis.NewClient(o)
		t.Cleanup(func() { c.Close() })
		h := listen(t, newReal(t, c), tracking(steady("news"), "k"))
		if err := set(t.Context(), c, "k"); err != nil {
			t.Fatal(err)
		}
		h.expectText(t, "changed", "k")
		h.stop()
		h.end(t)
		if greeted.Load() == 0 {
			t.Error("its OnConnect was not called")
		}
	}
}
