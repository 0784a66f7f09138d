package cache

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// onMemory makes a cache on a store that several caches may share, as processes
// share a Redis.
func onMemory[K comparable, V any](t *testing.T, st *storetest.Memory, src Source[K, V], opts ...Option) *Cache[K, V] {
	t.Helper()
	opts = append([]Option{WithLogger(slog.New(slog.DiscardHandler)), WithStrategy(strategy.LRU(100), strategy.Jitter(0))}, opts...)
	c, err := build("test", src, opts, func(*config) store.Store { return st })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestTheLeaseOfADeadProcessIsTakenOverInASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		dead := onMemory(t, store, Source[string, string]{})
		// What a process leaves behind that dies right after it took the lease.
		dead.acquire(t.Context(), &callOptions{}, []*inflightLoad[string, string]{{
			call: &flight.Call[string, beginning, result[string]]{Key: "k"}, loadKey: loadKey{rk: dead.RedisKey("k")},
		}})

		c := onMemory(t, store, Source[string, string]{})
		start := time.Now()
		v, err := c.GetOrLoad(t.Context(), "k", func(context.Context, string) (string, error) { return "v", nil })
		if v != "v" || err != nil {
			t.Fatal(v, err)
		}
		if d := time.Since(start); d > leaseLife+pollMost || d < leaseLife-pollMost {
			t.Errorf("it took %v", d)
		}
	})
}
