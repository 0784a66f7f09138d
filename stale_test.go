package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/remote"
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

func (s *source) Source() Source[string, string] {
	return SourceFunc(func(ctx context.Context, _ string) (string, error) {
		s.calls.Add(1)
		return (*s.load.Load())(ctx)
	})
}

func (s *source) will(f func(context.Context) (string, error)) { s.load.Store(&f) }
func (s *source) give(v string)                                { s.will(func(context.Context) (string, error) { return v, nil }) }
func (s *source) fail(err error)                               { s.will(func(context.Context) (string, error) { return "", err }) }

// tiers runs f in a bubble for a cache with Redis alone, with two tiers, and with the
// local one alone. again makes another process's cache, where there can be one.
func tiers(t *testing.T, src *source, s []strategy.Strategy, f func(t *testing.T, c *Cache[string, string], again func() *Cache[string, string])) {
	for _, kind := range []string{"redis", "two tiers", "local only"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := remote.NewMemory()
				src.calls.Store(0)
				again := func() *Cache[string, string] {
					opts := []Option{WithStrategy(append([]strategy.Strategy{strategy.Jitter(0)}, s...)...), quietLog}
					open := func(*config) remote.Store { return store }
					switch kind {
					case "two tiers":
						opts = append(opts, WithStrategy(strategy.LRU(100)))
					case "local only":
						opts = append(opts, LocalOnly())
						open = func(*config) remote.Store { return nil }
					}
					c, err := build("test", src.Source(), opts, open)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { c.Close() })
					return c
				}
				f(t, again(), again)
			})
		})
	}
}

// read checks what a read gives, and that it takes no time.
func read(t *testing.T, c *Cache[string, string], want string, stale bool, covers error) Info {
	t.Helper()
	var info Info
	start := time.Now()
	v, err := c.Get(t.Context(), "k", Report(&info))
	if v != want || err != nil || info.Stale != stale || !errors.Is(info.LoadErr, covers) || time.Since(start) != 0 {
		t.Errorf("%q, %v, stale %v, covering %v, after %v; want %q, stale %v, covering %v", v, err, info.Stale, info.LoadErr, time.Since(start), want, stale, covers)
	}
	return info
}

func TestAStaleValueCoversAFailingSource(t *testing.T) {
	src := new(source)
	s := []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleIfError(30 * time.Second), strategy.RetryAfter(5 * time.Second)}
	tiers(t, src, s, func(t *testing.T, c *Cache[string, string], again func() *Cache[string, string]) {
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
		src, store := new(source), remote.NewMemory()
		s := WithStrategy(strategy.TTL(10*time.Second), strategy.StaleIfError(time.Hour), strategy.RetryAfter(5*time.Second))
		a, b := onMemory(t, store, src.Source(), s), onMemory(t, store, src.Source(), s)
		src.give("v")
		read(t, a, "v", false, nil)
		src.fail(errFlaky)
		time.Sleep(10 * time.Second)
		read(t, a, "v", true, errFlaky)
		var info Info
		if v, err := b.Get(t.Context(), "k", Report(&info)); v != "v" || err != nil || !info.Stale || info.LoadErr == nil {
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
	tiers(t, src, s, func(t *testing.T, c *Cache[string, string], again func() *Cache[string, string]) {
		src.give("v")
		read(t, c, "v", false, nil)
		time.Sleep(11 * time.Second)
		src.will(func(ctx context.Context) (string, error) {
			CurrentLoad[string](ctx).NoStale()
			return "", errFlaky
		})
		if v, err := c.Get(t.Context(), "k"); err != errFlaky {
			t.Errorf("NoStale: %q, %v", v, err)
		}
		src.fail(errFlaky)
		read(t, c, "v", true, errFlaky)
		if v, err := c.Get(t.Context(), "k", MaxAge(5*time.Second)); err != errFlaky {
			t.Errorf("older than the caller takes: %q, %v", v, err)
		}
		// That there is no such thing is an answer, not a failure.
		src.fail(ErrNotFound)
		if v, err := c.Get(t.Context(), "k"); !errors.Is(err, ErrNotFound) {
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

func TestAllowStaleAsksNobody(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleIfError(time.Hour)}, func(t *testing.T, c *Cache[string, string], again func() *Cache[string, string]) {
		src.give("v")
		read(t, c, "v", false, nil)
		src.give("new")
		time.Sleep(11 * time.Second)
		var info Info
		for _, get := range []func(context.Context, string, ...ReadOption) (string, error){c.Get, c.Peek} {
			if v, err := get(t.Context(), "k", AllowStale(), Report(&info)); v != "v" || err != nil || !info.Stale || info.LoadErr != nil {
				t.Errorf("%q, %v, %+v", v, err, info)
			}
		}
		if e, err := c.Inspect(t.Context(), "k"); e.Value != "v" || !e.Info.Stale || err != nil {
			t.Errorf("%+v, %v", e, err)
		}
		if _, err := c.Peek(t.Context(), "k"); !errors.Is(err, ErrMiss) {
			t.Error(err)
		}
		if n := src.calls.Load(); n != 1 {
			t.Errorf("%d loads", n)
		}
		read(t, c, "new", false, nil)
	})
}

func TestStaleWhileRevalidate(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleWhileRevalidate(20 * time.Second)}, func(t *testing.T, c *Cache[string, string], again func() *Cache[string, string]) {
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
		src, store := new(source), remote.NewMemory()
		s := WithStrategy(strategy.TTL(10*time.Second), strategy.StaleWhileRevalidate(time.Hour))
		caches := []*Cache[string, string]{onMemory(t, store, src.Source(), s), onMemory(t, store, src.Source(), s)}
		src.give("v")
		read(t, caches[0], "v", false, nil)
		src.will(func(context.Context) (string, error) { time.Sleep(5 * time.Second); return "new", nil })
		time.Sleep(10 * time.Second)
		before := runtime.NumGoroutine()
		most := 0
		for i := range 100_000 {
			if v, err := caches[i%2].Get(t.Context(), "k"); v != "v" || err != nil {
				t.Fatal(v, err)
			}
			if i%1000 == 0 {
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
		if n := runtime.NumGoroutine() - before; n > 10*refreshesAtOnce {
			t.Errorf("%d goroutines", n)
		}
	})
}

func TestTheSoftTimeoutGivesTheStaleValue(t *testing.T) {
	src := new(source)
	s := []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleIfError(time.Hour), strategy.SoftTimeout(time.Second), strategy.HardTimeout(5 * time.Second)}
	tiers(t, src, s, func(t *testing.T, c *Cache[string, string], again func() *Cache[string, string]) {
		src.give("v")
		read(t, c, "v", false, nil)
		time.Sleep(11 * time.Second)
		src.will(func(context.Context) (string, error) { time.Sleep(3 * time.Second); return "new", nil })
		ctx, cancel := context.WithCancel(t.Context())
		var info Info
		start := time.Now()
		if v, err := c.Get(ctx, "k", Report(&info)); v != "v" || err != nil || !info.Stale || info.LoadErr != errSoftTimeout || time.Since(start) != time.Second {
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
		if !errors.Is(err, errHardTimeout) || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestRefreshAhead(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.RefreshAhead(0.8)}, func(t *testing.T, c *Cache[string, string], again func() *Cache[string, string]) {
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

// XFetch: the later in an entry's life, the likelier; by the formula of its authors,
// the time from the first early recompute to the end is exponential with a mean of
// delta times beta.
func TestEarlyExpirationFollowsItsFormula(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := new(source)
		c := onMemory(t, remote.NewMemory(), src.Source(), WithStrategy(strategy.TTL(100*time.Second), strategy.EarlyExpiration(1)))
		seed := uint64(1)
		c.rand = func() float64 { // a fixed sequence
			seed = seed*6364136223846793005 + 1442695040888963407
			return float64(seed>>11) / (1 << 53)
		}
		const delta, rounds = 4 * time.Second, 400
		src.will(func(context.Context) (string, error) { time.Sleep(delta); return "v", nil })
		early := 0.0
		for range rounds {
			if err := c.Refresh(t.Context(), "k"); err != nil {
				t.Fatal(err)
			}
			stored := time.Now()
			loads := src.calls.Load()
			// One read a time unit: then P(early by more than x) = exp(-x/delta) for the
			// sum over reads, up to the step.
			for src.calls.Load() == loads && time.Since(stored) < 100*time.Second {
				time.Sleep(time.Second)
				if _, err := c.Get(t.Context(), "k"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			early += (100*time.Second - time.Since(stored)).Seconds()
			time.Sleep(2 * delta)
		}
		// The expectation, by the formula: the first n at which U(n) <= exp(-(100-n)/delta).
		want, alive := 0.0, 1.0
		for n := 1.0; n <= 100; n++ {
			p := math.Exp(-(100 - n) / delta.Seconds())
			want += alive * p * (100 - n)
			alive *= 1 - p
		}
		if got := early / rounds; math.Abs(got-want) > 0.1*want {
			t.Errorf("early by %.2f s on average, want %.2f", got, want)
		}
	})
}

func TestARefreshLosesAgainstWhatComesInBetween(t *testing.T) {
	for what, change := range map[string]func(context.Context, *Cache[string, string]) error{
		"set":        func(ctx context.Context, c *Cache[string, string]) error { return c.Set(ctx, "k", "set", Tags("t")) },
		"delete":     func(ctx context.Context, c *Cache[string, string]) error { return c.Delete(ctx, "k") },
		"tag":        func(ctx context.Context, c *Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
		"clear":      func(ctx context.Context, c *Cache[string, string]) error { return c.Clear(ctx) },
		"invalidate": func(ctx context.Context, c *Cache[string, string]) error { return c.Invalidate(ctx, "k") },
		"pattern": func(ctx context.Context, c *Cache[string, string]) error {
			_, err := c.InvalidatePattern(ctx, "*")
			return err
		},
	} {
		src := new(source)
		t.Run(what, func(t *testing.T) {
			tiers(t, src, []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleWhileRevalidate(time.Hour)}, func(t *testing.T, c *Cache[string, string], again func() *Cache[string, string]) {
				ctx := t.Context()
				writer := c
				if c.remote != nil {
					writer = again()
				}
				if err := c.Set(ctx, "k", "old", Tags("t")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(11 * time.Second)
				began, end := make(chan struct{}), make(chan struct{})
				src.will(func(ctx context.Context) (string, error) {
					CurrentLoad[string](ctx).AddTags("t")
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
				for name, c := range map[string]*Cache[string, string]{"refresher": c, "writer": writer} {
					if v, err := c.Get(ctx, "k"); v != want || err != nil {
						t.Errorf("%s: %q, %v, want %q", name, v, err, want)
					}
				}
			})
		})
	}
}

func TestErrorsAreRememberedForErrorTTL(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.ErrorTTL(5 * time.Second)}, func(t *testing.T, c *Cache[string, string], again func() *Cache[string, string]) {
		src.fail(errFlaky)
		for range 3 {
			if _, err := c.Get(t.Context(), "k"); err != errFlaky {
				t.Error(err)
			}
		}
		if c.remote != nil {
			if _, err := again().Get(t.Context(), "k"); err == nil {
				t.Error("another process asks again")
			}
		}
		if n := src.calls.Load(); n != 1 {
			t.Errorf("%d loads", n)
		}
		src.give("v")
		if v, err := c.Get(t.Context(), "k", MaxAge(0)); v != "v" || err != nil {
			t.Errorf("MaxAge(0): %q, %v", v, err)
		}
		src.fail(errFlaky)
		if _, err := c.Get(t.Context(), "other"); err != errFlaky {
			t.Error(err)
		}
		src.give("v")
		time.Sleep(5*time.Second - time.Millisecond)
		if _, err := c.Get(t.Context(), "other"); err == nil {
			t.Error("forgotten too early")
		}
		time.Sleep(time.Millisecond)
		if v, err := c.Get(t.Context(), "other"); v != "v" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		// A write is newer than a failure.
		src.fail(errFlaky)
		_, _ = c.Get(t.Context(), "third")
		if err := c.Set(t.Context(), "third", "w"); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), "third"); err != nil {
			t.Fatal(err)
		}
		src.give("v")
		if v, err := c.Get(t.Context(), "third"); v != "v" || err != nil {
			t.Errorf("after a write: %q, %v", v, err)
		}
	})
}

func TestALoadSaysWhenToAskAgain(t *testing.T) {
	src := new(source)
	tiers(t, src, nil, func(t *testing.T, c *Cache[string, string], again func() *Cache[string, string]) {
		src.will(func(ctx context.Context) (string, error) {
			CurrentLoad[string](ctx).RetryAfter(3 * time.Second)
			return "", errFlaky
		})
		for range 3 {
			if _, err := c.Get(t.Context(), "k"); err != errFlaky {
				t.Error(err)
			}
			time.Sleep(time.Second - time.Millisecond)
		}
		if n := src.calls.Load(); n != 1 {
			t.Errorf("%d loads", n)
		}
		src.give("v")
		time.Sleep(3 * time.Millisecond)
		read(t, c, "v", false, nil)
	})
}

func TestConditionalLoads(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleIfError(time.Hour)}, func(t *testing.T, c *Cache[string, string], again func() *Cache[string, string]) {
		ctx := t.Context()
		src.will(func(ctx context.Context) (string, error) {
			l := CurrentLoad[string](ctx)
			if v, ok := l.Stale(); ok || v != "" || l.ETag() != "" {
				t.Errorf("there is %q, %v, %q to begin with", v, ok, l.ETag())
			}
			if _, err := l.NotModified(); err == nil {
				t.Error("nothing can't be unmodified")
			}
			l.SetETag("e1")
			l.AddTags("t")
			return "v", nil
		})
		read(t, c, "v", false, nil)
		src.will(func(ctx context.Context) (string, error) {
			l := CurrentLoad[string](ctx)
			if v, ok := l.Stale(); !ok || v != "v" || l.ETag() != "e1" {
				t.Errorf("%q, %v, %q", v, ok, l.ETag())
			}
			return l.NotModified()
		})
		for range 3 {
			time.Sleep(11 * time.Second)
			read(t, c, "v", false, nil)
			time.Sleep(9 * time.Second)
			info := read(t, c, "v", false, nil)
			if fmt.Sprint(info.Tags) != "[t]" || info.TTL != time.Second {
				t.Errorf("%+v", info)
			}
			time.Sleep(time.Second)
		}
		if n := src.calls.Load(); n != 4 {
			t.Errorf("%d loads", n)
		}
		// What was written has not the ETag of what was there before.
		if err := c.Set(ctx, "k", "w"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		src.will(func(ctx context.Context) (string, error) {
			if l := CurrentLoad[string](ctx); l.ETag() != "" {
				t.Errorf("ETag %q", l.ETag())
			}
			return "x", nil
		})
		read(t, c, "x", false, nil)
	})
}

func TestLazyKeepsAStaleValue(t *testing.T) {
	for what, change := range map[string]func(context.Context, *Cache[string, string]) error{
		"key": func(ctx context.Context, c *Cache[string, string]) error { return c.Invalidate(ctx, "k") },
		"pattern": func(ctx context.Context, c *Cache[string, string]) error {
			_, err := c.InvalidatePattern(ctx, "*")
			return err
		},
		"tag":   func(ctx context.Context, c *Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
		"clear": func(ctx context.Context, c *Cache[string, string]) error { return c.Clear(ctx) },
	} {
		for _, p := range []invalidate.Policy{invalidate.Lazy(), invalidate.Immediate()} {
			t.Run(what+" "+p.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					src := new(source)
					store := remote.NewMemory()
					c := onMemory(t, store, src.Source(), WithInvalidator(p), WithStrategy(strategy.TTL(10*time.Second), strategy.StaleIfError(time.Hour)))
					if err := c.Set(t.Context(), "k", "v", Tags("t")); err != nil {
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
		src, store := new(source), remote.NewMemory()
		c := onMemory(t, store, src.Source(), WithStrategy(strategy.TTL(10*time.Second), strategy.StaleIfError(time.Minute)))
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
