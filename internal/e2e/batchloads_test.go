package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/strategy"
)

// Goroutines of two processes that ask for one key each: every key is loaded once, by calls of
// many keys, and all get their values.
func TestBatchedLoadsOfTwoProcesses(t *testing.T) {
	redistest.Thorough(t)
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		const keys, most = 200, 50
		var mu sync.Mutex
		asked, calls := map[string]int{}, 0
		src := cache.Source[string, string]{LoadMany: func(_ context.Context, ks []string) (map[string]string, error) {
			mu.Lock()
			defer mu.Unlock()
			if calls++; len(ks) > most {
				t.Errorf("%d keys at once", len(ks))
			}
			m := map[string]string{}
			for _, k := range ks {
				asked[k]++
				if !strings.HasPrefix(k, "none") {
					m[k] = "of " + k
				}
			}
			return m, nil
		}}
		opts := cache.WithStrategy(strategy.BatchLoads(most, 500*time.Millisecond)) // most batches are full before
		nodes := []*cache.Cache[string, string]{on(t, b, "n", src, tiers, opts), on(t, b, "n", src, tiers, opts)}
		var all sync.WaitGroup
		for i := range keys {
			for _, c := range nodes {
				all.Go(func() {
					if k := fmt.Sprint("k", i); i%10 == 0 {
						k = fmt.Sprint("none", i)
						if _, err := c.Get(t.Context(), k); !errors.Is(err, cache.ErrNotFound) {
							t.Errorf("%s: %v", k, err)
						}
					} else if v, err := c.Get(t.Context(), k); v != "of "+k || err != nil {
						t.Errorf("%s: %q, %v", k, v, err)
					}
				})
			}
		}
		all.Wait()
		mu.Lock()
		defer mu.Unlock()
		for k, n := range asked {
			if n != 1 {
				t.Errorf("%s was loaded %d times", k, n)
			}
		}
		if len(asked) != keys || calls > keys/10 {
			t.Errorf("%d keys in %d calls", len(asked), calls)
		}
		var batches, batched uint64
		for _, c := range nodes {
			m := c.Metrics()
			batches, batched = batches+m.Batches, batched+m.Batched
		}
		if batches != uint64(calls) || batched != keys {
			t.Errorf("%d keys in %d batches are counted", batched, batches)
		}
	})
}

// Values that were not asked for are as coherent as all others in the local tier: a process that
// reads x while others change it never sees what is older than the published bound.
func TestUnaskedValuesAreCoherent(t *testing.T) {
	redistest.Thorough(t)
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		w := newWorld(t)
		src := cache.Source[string, int64]{LoadMany: func(ctx context.Context, keys []string) (map[string]int64, error) {
			m := map[string]int64{}
			for _, k := range append(keys, "x") {
				m[k], _ = w.load(ctx, k)
			}
			time.Sleep(time.Millisecond) // what was read gets older
			return m, nil
		}}
		opts := []cache.Option{withLocal, cache.WithStrategy(strategy.BatchLoads(10, time.Millisecond))}
		c, other := on(t, b, "n", src, opts...), on(t, b, "n", src, opts...)
		if err := other.Invalidate(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		end := time.Now().Add(time.Duration(redistest.Times(2000, 2000)) * time.Millisecond)
		var all sync.WaitGroup
		all.Go(func() {
			for time.Now().Before(end) {
				n := w.count("x")
				if err := other.Invalidate(t.Context(), "x"); err != nil {
					t.Error(err)
					return
				}
				w.note("x", n)
				time.Sleep(3 * time.Millisecond)
			}
		})
		for i := range 4 {
			all.Go(func() {
				for j := 0; time.Now().Before(end); j++ {
					if _, err := c.Get(t.Context(), fmt.Sprint("k", i, "-", j)); err != nil {
						t.Error(err)
						return
					}
					began := time.Now()
					n, err := c.Get(t.Context(), "x")
					w.check("the reader", "x", n, err, began)
				}
			})
		}
		all.Wait()
		awaits(t, "the last number", func() error {
			if n, err := c.Get(t.Context(), "x"); n != w.latest["x"] || err != nil {
				return fmt.Errorf("%d, %w", n, err)
			}
			return nil
		})
		if m := c.Metrics(); m.Unasked == 0 {
			t.Error("no value that was not asked for was stored")
		}
	})
}
