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
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// A load that fails after its key was written or invalidated has failed before that: its
// error is not remembered, whatever was done.
func TestAFailureEndsWithItsKey(t *testing.T) {
	ctx := context.Background()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	ways := map[string]func(c *cache.Cache[string, string]) error{
		"invalidate":       func(c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
		"delete":           func(c *cache.Cache[string, string]) error { return c.Delete(ctx, "k") },
		"pattern":          func(c *cache.Cache[string, string]) error { _, err := c.InvalidatePattern(ctx, "*"); return err },
		"tags":             func(c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
		"clear":            func(c *cache.Cache[string, string]) error { return c.Clear(ctx) },
		"set over already": func(c *cache.Cache[string, string]) error { return c.Set(ctx, "k", "", cache.TTL(-1)) },
		"ended invalidate": func(c *cache.Cache[string, string]) error { return ignore(c.Invalidate(ended, "k")) },
		"ended pattern": func(c *cache.Cache[string, string]) error {
			_, err := c.InvalidatePattern(ended, "*")
			return ignore(err)
		},
		"ended tags":  func(c *cache.Cache[string, string]) error { return ignore(c.InvalidateTags(ended, "t")) },
		"ended clear": func(c *cache.Cache[string, string]) error { return ignore(c.Clear(ended)) },
	}
	for name, change := range ways {
		for _, when := range []string{"while it loads", "when it has failed", "by another process"} {
			t.Run(name+" "+when, func(t *testing.T) {
				src := new(source)
				tiers(t, src, []strategy.Strategy{strategy.ErrorTTL(time.Minute)}, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
					by := c
					if when == "by another process" {
						if !hook.Of(c).Remote() {
							return
						}
						by = again()
						for _, one := range []*cache.Cache[string, string]{c, by} {
							_, _ = one.Peek(ctx, "other")
						}
						time.Sleep(5 * time.Second)
					}
					hold := make(chan struct{})
					src.will(func(context.Context) (string, error) { <-hold; return "", errFlaky })
					got := make(chan error, 1)
					go func() { _, err := c.Get(ctx, "k"); got <- err }()
					synctest.Wait()
					if when == "while it loads" {
						if err := change(by); err != nil {
							t.Fatal(err)
						}
					}
					close(hold)
					if err := <-got; !errors.Is(err, errFlaky) {
						t.Fatal(err)
					}
					if when != "while it loads" {
						if _, err := c.Get(ctx, "k"); !errors.Is(err, errFlaky) || src.calls.Load() != 1 {
							t.Fatalf("not remembered: %v, %d loads", err, src.calls.Load())
						}
						if err := change(by); err != nil {
							t.Fatal(err)
						}
						time.Sleep(3 * time.Second)
					}
					src.give("v")
					synctest.Wait()
					if err := by.Sync(ctx); err != nil {
						t.Fatal(err)
					}
					read(t, c, "v", false, nil)
				})
			})
		}
	}
}

func ignore(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("the context has ended, and the error is %w", err)
}

// What is remembered of a stale value goes with that value.
func TestARefreshIsNotHeldBackForAnotherValue(t *testing.T) {
	src := new(source)
	s := []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleIfError(time.Hour), strategy.RetryAfter(time.Hour)}
	tiers(t, src, s, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
		src.give("v")
		read(t, c, "v", false, nil)
		src.fail(errFlaky)
		time.Sleep(time.Minute)
		read(t, c, "v", true, errFlaky)
		src.give("new")
		time.Sleep(time.Minute)
		read(t, c, "v", true, errFlaky) // RetryAfter
		by := c
		if hook.Of(c).Remote() {
			by = again()
		}
		if err := by.Set(t.Context(), "k", "w", cache.TTL(time.Second)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		read(t, c, "new", false, nil)
	})
}

func TestRefreshReachesOthersAlsoWhereRedisHasEvicted(t *testing.T) {
	for _, outcome := range []string{"a value", "an absence", "not stored"} {
		for _, evicted := range []bool{false, true} {
			t.Run(fmt.Sprint(outcome, ", evicted ", evicted), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, st, changed := t.Context(), storetest.NewMemory(), false
					src := cache.SourceFunc(func(ctx context.Context, _ string) (string, error) {
						switch {
						case !changed:
							return "old", nil
						case outcome == "an absence":
							return "", cache.ErrNotFound
						}
						return "new", nil
					})
					a, b := onMemory(t, st, src, cache.WithStrategy(strategy.TTL(time.Hour))), onMemory(t, st, src, cache.WithStrategy(strategy.TTL(time.Hour)))
					for _, c := range []*cache.Cache[string, string]{a, b} {
						_, _ = c.Peek(ctx, "k")
					}
					time.Sleep(5 * time.Second)
					for _, c := range []*cache.Cache[string, string]{a, b} {
						if v, err := c.Get(ctx, "k"); v != "old" || err != nil {
							t.Fatal(v, err)
						}
					}
					time.Sleep(time.Second)
					if evicted {
						st.Do(ctx, []store.Command{{Op: store.Delete, Key: a.RedisKey("k")}})
					}
					changed = true
					var err error
					if outcome == "not stored" {
						_, err = a.GetOrLoad(ctx, "k", src.Load, cache.MaxAge(0), cache.TTL(0))
					} else {
						err = a.Refresh(ctx, "k")
					}
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					for i, c := range []*cache.Cache[string, string]{a, b} {
						if v, err := c.Get(ctx, "k"); v == "old" {
							t.Errorf("process %d: %q, %v", i, v, err)
						}
					}
				})
			})
		}
	}
}

// A failure that is over, or of another key, does not keep reads from being loaded at once.
func TestOneFailureDoesNotEndThePrediction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := t.Context(), &ops{Memory: storetest.NewMemory()}
		c := newCache(t, st, cache.SourceFunc(func(_ context.Context, k int) (int, error) {
			if k < 0 {
				return 0, errFlaky
			}
			return k, nil
		}), cache.WithStrategy(strategy.ErrorTTL(time.Minute)))
		c.Get(ctx, -1)
		for i := range 50 {
			c.Get(ctx, i)
		}
		st.take()
		c.Get(ctx, 1000)
		if did := st.take(); did != "[set_nx compare_and_set]" {
			t.Errorf("a miss while another key's failure is remembered: %s", did)
		}
		time.Sleep(2 * time.Minute)
		if !hook.Of(c).NoFailures() {
			t.Error("a failure is remembered that is over")
		}
	})
}
