package memory_test

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/logonce/logoncetest"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// A Redis that refuses writes and answers reads is not unavailable, and what could not be
// told is not news at each request.
func TestAFullRedisDoesNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		log := logoncetest.New(t)
		w := &wire{Memory: storetest.NewMemory()}
		c := newCache(t, w, cache.Source[string, string]{}, cache.WithLogger(slog.New(log)), cache.WithStrategy(strategy.LRU(10), strategy.Jitter(0)))
		if err := c.Set(ctx, "k", "v"); err != nil {
			t.Fatal(err)
		}
		w.set(losing(storetest.ServerError("OOM command not allowed"), []string{"set"}), nil)
		for range 1000 {
			if err := c.Set(ctx, "other", "v"); !errors.Is(err, cache.ErrUnavailable) {
				t.Fatal(err)
			}
			if v, err := c.Get(ctx, "k", cache.SkipLocal()); v != "v" || err != nil {
				t.Fatal(v, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		w.heal()
		for range 10 {
			if err := c.Set(ctx, "other", "v"); err != nil {
				t.Error(err)
			}
		}
		if log.Count("refuses a kind") != 1 || log.Count("accepts again") != 1 || log.Count("unavailable") != 0 || log.Count("invalidations delivered") != 1 {
			t.Errorf("%v", log.Kinds())
		}
	})
}
