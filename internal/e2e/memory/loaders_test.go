package memory_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// anyTiers runs f in a bubble for caches of one store: with Redis alone, with two tiers, and
// with the local one alone. A store of the test's own replaces the usual one.
func anyTiers(t *testing.T, f func(t *testing.T, build func(src cache.Source[string, int], s ...strategy.Strategy) *cache.Cache[string, int])) {
	for _, kind := range []string{"redis", "two tiers", "local only"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := storetest.NewMemory()
				f(t, func(src cache.Source[string, int], s ...strategy.Strategy) *cache.Cache[string, int] {
					return ofKind(t, kind, st, src, cache.WithStrategy(strategy.Jitter(0)), cache.WithStrategy(s...))
				})
			})
		})
	}
}

// LoadMany's *BatchError says which keys have failed; the others are absent.
func TestABatchErrorHoldsKeyByKey(t *testing.T) {
	boom := errors.New("boom")
	many := func(_ context.Context, keys []string) (map[string]int, error) {
		vals, failed := map[string]int{}, map[string]error{}
		for _, k := range keys {
			switch k {
			case "good":
				vals[k] = 1
			case "bad":
				failed[k] = boom
			case "gone":
				failed[k] = sql.ErrNoRows
			}
		}
		if len(failed) == 0 {
			return vals, nil
		}
		return vals, fmt.Errorf("the replica: %w", &cache.BatchError[string]{Errs: failed})
	}
	anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
		c := build(cache.Source[string, int]{LoadMany: many}, strategy.NotFoundTTL(time.Minute, sql.ErrNoRows))
		keys := []string{"good", "bad", "gone", "none"}
		for range 2 {
			m, err := c.GetMany(t.Context(), keys)
			var batch *cache.BatchError[string]
			if errors.As(err, &batch); fmt.Sprint(m) != "map[good:1]" || len(batch.Errs) != 1 || batch.For("bad") != boom {
				t.Errorf("%v, %v", m, err)
			}
		}
		if _, err := c.Get(t.Context(), "none"); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("none: %v", err)
		}
		c = build(cache.Source[string, int]{LoadMany: many})
		for _, k := range keys {
			_, err := c.Get(t.Context(), "1"+k)
			if !errors.Is(err, cache.ErrNotFound) {
				t.Error(k, err)
			}
			if _, err = c.Get(t.Context(), k, cache.MaxAge(0)); k == "bad" && !errors.Is(err, boom) || k == "none" && !errors.Is(err, cache.ErrNotFound) {
				t.Errorf("%s: %v", k, err)
			}
		}
	})
}

// Where the source loads one by one, a key of a batch is there as soon as it is loaded, by
// this process or another one.
func TestAKeyOfABatchWaitsForNoOther(t *testing.T) {
	anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
		ctx := t.Context()
		load := func(_ context.Context, k string) (int, error) {
			var d time.Duration
			if _, err := fmt.Sscan(k, &d); err == nil {
				time.Sleep(d * time.Millisecond)
			}
			return len(k), nil
		}
		a, b := build(cache.SourceFunc(load)), build(cache.SourceFunc(load))
		for round := range 20 {
			keys := make([]string, 12) // each takes ten times as long as the one before, or so
			for i := range keys {
				keys[i] = fmt.Sprint(1<<i, " ", round)
			}
			var all sync.WaitGroup
			start := time.Now()
			all.Go(func() {
				if m, err := a.GetMany(ctx, keys); len(m) != len(keys) || err != nil {
					t.Error(len(m), err)
				}
			})
			if round%2 == 1 {
				for i := 0; i < len(keys); i += 3 { // others load some of them
					all.Go(func() { b.Get(ctx, keys[i]) })
				}
			}
			synctest.Wait()
			for i, k := range keys {
				all.Go(func() {
					v, err := a.Get(ctx, k)
					took := time.Since(start)
					if v != len(k) || err != nil || took > time.Duration(1<<i)*time.Millisecond+hook.LeasePoll {
						t.Errorf("round %d: what takes %d ms: %d, %v, after %v", round, 1<<i, v, err, took)
					}
				})
			}
			all.Wait()
		}
	})
}

// What a callback does with one value costs no other key of its batch, and no lease.
func TestAPanicAfterTheLoadCostsItsOwnKeyOnly(t *testing.T) {
	for _, callback := range []string{"Tags", "TTL"} {
		synctest.Test(t, func(t *testing.T) {
			ctx, store := t.Context(), storetest.NewMemory()
			misbehave := func(k string) {
				if k == "bad" {
					panic(callback)
				}
			}
			src := cache.Source[string, string]{Load: func(_ context.Context, k string) (string, error) { return k, nil }}
			if callback == "Tags" {
				src.Tags = func(k, _ string) []string { misbehave(k); return nil }
			} else {
				src.TTL = func(k, _ string) time.Duration { misbehave(k); return time.Hour }
			}
			c := onMemory(t, store, src)
			// What was loaded is returned; it only can't be kept.
			if m, err := c.GetMany(ctx, []string{"a", "bad", "b"}); len(m) != 3 || err != nil {
				t.Errorf("%s: %v, %v", callback, m, err)
			}
			for _, k := range []string{"a", "b"} {
				if left := store.TTL(c.RedisKey(k)); left < time.Minute {
					t.Errorf("%s: %s is kept for %v", callback, k, left)
				}
			}
			if left := store.TTL(c.RedisKey("bad")); left > 0 {
				t.Errorf("%s: the lease is left, for %v", callback, left)
			}
			if v, err := c.Get(ctx, "bad"); v != "bad" || err != nil {
				t.Errorf("%s: %q, %v", callback, v, err)
			}
		})
	}
}

// Lives that the strategy chooses end apart: of values, of absences, in the local tier, and
// what is remembered of failures.
func TestJitterSpreadsAllLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, store := t.Context(), storetest.NewMemory()
		c := onMemory(t, store, cache.Source[string, int]{LoadMany: func(_ context.Context, keys []string) (map[string]int, error) {
			vals := map[string]int{}
			for _, k := range keys {
				if k[0] == 'v' {
					vals[k] = 1
				}
			}
			return vals, nil
		}}, cache.WithStrategy(strategy.LRU(1000), strategy.TTL(time.Hour), strategy.LocalTTL(100*time.Second), strategy.NotFoundTTL(100*time.Second), strategy.Jitter(0.5)))
		var keys []string
		for i := range 100 {
			keys = append(keys, fmt.Sprint("v", i), fmt.Sprint("a", i))
		}
		if m, err := c.GetMany(ctx, keys); len(m) != 100 || err != nil {
			t.Fatal(len(m), err)
		}
		absences, locals := map[time.Duration]bool{}, map[int64]bool{}
		for _, k := range keys {
			if k[0] == 'a' {
				left := store.TTL(c.RedisKey(k))
				if absences[left] = true; left > 100*time.Second || left < 49*time.Second {
					t.Errorf("an absence lives %v", left)
				}
			} else if e, ok := localOf(c).Peek(k); ok {
				locals[e.Deadline] = true
			}
		}
		if len(absences) < 50 || len(locals) < 50 {
			t.Errorf("100 absences end at %d moments, 100 local entries at %d", len(absences), len(locals))
		}
	})
}

// A strategy that refreshes works with the loader of the call that found the entry due, and
// keeps what that call says of the entry.
func TestRefreshesUseTheCallsLoader(t *testing.T) {
	for name, s := range map[string]strategy.Strategy{
		"StaleWhileRevalidate": strategy.StaleWhileRevalidate(time.Hour), "RefreshAhead": strategy.RefreshAhead(0.5), "EarlyExpiration": strategy.EarlyExpiration(1000),
	} {
		t.Run(name, func(t *testing.T) {
			anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
				ctx := t.Context()
				c := build(cache.Source[string, int]{}, s)
				var n atomic.Int64
				one := func(context.Context, string) (int, error) {
					time.Sleep(50 * time.Millisecond)
					return int(n.Add(1)), nil
				}
				many := func(ctx context.Context, keys []string) (map[string]int, error) {
					v, err := one(ctx, "")
					return map[string]int{keys[0]: v}, err
				}
				for i := range 50 {
					var v int
					var err error
					if i%2 == 0 {
						v, err = c.GetOrLoad(ctx, "k", one, cache.TTL(time.Minute), cache.Tags("t"))
					} else {
						var m map[string]int
						m, err = c.GetOrLoadMany(ctx, []string{"k"}, many, cache.TTL(time.Minute), cache.Tags("t"))
						v = m["k"]
					}
					if v == 0 || err != nil {
						t.Fatal(v, err)
					}
					if e, err := c.Inspect(ctx, "k"); err == nil && fmt.Sprint(e.Tags) != "[t]" {
						t.Fatalf("after %d reads the tags are %v", i+1, e.Tags)
					}
					time.Sleep(45 * time.Second)
				}
				if got := n.Load(); got < 20 || c.Metrics().Refreshes < 10 {
					t.Errorf("%d loads in 50 reads over 37 minutes with a life of one, %d of them refreshes", got, c.Metrics().Refreshes)
				}
			})
		})
	}
}

// All that is read lives on, however much is read at a time.
func TestSlidingProlongsAllThatIsRead(t *testing.T) {
	redistest.Thorough(t)
	for _, keys := range []int{500, 5000} {
		anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
			ctx := t.Context()
			c := build(cache.Source[string, int]{}, strategy.TTL(time.Hour), strategy.Sliding(time.Minute))
			var all []string
			for i := range keys {
				all = append(all, fmt.Sprint(i))
				if err := c.Set(ctx, all[i], i); err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				time.Sleep(30 * time.Second)
				if m, err := c.GetMany(ctx, all); len(m) != keys || err != nil {
					t.Fatalf("%d of %d, %v", len(m), keys, err)
				}
				synctest.Wait()
			}
			time.Sleep(31 * time.Second)
			if m, err := c.GetMany(ctx, all); len(m) != keys || err != nil {
				t.Errorf("of %d entries that were read half an idle time ago %d are left (%v)", keys, len(m), err)
			}
		})
	}
}

func TestALocalHitAllocatesNothingAllocAnyStrategy(t *testing.T) {
	for name, s := range map[string]strategy.Strategy{
		"RefreshAhead": strategy.RefreshAhead(0.9), "EarlyExpiration": strategy.EarlyExpiration(1), "Sliding": strategy.Sliding(time.Minute),
		"StaleIfError": strategy.StaleIfError(time.Hour), "StaleWhileRevalidate": strategy.StaleWhileRevalidate(time.Hour), "LocalBytes": strategy.LocalBytes(1 << 20),
	} {
		for _, local := range []bool{false, true} {
			opts := []cache.Option{quietLog, cache.WithStrategy(strategy.LRU(100), strategy.TTL(time.Hour), s)}
			var st store.Store = storetest.NewMemory()
			if local {
				opts, st = append(opts, cache.LocalOnly()), nil
			}
			load := func(context.Context, string) (int, error) { return 1, nil }
			c, err := build("test", cache.SourceFunc(load), opts, func() store.Store { return st })
			if err != nil {
				t.Fatal(err)
			}
			ctx := context.Background()
			for range 3 {
				c.Get(ctx, "k")
			}
			if n := testing.AllocsPerRun(1000, func() { c.Get(ctx, "k") }); n > 0 {
				t.Errorf("%s, local only %v: a hit of Get makes %v allocations", name, local, n)
			}
			if n := testing.AllocsPerRun(1000, func() { c.GetOrLoad(ctx, "k", load) }); n > 0 {
				t.Errorf("%s, local only %v: a hit of GetOrLoad makes %v allocations", name, local, n)
			}
			c.Close()
		}
	}
}

// What a loader, a store or the function of an Update returns comes back as it is, though
// it be an error that the cache knows.
func TestErrorsOfTheProgramAreUnchanged(t *testing.T) {
	errs := map[string]error{
		"a miss": cache.ErrMiss, "closed": cache.ErrClosed, "unavailable": cache.ErrUnavailable, "overload": cache.ErrOverload, "too large": cache.ErrTooLarge,
	}
	synctest.Test(t, func(t *testing.T) {
		orders, net := onWire(t, storetest.NewMemory(), cache.Source[string, int]{})
		net.lose()
		_, errs["a miss of another cache"] = orders.Peek(t.Context(), "k")
		errs["of another cache"] = orders.Set(t.Context(), "k", 1)
		errs["of another cache, wrapped"] = fmt.Errorf("orders: %w", errors.Unwrap(errs["of another cache"]))
	})
	for name, err := range errs {
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
	}
	for name, want := range errs {
		t.Run(name, func(t *testing.T) {
			anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
				ctx := t.Context()
				load := func(context.Context, string) (int, error) { return 0, want }
				c := build(cache.Source[string, int]{Load: load, Store: func(context.Context, string, int) error { return want }})
				if _, err := c.Get(ctx, "k"); err != want {
					t.Errorf("Get: %v", err)
				}
				if _, err := c.GetOrLoad(ctx, "k", load); err != want {
					t.Errorf("GetOrLoad: %v", err)
				}
				m, err := c.GetMany(ctx, []string{"a", "b"})
				var batch *cache.BatchError[string]
				if !errors.As(err, &batch) || batch.For("a") != want || batch.For("b") != want || len(m) != 0 {
					t.Errorf("GetMany: %v, %v", m, err)
				}
				if err := c.Refresh(ctx, "k"); err != want {
					t.Errorf("Refresh: %v", err)
				}
				if err := c.Set(ctx, "k", 1); err != want {
					t.Errorf("Set: %v", err)
				}
				if _, err := build(cache.Source[string, int]{}).Update(ctx, "k", func(int, bool) (int, error) { return 0, want }); err != want {
					t.Errorf("Update: %v", err)
				}
				// Remembered, and what a stale value covers.
				c = build(cache.Source[string, int]{Load: load}, strategy.ErrorTTL(time.Hour))
				for range 2 {
					if _, err := c.Get(ctx, "m"); err != want {
						t.Errorf("Get, remembered: %v", err)
					}
				}
				c = build(cache.Source[string, int]{Load: load}, strategy.TTL(time.Second), strategy.StaleIfError(time.Hour))
				if err := c.Set(ctx, "s", 1); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				var info cache.Info
				if v, err := c.Get(ctx, "s", cache.Report(&info)); v != 1 || err != nil || info.LoadErr != want {
					t.Errorf("over a stale value: %d, %v, %v", v, err, info.LoadErr)
				}
			})
		})
	}
}
