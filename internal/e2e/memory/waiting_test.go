package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// What a function of the program asks of the cache that has called it, for its own key, is
// refused at once.
func TestALoaderThatWaitsForItselfIsRefused(t *testing.T) {
	type cacheOf = cache.Cache[string, int]
	for name, ask := range map[string]func(ctx context.Context, c *cacheOf, k string) error{
		"Get": func(ctx context.Context, c *cacheOf, k string) error { _, err := c.Get(ctx, k); return err },
		"Get of what is new": func(ctx context.Context, c *cacheOf, k string) error {
			_, err := c.Get(ctx, k, cache.MaxAge(0))
			return err
		},
		"GetMany": func(ctx context.Context, c *cacheOf, k string) error {
			m, err := c.GetMany(ctx, []string{"other", k})
			if len(m) != 1 {
				return fmt.Errorf("%v, %w", m, err)
			}
			var batch *cache.BatchError[string]
			errors.As(err, &batch)
			return batch.For(k)
		},
		"GetOrLoad": func(ctx context.Context, c *cacheOf, k string) error {
			_, err := c.GetOrLoad(ctx, k, func(context.Context, string) (int, error) { return 1, nil })
			return err
		},
		"Refresh": func(ctx context.Context, c *cacheOf, k string) error { return c.Refresh(ctx, k) },
		"Update": func(ctx context.Context, c *cacheOf, k string) error {
			_, err := c.Update(ctx, k, func(int, bool) (int, error) { return 1, nil })
			return err
		},
		"through another key": func(ctx context.Context, c *cacheOf, k string) error {
			_, err := c.GetOrLoad(ctx, "between", func(ctx context.Context, _ string) (int, error) { return c.Get(ctx, k) })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cacheOf) {
				for _, kind := range []string{"Load", "LoadMany", "Update"} {
					start := time.Now()
					var c *cacheOf
					load := func(ctx context.Context, k string) (int, error) {
						if k == "other" {
							return 1, nil
						}
						return 0, ask(ctx, c, k)
					}
					src := cache.Source[string, int]{Load: load}
					if kind == "LoadMany" {
						src.LoadMany = func(ctx context.Context, keys []string) (map[string]int, error) {
							if v, err := load(ctx, keys[0]); err != nil || keys[0] != "other" {
								return nil, err
							} else {
								return map[string]int{keys[0]: v}, nil
							}
						}
					}
					c = build(src)
					var err error
					switch kind {
					case "Load":
						_, err = c.Get(t.Context(), "k")
					case "LoadMany":
						_, err = c.GetMany(t.Context(), []string{"k", "l"})
					case "Update":
						_, err = c.Update(t.Context(), "k", func(int, bool) (int, error) { return 1, nil })
					}
					if !errors.Is(err, hook.ErrWaitsForItself) || time.Since(start) > time.Second {
						t.Errorf("%s: %v after %v", kind, err, time.Since(start))
					}
					// It is the call that is refused, not the key.
					if err := c.Set(t.Context(), "k", 1); err != nil {
						t.Error(err)
					}
					c.Clear(t.Context())
				}
			})
		})
	}
}

func TestAStoreThatWaitsForItselfIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var c *cache.Cache[string, string]
		var got error
		c = onMemory(t, storetest.NewMemory(), cache.Source[string, string]{
			Load:  func(context.Context, string) (string, error) { return "of the source", nil },
			Store: func(ctx context.Context, k, _ string) error { _, got = c.Get(ctx, k); return nil },
		})
		start := time.Now()
		if err := c.Set(ctx, "k", "v"); err != nil || !errors.Is(got, hook.ErrWaitsForItself) || time.Since(start) > time.Second {
			t.Errorf("%v, and the store got %v, after %v", err, got, time.Since(start))
		}
	})
}

// What a load has left running is not within it any more.
func TestAfterALoadItsContextMayWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept context.Context
		c := onMemory(t, storetest.NewMemory(), cache.SourceFunc(func(ctx context.Context, _ string) (string, error) {
			kept = context.WithoutCancel(ctx)
			return "v", nil
		}))
		for range 2 {
			c.Get(t.Context(), "k")
			if v, err := c.Get(kept, "k", cache.MaxAge(0)); v != "v" || err != nil {
				t.Error(v, err)
			}
		}
	})
}

// The function of an Update may read its own key: it gets what it was given, a copy of it. The
// context of the read can't tell that it is called from there.
func TestTheFunctionOfAnUpdateMayReadItsKey(t *testing.T) {
	for _, have := range []bool{true, false} {
		anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
			for _, s := range [][]strategy.Strategy{nil, {strategy.TTL(time.Second), strategy.StaleIfError(time.Hour)}} {
				ctx := t.Context()
				loads := 0
				c := build(cache.Source[string, int]{Load: func(context.Context, string) (int, error) {
					if loads++; !have {
						return 0, cache.ErrNotFound
					}
					return loads, nil
				}}, s...)
				if s != nil && have { // a stale value is there
					_, _ = c.Get(ctx, "k")
					time.Sleep(2 * time.Second)
				}
				before, runs, start := loads, 0, time.Now()
				v, err := c.Update(ctx, "k", func(old int, ok bool) (int, error) {
					runs++
					if v, err := c.Get(ctx, "k"); v != old || ok != (err == nil) || !have && !errors.Is(err, cache.ErrNotFound) {
						t.Errorf("it reads %d, %v, and was given %d, %v", v, err, old, ok)
					}
					return old + 10, nil
				})
				if want := before + 11; err != nil || have && v != want || loads != before+1 || runs != 1 || time.Since(start) > time.Second {
					t.Errorf("%d, %v after %v, %d loads, %d calls", v, err, time.Since(start), loads-before, runs)
				}
				if v2, err := c.Get(ctx, "k"); v2 != v || err != nil {
					t.Errorf("%d, %v", v2, err)
				}
				_ = c.Delete(ctx, "k")
			}
		})
	}
}
