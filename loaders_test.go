package cache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// anyTiers runs f in a bubble for caches of one store: with Redis alone, with two tiers, and
// with the local one alone. A store of the test's own replaces the usual one.
func anyTiers(t *testing.T, f func(t *testing.T, build func(src Source[string, int], s ...strategy.Strategy) *Cache[string, int])) {
	for _, kind := range []string{"redis", "two tiers", "local only"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := storetest.NewMemory()
				f(t, func(src Source[string, int], s ...strategy.Strategy) *Cache[string, int] {
					opts := []Option{quietLog, WithStrategy(strategy.Jitter(0))}
					var use store.Store = st
					switch kind {
					case "two tiers":
						opts = append(opts, WithStrategy(strategy.LRU(1000)))
					case "local only":
						opts, use = append(opts, LocalOnly()), nil
					}
					c, err := build("test", src, append(opts, WithStrategy(s...)), func(*config) store.Store { return use })
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { c.Close() })
					return c
				})
			})
		})
	}
}

// What a loader, a store or the function of an Update returns comes back as it is, though
// it be an error that the cache knows.
func TestErrorsOfTheProgramAreUnchanged(t *testing.T) {
	errs := map[string]error{
		"a miss": ErrMiss, "closed": ErrClosed, "unavailable": ErrUnavailable, "overload": ErrOverload, "too large": ErrTooLarge,
		"of another cache":          &opError{cache: "orders", op: "get", err: &unavailableError{errors.New("down")}},
		"of another cache, wrapped": fmt.Errorf("orders: %w", &unavailableError{errors.New("down")}),
		"a miss of another cache":   &opError{cache: "orders", op: "get", err: &missError{&unavailableError{errors.New("down")}}},
	}
	for name, want := range errs {
		t.Run(name, func(t *testing.T) {
			anyTiers(t, func(t *testing.T, build func(Source[string, int], ...strategy.Strategy) *Cache[string, int]) {
				ctx := t.Context()
				load := func(context.Context, string) (int, error) { return 0, want }
				c := build(Source[string, int]{Load: load, Store: func(context.Context, string, int) error { return want }})
				if _, err := c.Get(ctx, "k"); err != want {
					t.Errorf("Get: %v", err)
				}
				if _, err := c.GetOrLoad(ctx, "k", load); err != want {
					t.Errorf("GetOrLoad: %v", err)
				}
				m, err := c.GetMany(ctx, []string{"a", "b"})
				var batch *BatchError[string]
				if !errors.As(err, &batch) || batch.For("a") != want || batch.For("b") != want || len(m) != 0 {
					t.Errorf("GetMany: %v, %v", m, err)
				}
				if err := c.Refresh(ctx, "k"); err != want {
					t.Errorf("Refresh: %v", err)
				}
				if err := c.Set(ctx, "k", 1); err != want {
					t.Errorf("Set: %v", err)
				}
				if _, err := build(Source[string, int]{}).Update(ctx, "k", func(int, bool) (int, error) { return 0, want }); err != want {
					t.Errorf("Update: %v", err)
				}
				// Remembered, and what a stale value covers.
				c = build(Source[string, int]{Load: load}, strategy.ErrorTTL(time.Hour))
				for range 2 {
					if _, err := c.Get(ctx, "m"); err != want {
						t.Errorf("Get, remembered: %v", err)
					}
				}
				c = build(Source[string, int]{Load: load}, strategy.TTL(time.Second), strategy.StaleIfError(time.Hour))
				if err := c.Set(ctx, "s", 1); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				var info Info
				if v, err := c.Get(ctx, "s", Report(&info)); v != 1 || err != nil || info.LoadErr != want {
					t.Errorf("over a stale value: %d, %v, %v", v, err, info.LoadErr)
				}
			})
		})
	}
}
