package memory_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// A load under way that began after an entry was given an end is what its readers need once
// that end has come: of a remembered absence, or of what invalidate.Delayed has invalidated
// by key, pattern, tag or as one of all. They wait for the load, in this process and in another, and
// nothing else is loaded.
func TestWhatEndsDuringItsRefreshIsLoadedOnce(t *testing.T) {
	const life, delay, slow = 10 * time.Second, 2 * time.Second, 8 * time.Second
	type cacheOf = *cache.Cache[string, int]
	ends := map[string]func(context.Context, cacheOf) error{
		"absence": nil,
		"by key":  func(ctx context.Context, c cacheOf) error { return c.Invalidate(ctx, "k") },
		"by pattern": func(ctx context.Context, c cacheOf) error {
			_, err := c.InvalidatePattern(ctx, "*")
			return err
		},
		"by tag": func(ctx context.Context, c cacheOf) error { return c.InvalidateTags(ctx, "t") },
		"by all": func(ctx context.Context, c cacheOf) error { return c.Clear(ctx) },
	}
	begins := map[string]func(context.Context, cacheOf) error{
		"Refresh": func(ctx context.Context, c cacheOf) error { return c.Refresh(ctx, "k") },
		"MaxAge(0)": func(ctx context.Context, c cacheOf) error {
			_, err := c.Get(ctx, "k", cache.MaxAge(0))
			return err
		},
		"MaxAge": func(ctx context.Context, c cacheOf) error {
			_, err := c.GetMany(ctx, []string{"k", "k"}, cache.MaxAge(time.Second))
			return err
		},
		"ahead": func(ctx context.Context, c cacheOf) error {
			_, err := c.Get(ctx, "k")
			return err
		},
	}
	needs := map[string]func(context.Context, cacheOf) (int, error){
		"Get": func(ctx context.Context, c cacheOf) (int, error) { return c.Get(ctx, "k") },
		"Update": func(ctx context.Context, c cacheOf) (v int, err error) {
			return c.Update(ctx, "k", func(old int, _ bool) (int, error) { return old, nil })
		},
	}
	policies := map[string][]strategy.Strategy{
		"plain":    {strategy.RefreshAhead(0.5)},
		"covering": {strategy.RefreshAhead(0.5), strategy.StaleIfError(time.Minute)},
		"idle":     {strategy.RefreshAhead(0.5), strategy.Sliding(life - time.Second)},
	}
	world := func(t *testing.T, tiers, end, begin, need, policy string) {
		ctx := t.Context()
		st := storetest.NewMemory()
		var loads atomic.Int32
		src := cache.Source[string, int]{Load: func(context.Context, string) (int, error) {
			n := loads.Add(1)
			if n > 1 {
				time.Sleep(slow)
			} else if end == "absence" {
				return 0, cache.ErrNotFound
			}
			return int(n), nil
		}, Tags: func(string, int) []string { return []string{"t"} }}
		var all []cacheOf
		open := func() {
			all = append(all, ofKind(t, tiers, st, src, cache.WithInvalidator(invalidate.Delayed(delay)), cache.WithStrategy(policies[policy]...),
				cache.WithStrategy(strategy.Jitter(0), strategy.TTL(life), strategy.NotFoundTTL(life))))
		}
		if open(); tiers != "local only" {
			open()
		}
		if _, err := all[0].Get(ctx, "k"); err != nil && end != "absence" {
			t.Fatal(err)
		}
		time.Sleep(life - delay - 500*time.Millisecond)
		if end == "absence" {
			time.Sleep(delay)
		} else if err := ends[end](ctx, all[0]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(250 * time.Millisecond)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := begins[begin](ctx, all[0]); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if n := loads.Load(); n != 2 {
			t.Fatalf("%d loads: no refresh has begun", n)
		}
		time.Sleep(slow * 3 / 4) // past the end, and beyond what a process that hears nothing would join
		answers := make(chan error)
		for range 3 {
			for _, c := range all {
				go func() {
					v, err := needs[need](ctx, c)
					if err == nil && v != 2 {
						err = errors.New("not what was loaded")
					}
					answers <- err
				}()
			}
		}
		for range 3 * len(all) {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		<-ended
		synctest.Wait()
		if n := loads.Load(); n != 2 {
			t.Errorf("%d loads, want the first one and one refresh", n)
		}
		if v, err := all[len(all)-1].Peek(ctx, "k"); v != 2 || err != nil {
			t.Errorf("stored is %d, %v", v, err)
		}
	}
	for _, tiers := range []string{"redis", "two tiers", "local only"} {
		t.Run(tiers, func(t *testing.T) {
			for i, end := range slices.Sorted(maps.Keys(ends)) {
				for j, begin := range slices.Sorted(maps.Keys(begins)) {
					for k, need := range slices.Sorted(maps.Keys(needs)) {
						for shift := range redistest.Times(1, len(policies)) {
							if end == "absence" && begin == "ahead" {
								continue // an absence is not refreshed ahead
							}
							policy := slices.Sorted(maps.Keys(policies))[(i+j+k+shift)%len(policies)]
							t.Run(end+", "+begin+", "+need+", "+policy, func(t *testing.T) {
								synctest.Test(t, func(t *testing.T) { world(t, tiers, end, begin, need, policy) })
							})
						}
					}
				}
			}
		})
	}
}

// A load that began before an invalidation is not waited for once the end has come that
// invalidate.Delayed has given the entry, nor is what it brings stored: who needs the key loads, or waits for a load that
// began later.
func TestWhatHasEndedWaitsForALaterLoadOnly(t *testing.T) {
	const life, delay, slow = 20 * time.Second, 2 * time.Second, 10 * time.Second
	changes := map[string]func(context.Context, *cache.Cache[string, int]) error{
		"key": func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Invalidate(ctx, "k") },
		"tag": func(ctx context.Context, c *cache.Cache[string, int]) error { return c.InvalidateTags(ctx, "t") },
		"all": func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Clear(ctx) },
	}
	for name, change := range changes {
		for _, later := range []bool{false, true} {
			if later && name != "key" {
				continue // the obsolete load may fill first, and the later one then loses
			}
			for _, tiers := range [][]strategy.Strategy{nil, {strategy.LRU(10)}} {
				t.Run(fmt.Sprintf("%s, %v, %d", name, later, len(tiers)+1), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						ctx := t.Context()
						st := storetest.NewMemory()
						var loads atomic.Int32
						src := cache.Source[string, int]{Load: func(context.Context, string) (int, error) {
							n := loads.Add(1)
							if n > 1 {
								time.Sleep(slow)
							}
							return int(n), nil
						}, Tags: func(string, int) []string { return []string{"t"} }}
						opts := []cache.Option{cache.WithInvalidator(invalidate.Delayed(delay)), cache.WithStrategy(strategy.TTL(life), strategy.StaleIfError(life))}
						open := func() *cache.Cache[string, int] {
							return newCache(t, st, src, append(opts, cache.WithStrategy(strategy.Jitter(0)), cache.WithStrategy(tiers...))...)
						}
						a, b := open(), open()
						if _, err := a.Get(ctx, "k"); err != nil {
							t.Fatal(err)
						}
						go a.Refresh(ctx, "k") // the second load
						time.Sleep(100 * time.Millisecond)
						if err := change(ctx, a); err != nil {
							t.Fatal(err)
						}
						if later {
							go b.Refresh(ctx, "k") // the third one
						}
						time.Sleep(3 * time.Second)
						start := time.Now()
						for range 3 {
							if v, err := a.Get(ctx, "k"); v != 3 || err != nil {
								t.Errorf("%d, %v", v, err)
							}
						}
						if took := time.Since(start); took > slow {
							t.Errorf("after %v", took)
						}
						time.Sleep(slow) // the second load is over
						if v, err := b.Get(ctx, "k"); v != 3 || err != nil || loads.Load() != 3 {
							t.Errorf("%d, %v, %d loads", v, err, loads.Load())
						}
					})
				})
			}
		}
	}
}

// What a refresh keeps in Redis beyond the end that invalidate.Delayed has given it is over
// for all readers, also where a stale value would cover the failure of the load.
func TestWhatADelayedInvalidationEndsIsOverDuringItsRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		var loads atomic.Int32
		src := cache.Source[string, string]{Load: func(context.Context, string) (string, error) {
			if loads.Add(1) == 1 {
				return "v", nil
			}
			time.Sleep(5 * time.Second)
			return "", errFlaky
		}}
		policy := []cache.Option{cache.WithInvalidator(invalidate.Delayed(time.Second)), cache.WithStrategy(strategy.TTL(time.Minute), strategy.StaleIfError(time.Hour), strategy.StaleWhileRevalidate(time.Hour))}
		a, b := onMemory(t, st, src, policy...), onMemory(t, st, src, policy...)
		if _, err := a.Get(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		if err := a.Invalidate(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- a.Refresh(ctx, "k") }()
		time.Sleep(time.Second + time.Millisecond)
		for range 10 {
			for _, c := range []*cache.Cache[string, string]{a, b} {
				if v, err := c.Peek(ctx, "k", cache.AllowStale()); !errors.Is(err, cache.ErrMiss) {
					t.Fatalf("%q, %v after its end", v, err)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		if v, err := b.Get(ctx, "k"); err == nil {
			t.Errorf("%q after its end", v)
		}
		if err := <-ended; !errors.Is(err, errFlaky) {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		if rec := st.Do(ctx, []store.Command{{Op: store.Get, Key: a.RedisKey("k")}})[0].Record; rec.State != store.Missing {
			t.Error("what was prolonged is still there")
		}
	})
}
