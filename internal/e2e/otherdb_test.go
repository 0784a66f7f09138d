package e2e_test

import (
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// Caches of one name in two databases of a server are two caches: neither hears the other,
// by writes, tags, patterns or Clear. Channels know no databases.
func TestACacheInAnotherDatabaseIsAnotherCache(t *testing.T) {
	redistest.Require(t)
	ctx, server := t.Context(), redistest.Start(t)
	client := func(database int) redis.UniversalClient {
		o := server.Options()
		o.DB = database
		rdb := redis.NewClient(o)
		t.Cleanup(func() { rdb.Close() })
		return rdb
	}
	node := func(database int) *cache.Cache[int, string] {
		c, err := cache.New[int, string](client(database), "n", discard, slowly, cache.WithStrategy(strategy.LRU(100)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	set := func(c *cache.Cache[int, string], k int, v string) {
		t.Helper()
		if err := c.Set(ctx, k, v); err != nil {
			t.Fatal(err)
		}
	}
	for _, databases := range [][2]int{{0, 1}, {1, 0}, {3, 13}} {
		other, mine, peer := node(databases[0]), node(databases[1]), node(databases[1])
		set(other, 1, "theirs")
		set(mine, 1, "mine")
		set(mine, 2, "mine too")
		mine.ResetMetrics()
		for i := range 20 {
			set(other, i, "theirs")
		}
		for _, err := range []error{other.InvalidateTags(ctx, "t"), other.Clear(ctx), other.Delete(ctx, 1)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := other.InvalidatePattern(ctx, "*"); err != nil {
			t.Fatal(err)
		}
		set(peer, 2, "of a peer") // heard after all that
		eventually(t, "the peer is heard", func() bool { return mine.Metrics().InvalidationsReceived > 0 })
		eventually(t, "a local hit", func() bool { // where heartbeats are late, Redis is asked
			if v, err := mine.Get(ctx, 1); v != "mine" || err != nil {
				t.Fatalf("databases %v: %q, %v", databases, v, err)
			}
			return mine.Metrics().LocalHits > 0
		})
		if m := mine.Metrics(); m.InvalidationsReceived != 1 || m.Flushes != 0 {
			t.Errorf("databases %v: %d invalidations received, %d flushes", databases, m.InvalidationsReceived, m.Flushes)
		}
		// One that only invalidates speaks to those of its own database.
		for i, database := range []int{databases[0], databases[1]} {
			c, err := invalidate.NewClient(client(database), mine.Name())
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Invalidate(ctx, "1"); err != nil {
				t.Fatal(err)
			}
			c.Close()
			if i == 0 {
				if v, err := mine.Get(ctx, 1); v != "mine" || err != nil {
					t.Errorf("databases %v: after an invalidation in the other one: %q, %v", databases, v, err)
				}
			}
		}
		eventually(t, "the client is heard", func() bool { _, err := mine.Peek(ctx, 1); return err != nil })
		for _, c := range []*cache.Cache[int, string]{other, mine, peer} {
			c.Close()
		}
	}
}
