package memory_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

var errFlaky = errors.New("the source fails")

// source is a system of record whose answers a test decides.
type source struct {
	calls atomic.Int32
	load  atomic.Pointer[func(context.Context) (string, error)]
}

func (s *source) Source() cache.Source[string, string] {
	return cache.SourceFunc(func(ctx context.Context, _ string) (string, error) {
		s.calls.Add(1)
		return (*s.load.Load())(ctx)
	})
}

func (s *source) will(f func(context.Context) (string, error)) { s.load.Store(&f) }
func (s *source) give(v string)                                { s.will(func(context.Context) (string, error) { return v, nil }) }
func (s *source) fail(err error)                               { s.will(func(context.Context) (string, error) { return "", err }) }

// tiers runs f in a bubble for a cache with Redis alone, with two tiers, and with the
// local one alone. again makes another process's cache, where there can be one.
func tiers(t *testing.T, src *source, s []strategy.Strategy, f func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string])) {
	for _, kind := range []string{"redis", "two tiers", "local only"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := storetest.NewMemory()
				src.calls.Store(0)
				again := func() *cache.Cache[string, string] {
					return ofKind(t, kind, st, src.Source(), cache.WithStrategy(strategy.Jitter(0)), cache.WithStrategy(s...))
				}
				f(t, again(), again)
			})
		})
	}
}

// read checks what a read gives, and that it takes no time.
func read(t *testing.T, c *cache.Cache[string, string], want string, stale bool, covers error) cache.Info {
	t.Helper()
	var info cache.Info
	start := time.Now()
	v, err := c.Get(t.Context(), "k", cache.Report(&info))
	if v != want || err != nil || info.Stale != stale || !errors.Is(info.LoadErr, covers) || time.Since(start) != 0 {
		t.Errorf("%q, %v, stale %v, covering %v, after %v; want %q, stale %v, covering %v", v, err, info.Stale, info.LoadErr, time.Since(start), want, stale, covers)
	}
	return info
}

func TestAStaleValueCoversAFailingSource(t *testing.T) {
	src := new(source)
	s := []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleIfError(30 * time.Second), strategy.RetryAfter(5 * time.Second)}
	tiers(t, src, s, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
		src.give("v")
		read(t, c, "v", false, nil)
		src.fail(errFlaky)
		time.Sleep(10*time.Second - time.Nanosecond)
		read(t, c, "v", false, nil)
		if n := src.calls.Load(); n != 1 {
			t.Errorf("%d loads while it is fresh", n)
		}
		time.Sleep(time.Nanosecond)
		// Stale until the hard maximum, and the source is asked every 5 seconds.
		for i := range 30 {
			info := read(t, c, "v", true, errFlaky)
			if want := time.Duration(10+i) * time.Second; info.Age != want || info.TTL != 0 {
				t.Errorf("%+v, want an age of %v", info, want)
			}
			if n, want := src.calls.Load(), int32(2+i/5); n != want {
				t.Errorf("%d s after its end the source was asked %d times, want %d", i, n, want)
			}
			time.Sleep(time.Second)
		}
		if v, err := c.Get(t.Context(), "k"); !errors.Is(err, errFlaky) {
			t.Errorf("after the hard maximum: %q, %v", v, err)
		}
		src.give("new")
		read(t, c, "new", false, nil)
		if m := c.Metrics(); m.StaleCovers != 30 || m.StaleHits != 0 || m.Misses() != m.Loads-m.Refreshes+m.Coalesced+m.Awaited+m.Unloaded {
			t.Errorf("%d covers, %d stale hits; %d misses, %d loads, %d awaited, %d unloaded", m.StaleCovers, m.StaleHits, m.Misses(), m.Loads, m.Awaited, m.Unloaded)
		}
	})
}

func TestTheThrottleHoldsForAllProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := new(source), storetest.NewMemory()
		s := cache.WithStrategy(strategy.TTL(10*time.Second), strategy.StaleIfError(time.Hour), strategy.RetryAfter(5*time.Second))
		a, b := onMemory(t, store, src.Source(), s), onMemory(t, store, src.Source(), s)
		src.give("v")
		read(t, a, "v", false, nil)
		src.fail(errFlaky)
		time.Sleep(10 * time.Second)
		read(t, a, "v", true, errFlaky)
		var info cache.Info
		if v, err := b.Get(t.Context(), "k", cache.Report(&info)); v != "v" || err != nil || !info.Stale || info.LoadErr == nil {
			t.Errorf("%q, %v, %+v", v, err, info)
		}
		if n := src.calls.Load(); n != 2 {
			t.Errorf("%d loads", n)
		}
	})
}

func TestOnlyWhatMayBeCoveredIsCovered(t *testing.T) {
	src := new(source)
	s := []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleIfError(time.Hour), strategy.RetryAfter(0)}
	tiers(t, src, s, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
		src.give("v")
		read(t, c, "v", false, nil)
		time.Sleep(11 * time.Second)
		src.will(func(ctx context.Context) (string, error) {
			cache.CurrentLoad[string](ctx).NoStale()
			return "", errFlaky
		})
		if v, err := c.Get(t.Context(), "k"); err != errFlaky {
			t.Errorf("NoStale: %q, %v", v, err)
		}
		src.fail(errFlaky)
		read(t, c, "v", true, errFlaky)
		if v, err := c.Get(t.Context(), "k", cache.MaxAge(5*time.Second)); err != errFlaky {
			t.Errorf("older than the caller takes: %q, %v", v, err)
		}
		// That there is no such thing is an answer, not a failure.
		src.fail(cache.ErrNotFound)
		if v, err := c.Get(t.Context(), "k"); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("%q, %v", v, err)
		}
		// And an absence is never stale.
		time.Sleep(time.Minute)
		src.fail(errFlaky)
		if v, err := c.Get(t.Context(), "k"); err != errFlaky {
			t.Errorf("a stale absence: %q, %v", v, err)
		}
	})
}

func TestAllowStaleAsksNeitherRedisNorTheSource(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleIfError(time.Hour)}, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
		src.give("v")
		read(t, c, "v", false, nil)
		src.give("new")
		time.Sleep(11 * time.Second)
		var info cache.Info
		for _, get := range []func(context.Context, string, ...cache.ReadOption) (string, error){c.Get, c.Peek} {
			if v, err := get(t.Context(), "k", cache.AllowStale(), cache.Report(&info)); v != "v" || err != nil || !info.Stale || info.LoadErr != nil {
				t.Errorf("%q, %v, %+v", v, err, info)
			}
		}
		if e, err := c.Inspect(t.Context(), "k"); e.Value != "v" || !e.Info.Stale || err != nil {
			t.Errorf("%+v, %v", e, err)
		}
		if _, err := c.Peek(t.Context(), "k"); !errors.Is(err, cache.ErrMiss) {
			t.Error(err)
		}
		if n := src.calls.Load(); n != 1 {
			t.Errorf("%d loads", n)
		}
		read(t, c, "new", false, nil)
	})
}

func TestTheSoftTimeoutGivesTheStaleValue(t *testing.T) {
	src := new(source)
	s := []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleIfError(time.Hour), strategy.SoftTimeout(time.Second), strategy.HardTimeout(5 * time.Second)}
	tiers(t, src, s, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
		src.give("v")
		read(t, c, "v", false, nil)
		time.Sleep(11 * time.Second)
		src.will(func(context.Context) (string, error) { time.Sleep(3 * time.Second); return "new", nil })
		ctx, cancel := context.WithCancel(t.Context())
		var info cache.Info
		start := time.Now()
		if v, err := c.Get(ctx, "k", cache.Report(&info)); v != "v" || err != nil || !info.Stale || info.LoadErr != hook.ErrSoftTimeout || time.Since(start) != time.Second {
			t.Errorf("%q, %v, %+v after %v", v, err, info, time.Since(start))
		}
		cancel() // the load goes on without its caller, and fills
		time.Sleep(2 * time.Second)
		synctest.Wait()
		read(t, c, "new", false, nil)
		if n := src.calls.Load(); n != 2 {
			t.Errorf("%d loads", n)
		}

		// Without a stale value it is ignored, and the hard one is an error.
		src.will(func(ctx context.Context) (string, error) { <-ctx.Done(); return "", context.Cause(ctx) })
		start = time.Now()
		_, err := c.Get(t.Context(), "other")
		if !errors.Is(err, hook.ErrHardTimeout) || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestLazyKeepsAStaleValue(t *testing.T) {
	for what, change := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"key": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
		"pattern": func(ctx context.Context, c *cache.Cache[string, string]) error {
			_, err := c.InvalidatePattern(ctx, "*")
			return err
		},
		"tag":   func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
		"clear": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
	} {
		for _, p := range []invalidate.Policy{invalidate.Lazy(), invalidate.Immediate()} {
			t.Run(what+" "+p.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					src := new(source)
					store := storetest.NewMemory()
					c := onMemory(t, store, src.Source(), cache.WithInvalidator(p), cache.WithStrategy(strategy.TTL(10*time.Second), strategy.StaleIfError(time.Hour)))
					if err := c.Set(t.Context(), "k", "v", cache.Tags("t")); err != nil {
						t.Fatal(err)
					}
					if err := change(t.Context(), c); err != nil {
						t.Fatal(err)
					}
					src.fail(errFlaky)
					v, err := c.Get(t.Context(), "k")
					if lazy := p == invalidate.Lazy(); lazy && (v != "v" || err != nil) || !lazy && err != errFlaky {
						t.Errorf("%q, %v", v, err)
					}
					src.give("new")
					time.Sleep(6 * time.Second)
					read(t, c, "new", false, nil)
				})
			})
		}
	}
}

func TestAStaleValueOfTheLocalTierCoversAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := new(source), storetest.NewMemory()
		c := onMemory(t, store, src.Source(), cache.WithStrategy(strategy.TTL(10*time.Second), strategy.StaleIfError(time.Minute)))
		src.give("v")
		read(t, c, "v", false, nil)
		src.fail(errFlaky)
		store.Fail(errDown)
		time.Sleep(11 * time.Second)
		info := read(t, c, "v", true, errFlaky)
		if info.Tier != metrics.Local {
			t.Errorf("%+v", info)
		}
		time.Sleep(59 * time.Second)
		if v, err := c.Get(t.Context(), "k"); !errors.Is(err, errFlaky) {
			t.Errorf("%q, %v", v, err)
		}
	})
}
