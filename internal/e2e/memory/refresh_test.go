package memory_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

func TestStaleWhileRevalidate(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleWhileRevalidate(20 * time.Second)}, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
		src.give("v")
		read(t, c, "v", false, nil)
		src.will(func(context.Context) (string, error) { time.Sleep(time.Second); return "new", nil })
		time.Sleep(10 * time.Second)
		for range 10 {
			read(t, c, "v", true, nil)
			time.Sleep(time.Second/10 - time.Nanosecond)
		}
		synctest.Wait()
		if n := src.calls.Load(); n != 2 {
			t.Errorf("%d loads", n)
		}
		time.Sleep(10 * time.Nanosecond)
		synctest.Wait()
		read(t, c, "new", false, nil)
		m := c.Metrics()
		if m.StaleHits != 10 || m.Refreshes != 1 || m.Misses() != 1 {
			t.Errorf("%d stale hits, %d refreshes, %d misses", m.StaleHits, m.Refreshes, m.Misses())
		}
		// A failing refresh is tried again after RetryAfter, and past the window there
		// is nothing to serve.
		src.fail(errFlaky)
		time.Sleep(10 * time.Second)
		before := src.calls.Load()
		for range 20 {
			read(t, c, "new", true, nil)
			synctest.Wait()
			time.Sleep(time.Second)
		}
		if n := src.calls.Load() - before; n != 4 {
			t.Errorf("%d refreshes in 20 s of failure", n)
		}
		if _, err := c.Get(t.Context(), "k"); !errors.Is(err, errFlaky) {
			t.Error(err)
		}
	})
}

func TestManyStaleHitsStartOneRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := new(source), storetest.NewMemory()
		s := cache.WithStrategy(strategy.TTL(10*time.Second), strategy.StaleWhileRevalidate(time.Hour))
		caches := []*cache.Cache[string, string]{onMemory(t, store, src.Source(), s), onMemory(t, store, src.Source(), s)}
		src.give("v")
		read(t, caches[0], "v", false, nil)
		src.will(func(ctx context.Context) (string, error) { return "new", wait(ctx, 5*time.Second) })
		time.Sleep(10 * time.Second)
		before := runtime.NumGoroutine()
		most := 0
		for i := range redistest.Times(10_000, 100_000) {
			if v, err := caches[i%2].Get(t.Context(), "k"); v != "v" || err != nil {
				t.Fatal(v, err)
			}
			if i%100 == 0 {
				most = max(most, runtime.NumGoroutine()-before)
			}
		}
		synctest.Wait()
		if n := src.calls.Load(); n != 2 {
			t.Errorf("%d loads over two processes", n)
		}
		if most > 20 {
			t.Errorf("%d goroutines for one refresh in each process", most)
		}
		// Many keys at once: bounded as well.
		for i := range 1000 {
			if err := caches[0].Set(t.Context(), fmt.Sprint(i), "v"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(11 * time.Second)
		before = runtime.NumGoroutine()
		for i := range 1000 {
			if _, err := caches[0].Get(t.Context(), fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		if n := runtime.NumGoroutine() - before; n > 10*hook.RefreshesAtOnce {
			t.Errorf("%d goroutines", n)
		}
	})
}

func TestRefreshAhead(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.RefreshAhead(0.8)}, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
		src.give("0")
		read(t, c, "0", false, nil)
		for i := 1; i < 5; i++ {
			src.give(fmt.Sprint(i))
			time.Sleep(8*time.Second - time.Millisecond)
			read(t, c, fmt.Sprint(i-1), false, nil)
			synctest.Wait()
			if n := src.calls.Load(); n != int32(i) {
				t.Errorf("refreshed too early: %d loads", n)
			}
			time.Sleep(time.Millisecond)
			read(t, c, fmt.Sprint(i-1), false, nil) // starts it
			synctest.Wait()
			read(t, c, fmt.Sprint(i), false, nil)
		}
		if m := c.Metrics(); m.Misses() != 1 || m.Refreshes != 4 {
			t.Errorf("%d misses, %d refreshes", m.Misses(), m.Refreshes)
		}
	})
}

func TestARefreshLosesAgainstWhatComesInBetween(t *testing.T) {
	for what, change := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"set": func(ctx context.Context, c *cache.Cache[string, string]) error {
			return c.Set(ctx, "k", "set", cache.Tags("t"))
		},
		"delete":     func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, "k") },
		"tag":        func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
		"clear":      func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
		"invalidate": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
		"pattern": func(ctx context.Context, c *cache.Cache[string, string]) error {
			_, err := c.InvalidatePattern(ctx, "*")
			return err
		},
	} {
		src := new(source)
		t.Run(what, func(t *testing.T) {
			tiers(t, src, []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleWhileRevalidate(time.Hour)}, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
				ctx := t.Context()
				writer := c
				if hook.Of(c).Remote() {
					writer = again()
				}
				if err := c.Set(ctx, "k", "old", cache.Tags("t")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(11 * time.Second)
				began, end := make(chan struct{}), make(chan struct{})
				src.will(func(ctx context.Context) (string, error) {
					cache.CurrentLoad[string](ctx).AddTags("t")
					close(began)
					<-end
					return "from before", nil
				})
				read(t, c, "old", true, nil)
				<-began
				if err := change(ctx, writer); err != nil {
					t.Fatal(err)
				}
				close(end)
				synctest.Wait()
				src.give("after")
				want := "after"
				if what == "set" {
					want = "set"
				}
				for name, c := range map[string]*cache.Cache[string, string]{"refresher": c, "writer": writer} {
					if v, err := c.Get(ctx, "k"); v != want || err != nil {
						t.Errorf("%s: %q, %v, want %q", name, v, err, want)
					}
				}
			})
		})
	}
}
