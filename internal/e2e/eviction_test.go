package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
)

// A Redis that is much too small evicts all the time, what is read often last. Values are
// right, writes are seen, and what is read often is still found.
func TestAStormOfEvictions(t *testing.T) {
	const (
		goroutines = 8
		hot, cold  = 20, 20_000
		enough     = 2000 // hits, and evictions
	)
	s := redistest.Start(t, redistest.MaxMemory("4mb", "allkeys-lru"))
	hand := s.Client(t)
	padding := strings.Repeat("x", 1000)
	src := cache.SourceFunc(func(_ context.Context, key string) (string, error) { return key + padding, nil })
	c, err := cache.NewFrom(s.Client(t), "n", src, discard, slowly, twoLong)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	get := func(key string, opts ...cache.ReadOption) {
		if v, err := c.Get(context.Background(), key, opts...); err != nil || v != key+padding {
			t.Errorf("%s: %d bytes, %.10q, %v", key, len(v), v, err)
		}
	}
	for g := range goroutines {
		rnd := rand.New(rand.NewPCG(uint64(g), 4))
		all.Go(func() {
			for i := 0; ctx.Err() == nil && !t.Failed(); i++ {
				get(fmt.Sprint("cold ", rnd.IntN(cold)))
				get(fmt.Sprint("hot ", rnd.IntN(hot)), cache.SkipLocal())
				if i%20 == 0 { // who writes sees it, evicted or not
					key := fmt.Sprint("own ", g)
					if err := c.Set(context.Background(), key, fmt.Sprint(i)); err != nil {
						t.Errorf("Set: %v", err)
					}
					if v, err := c.GetOrLoad(context.Background(), key, func(context.Context, string) (string, error) { return fmt.Sprint(i), nil }); v != fmt.Sprint(i) || err != nil {
						t.Errorf("%s is %q, %v after it was set to %d", key, v, err, i)
					}
				}
			}
		})
	}
	evicted := func() (n int) {
		text, err := hand.Info(t.Context(), "stats").Result()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(text, "evicted_keys:")
		if _, err := fmt.Sscan(rest, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	awaits(t, "evictions", func() error {
		if n := evicted(); n < enough {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	before := c.Metrics().RemoteHits
	awaits(t, "hits", func() error {
		if n := c.Metrics().RemoteHits - before; n < enough {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}
