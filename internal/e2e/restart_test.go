package e2e_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// live caches a and b, on a server of their own.
type pair struct {
	*world
	server *redistest.Server
	hand   *redis.Client
	a, b   *cache.Cache[string, int64]
}

func newPair(t *testing.T, transport string, opts ...redistest.Option) *pair {
	t.Helper()
	p := &pair{world: newWorld(t), server: redistest.Start(t, opts...)}
	p.hand = p.server.Client(t)
	tiers := transports[transport]
	p.a, p.b = p.node(p.server.Client(t), tiers...), p.node(p.server.Client(t), tiers...)
	return p
}

func (p *pair) others() map[string]*cache.Cache[string, int64] {
	return map[string]*cache.Cache[string, int64]{"the other": p.b}
}

// onTransports runs f for each way to hear, side by side.
func onTransports(t *testing.T, f func(t *testing.T, transport string)) {
	redistest.Require(t)
	sideBySide(t, names(transports), f)
}

// Connections that are killed again and again keep no reader from the truth.
func TestConnectionsAreKilled(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		ctx := t.Context()
		p := newPair(t, transport)
		stop := p.live(p.a, p.others(), nil)
		defer stop()
		kills := []struct {
			kind string
			n    int64
		}{{"pubsub", 0}, {"normal", 0}}
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
			for i := range kills {
				n, err := p.hand.ClientKillByFilter(ctx, "type", kills[i].kind, "skipme", "yes").Result()
				if err != nil {
					t.Fatal(err)
				}
				kills[i].n += n
			}
			pause(ctx, 50*time.Millisecond)
		}
		stop()
		p.settle(p.a, p.b)
		for _, k := range kills {
			if k.n == 0 && !(k.kind == "pubsub" && transport == "no local tier") {
				t.Errorf("no %s connection was killed", k.kind)
			}
		}
	})
}

// A server that is killed and comes back, with all it had or with nothing, under load.
func TestTheServerIsKilledAndComesBack(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		memories := map[string][]redistest.Option{"empty": nil, "AOF": {redistest.AOF()}}
		sideBySide(t, names(memories), func(t *testing.T, memory string) {
			p := newPair(t, transport, memories[memory]...)
			stop := p.live(p.a, p.others(), nil)
			defer stop()
			for range 2 {
				pause(t.Context(), 300*time.Millisecond)
				p.server.Kill()
				pause(t.Context(), 300*time.Millisecond)
				if err := p.server.Restart(); err != nil {
					t.Fatal(err)
				}
			}
			pause(t.Context(), 300*time.Millisecond)
			stop()
			p.settle(p.a, p.b)
		})
	})
}

// A server comes back with an old snapshot. A process that wrote or invalidated something less
// than ten seconds before sees nothing older, from the first read on; the others
// do when it has told them again.
func TestTheServerComesBackWithOldData(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		sideBySide(t, []string{"set", "invalidate", "tag", "clear"}, func(t *testing.T, key string) {
			ctx := t.Context()
			p := newPair(t, transport)
			for _, c := range []*cache.Cache[string, int64]{p.b, p.a} {
				if _, err := c.Get(ctx, key); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.hand.Save(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			// What was written at the same time can't be told from what came after.
			pause(ctx, 400*time.Millisecond)
			var n int64
			awaits(t, "the write", func() (err error) { n, err = p.write(ctx, p.a, key); return err })
			awaits(t, "the other to see it", func() error { return sees(p.b, key, n) })
			p.server.Kill()
			if err := p.server.Restart(); err != nil {
				t.Fatal(err)
			}
			back := time.Now()
			awaits(t, "Redis to be back", func() error {
				if err := sees(p.a, key, n); err != nil {
					t.Fatalf("who wrote it reads, %v after the restart: %v", time.Since(back), err)
				}
				return p.a.Set(ctx, "something else", 0)
			})
			if err := p.a.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			if err := sees(p.a, key, n); err != nil {
				t.Fatal(err)
			}
			awaits(t, "the other to see it again", func() error { return sees(p.b, key, n) })
		})
	})
}

func sees(c *cache.Cache[string, int64], key string, want int64) error {
	if got, err := c.Get(context.Background(), key); err != nil || got != want {
		return fmt.Errorf("%d, %v, and not %d", got, err, want)
	}
	return nil
}

// A snapshot that is older than what may be lost begins another epoch: nothing of it is
// served, by anybody.
func TestTheServerComesBackWithVeryOldData(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		ctx := t.Context()
		p := newPair(t, transport)
		const key = "invalidate"
		for _, c := range []*cache.Cache[string, int64]{p.b, p.a} {
			if _, err := c.Get(ctx, key); err != nil {
				t.Fatal(err)
			}
		}
		// As if the snapshot had been taken half a minute ago.
		raw, err := p.hand.Get(ctx, ":{c:n}:epoch").Result()
		if err != nil {
			t.Fatal(err)
		}
		var epoch, tick int64
		var rest string
		if _, err := fmt.Sscanf(raw, "e1 %d %d", &epoch, &tick); err != nil {
			t.Fatal(err)
		}
		rest = raw[len(fmt.Sprintf("e1 %d %d", epoch, tick)):]
		if err := p.hand.Set(ctx, ":{c:n}:epoch", fmt.Sprintf("e1 %d %d%s", epoch, tick-30e6, rest), 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := p.hand.Save(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		if err := p.hand.Set(ctx, ":{c:n}:epoch", raw, 0).Err(); err != nil {
			t.Fatal(err)
		}
		n := p.count(key) // in the source alone: no message tells of it again
		if err := p.hand.Del(ctx, p.a.RedisKey(key)).Err(); err != nil {
			t.Fatal(err)
		}
		p.server.Kill()
		if err := p.server.Restart(); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*cache.Cache[string, int64]{p.b, p.a} {
			awaits(t, "Redis to be back", func() error { return c.Set(ctx, "something else", 0) })
			if err := sees(c, key, n); err != nil {
				t.Error(err)
			}
		}
	})
}
