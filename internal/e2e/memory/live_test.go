package memory_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// removals notes what Source.Removed is told.
type removals struct {
	mu  sync.Mutex
	all []string
}

func (r *removals) note(k, v string, why cache.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprint(k, " ", v, " ", why))
}

func (r *removals) are(t *testing.T, what string, want ...string) {
	t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.all, want) {
		t.Errorf("%s: %q, want %q", what, r.all, want)
	}
	r.all = nil
}

func TestRemovedIsToldWhatLeavesTheLocalTier(t *testing.T) {
	for _, kind := range []string{"two tiers", "local only"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, st := t.Context(), storetest.NewMemory()
				var r removals
				src := cache.Source[string, string]{
					Load:    func(_ context.Context, k string) (string, error) { return "loaded", nil },
					Removed: r.note,
				}
				opts := []cache.Option{cache.WithStrategy(strategy.LRU(2), strategy.TTL(time.Minute), strategy.Jitter(0))}
				c := ofKind(t, kind, st, src, opts...)
				do := func(err error) {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
				}
				do(c.Set(ctx, "k", "1"))
				r.are(t, "a first value")
				do(c.Set(ctx, "k", "2"))
				r.are(t, "a second one", "k 1 replaced")
				do(c.Touch(ctx, "k"))
				do(c.Invalidate(ctx, "k"))
				r.are(t, "Invalidate", "k 2 invalidated")
				do(c.Set(ctx, "k", "3"))
				do(c.Delete(ctx, "k"))
				r.are(t, "Delete", "k 3 deleted")
				do(c.Set(ctx, "k", "4", cache.TTL(time.Second)))
				time.Sleep(time.Second)
				if v, err := c.Get(ctx, "k"); v != "loaded" || err != nil {
					t.Fatal(v, err)
				}
				r.are(t, "a value that was over", "k 4 expired")
				do(c.Set(ctx, "k", "5", cache.Tags("t")))
				r.are(t, "a loaded one", "k loaded replaced")
				do(c.InvalidateTags(ctx, "t"))
				synctest.Wait()
				for range map[string]int{"two tiers": 2, "local only": 1}[kind] { // on Redis the lease removes the entry, and the next read fills the tier
					if v, err := c.Get(ctx, "k"); v != "loaded" || err != nil {
						t.Fatal(v, err)
					}
				}
				r.are(t, "a tag", "k 5 invalidated")
				do(c.Set(ctx, "a", "6"))
				do(c.Set(ctx, "b", "7"))
				r.are(t, "no room", "k loaded evicted")
				do(c.Clear(ctx))
				synctest.Wait()
				r.mu.Lock()
				slices.Sort(r.all)
				r.mu.Unlock()
				r.are(t, "Clear", "a 6 invalidated", "b 7 invalidated")
				do(c.Set(ctx, "z", "8"))
				if kind == "two tiers" {
					other := onMemory(t, st, cache.Source[string, string]{})
					do(other.Set(ctx, "z", "9"))
					r.are(t, "another process", "z 8 invalidated")
					if _, err := c.Get(ctx, "z"); err != nil {
						t.Fatal(err)
					}
					do(c.Close())
					r.are(t, "Close", "z 9 evicted")
				} else {
					do(c.Close())
					r.are(t, "Close", "z 8 evicted")
				}
			})
		})
	}
}

func TestRemovedMayDoAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var c *cache.Cache[string, int]
		var n int
		c = newCache(t, nil, cache.Source[string, int]{Removed: func(k string, v int, _ cache.Reason) {
			n++
			if v < 10 {
				if err := c.Set(ctx, k, v+1); err != nil { // uses the cache
					t.Error(err)
				}
			}
			panic("and panics")
		}}, cache.LocalOnly())
		for v := range 2 {
			if err := c.Set(ctx, "k", v); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if v, err := c.Get(ctx, "k"); err != nil || v < 10 {
			t.Errorf("%d, %v after %d calls", v, err, n)
		}
	})
}

func TestRemovedNeedsALocalTier(t *testing.T) {
	src := cache.Source[string, int]{Removed: func(string, int, cache.Reason) {}}
	if _, err := build("n", src, nil, func() store.Store { return storetest.NewMemory() }); !errors.Is(err, cache.ErrInvalidOption) {
		t.Error(err)
	}
}

func TestDefaultIsTheLastResort(t *testing.T) {
	src := new(source)
	for _, kind := range []string{"redis", "two tiers", "local only"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				full := src.Source()
				full.Default = func(k string) (string, bool) {
					if k == "panics" {
						panic("no default")
					}
					return "default of " + k, k != "none"
				}
				c := ofKind(t, kind, storetest.NewMemory(), full, cache.WithStrategy(strategy.TTL(time.Second), strategy.Jitter(0), strategy.StaleIfError(time.Hour), strategy.RetryAfter(0)))
				src.fail(errFlaky)
				var info cache.Info
				if v, err := c.Get(ctx, "k", cache.Report(&info)); v != "default of k" || err != nil || !errors.Is(info.LoadErr, errFlaky) || info.Tier != metrics.None {
					t.Errorf("%q, %v, %+v", v, err, info)
				}
				for _, key := range []string{"none", "panics"} {
					if _, err := c.Get(ctx, key); !errors.Is(err, errFlaky) {
						t.Errorf("%s: %v", key, err)
					}
				}
				vals, err := c.GetMany(ctx, []string{"a", "none"})
				var be *cache.BatchError[string]
				if !maps.Equal(vals, map[string]string{"a": "default of a"}) || !errors.As(err, &be) || len(be.Errs) != 1 || !errors.Is(be.For("none"), errFlaky) {
					t.Errorf("%v, %v", vals, err)
				}
				if v, err := c.GetOrLoad(ctx, "l", func(context.Context, string) (string, error) { return "", errFlaky }); v != "default of l" || err != nil {
					t.Errorf("%q, %v", v, err)
				}
				// It is not stored, and answers nothing but a failed load.
				for _, key := range []string{"k", "a", "l"} {
					if _, err := c.Peek(ctx, key); !errors.Is(err, cache.ErrMiss) {
						t.Errorf("%s: %v", key, err)
					}
				}
				if _, err := c.Update(ctx, "k", func(v string, ok bool) (string, error) { return v + "!", nil }); !errors.Is(err, errFlaky) {
					t.Errorf("Update: %v", err)
				}
				if err := c.Refresh(ctx, "k"); !errors.Is(err, errFlaky) {
					t.Errorf("Refresh: %v", err)
				}
				src.fail(cache.ErrNotFound)
				if _, err := c.Get(ctx, "absent"); !errors.Is(err, cache.ErrNotFound) {
					t.Errorf("an absence: %v", err)
				}
				src.will(func(ctx context.Context) (string, error) { return "", wait(ctx, time.Minute) })
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				if _, err := c.Get(short, "slow"); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the caller's own end: %v", err)
				}
				src.give("v")
				if _, err := c.Get(ctx, "s"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
				src.fail(errFlaky)
				if v, err := c.Get(ctx, "s"); v != "v" || err != nil {
					t.Errorf("a stale value comes first: %q, %v", v, err)
				}
				if n := c.Metrics().Defaults; n != 3 {
					t.Errorf("%d defaults", n)
				}
				c.Close()
				if _, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrClosed) {
					t.Errorf("after Close: %v", err)
				}
			})
		})
	}
}

func TestLocalShowsWhatWouldAnswer(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.TTL(time.Minute), strategy.StaleIfError(time.Hour)}, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
		ctx := t.Context()
		show := func() map[string]string {
			m := map[string]string{}
			for k, e := range c.Local() {
				m[k] = fmt.Sprint(e.Value, " ", e.Tier, " ", e.TTL, " ", e.Tags)
				if e.Absent {
					m[k] = "absent"
				}
			}
			return m
		}
		for k, opts := range map[string][]cache.WriteOption{"plain": nil, "short": {cache.TTL(time.Second)}, "tagged": {cache.Tags("t")}, "doomed": {cache.Tags("u")}} {
			if err := c.Set(ctx, k, "v", opts...); err != nil {
				t.Fatal(err)
			}
		}
		src.fail(cache.ErrNotFound)
		if _, err := c.Get(ctx, "absent"); !errors.Is(err, cache.ErrNotFound) {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := c.InvalidateTags(ctx, "u"); err != nil {
			t.Fatal(err)
		}
		// A tag of which it is not certain that it was not invalidated is asked for in Redis.
		if _, err := c.Get(ctx, "tagged"); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"plain": "v local 59s []", "tagged": "v local 59s [t]", "absent": "absent"}
		if _, err := c.Peek(ctx, "plain", cache.SkipLocal()); err == nil {
			var info cache.Info
			if _, err := c.Peek(ctx, "plain", cache.Report(&info)); err != nil || info.Tier != metrics.Local {
				want = map[string]string{} // there is no local tier
			}
		}
		if got := show(); !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		for range c.Local() {
			break
		}
		before := c.Metrics()
		for k := range c.Local() {
			if err := c.Invalidate(ctx, k); err != nil {
				t.Error(err)
			}
		}
		if got := show(); len(got) != 0 || c.Metrics().Hits() != before.Hits() {
			t.Errorf("%v", got)
		}
	})
}

func TestResizeAndHotKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		c := onMemory(t, storetest.NewMemory(), cache.SourceFunc(func(_ context.Context, k int) (int, error) { return k, nil }), cache.WithStrategy(strategy.LRU(100)), cache.WithInvalidator(invalidate.Lazy()))
		for k := range 200 {
			if v, err := c.Get(ctx, k); v != k || err != nil {
				t.Fatal(v, err)
			}
		}
		for _, n := range []int{10, 50} {
			if err := c.Resize(n); err != nil {
				t.Fatal(err)
			}
			for k := range 200 {
				if _, err := c.Get(ctx, k); err != nil {
					t.Fatal(err)
				}
			}
			if got := c.Metrics().LocalEntries; got != uint64(n) {
				t.Errorf("%d entries of %d", got, n)
			}
		}
		for _, n := range []int{0, -1, 1<<30 + 1} {
			if err := c.Resize(n); !errors.Is(err, cache.ErrInvalidOption) {
				t.Errorf("%d: %v", n, err)
			}
		}
		remote := newCache(t, storetest.NewMemory(), cache.Source[float64, int]{Key: func(f float64) string { return fmt.Sprint(f) }})
		if err := remote.Resize(1); !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
		if keys := c.HotKeys(3); len(keys) != 0 {
			t.Errorf("%v before anything was counted", keys)
		}
		const reads = 50_000
		for i := range reads {
			time.Sleep(time.Nanosecond)                      // the clock chooses the sample
			if _, err := c.Get(ctx, 190+i%3/2); err != nil { // of three reads two of 190
				t.Fatal(err)
			}
		}
		if _, err := c.Get(ctx, 7, cache.SkipLocal()); err != nil {
			t.Fatal(err)
		}
		keys := c.HotKeys(10)
		if len(keys) != 3 || keys[0].Key != 190 || keys[1].Key != 191 || keys[2] != (cache.KeyCount[int]{Key: 7, Count: 1}) {
			t.Fatalf("%v", keys)
		}
		// An estimate of a sample of one in 256: within a half of what there was.
		if n := keys[0].Count + keys[1].Count; n < reads/2 || n > reads*3/2 {
			t.Errorf("%d reads, of %d", n, reads)
		}
		if enc := c.HotKeysEncoded(1); len(enc) != 1 || enc[0] != (metrics.KeyCount{Key: "190", Count: keys[0].Count}) {
			t.Errorf("%v", enc)
		}
		if n := len(c.HotKeys(0)) + len(c.HotKeys(-1)); n != 0 {
			t.Errorf("%d of none", n)
		}
	})
}
