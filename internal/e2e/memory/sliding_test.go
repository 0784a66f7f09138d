package memory_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
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

func TestSlidingKeepsWhatIsRead(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.TTL(time.Minute), strategy.Sliding(8 * time.Second)}, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
		src.give("v")
		set := func() {
			if err := c.Set(t.Context(), "k", "v"); err != nil {
				t.Fatal(err)
			}
		}
		set()
		time.Sleep(8*time.Second - time.Millisecond)
		if hook.Of(c).Local == nil || !hook.Of(c).Remote() { // else the local tier has let it go, and Redis has it for a moment
			read(t, c, "v", false, nil)
			synctest.Wait()
		}
		time.Sleep(8 * time.Second)
		if _, err := c.Peek(t.Context(), "k"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("not read for 8 s and still there: %v", err)
		}
		// Read often enough it lives to its end, which nothing prolongs.
		set()
		for i := range 10 {
			time.Sleep(5900 * time.Millisecond)
			if v, err := c.Peek(t.Context(), "k"); v != "v" || err != nil {
				t.Fatalf("gone after %d reads: %v", i, err)
			}
			read(t, c, "v", false, nil)
			synctest.Wait()
		}
		time.Sleep(time.Second)
		if _, err := c.Peek(t.Context(), "k"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("it outlives its TTL: %v", err)
		}
		if n := src.calls.Load(); n != 0 {
			t.Errorf("%d loads", n)
		}
		// A look prolongs nothing.
		set()
		for range 8 {
			_, _ = c.Peek(t.Context(), "k")
			time.Sleep(time.Second)
		}
		if _, err := c.Peek(t.Context(), "k"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("Peek prolongs: %v", err)
		}
	})
}

// With Tracking, each change of a life is told to everybody.
func TestSlidingChangesRedisFewTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		changes := 0
		store.Intercept(func(d storetest.Delivery) (int, time.Duration) {
			if d.Kind == storetest.DeliverChange {
				changes++
			}
			return 1, 0
		})
		s := cache.WithOptions(cache.WithTransport(invalidate.Tracking()), cache.WithStrategy(strategy.TTL(time.Hour), strategy.Sliding(8*time.Second)))
		c := onMemory(t, store, cache.Source[string, string]{}, s)
		if err := c.Set(t.Context(), "k", "v"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := changes
		for range 8000 { // over 8 s
			if v, err := c.Get(t.Context(), "k"); v != "v" || err != nil {
				t.Fatal(v, err)
			}
			time.Sleep(time.Millisecond)
		}
		if n := changes - before; n < 3 || n > 5 {
			t.Errorf("8000 reads in one idle time changed the key %d times", n)
		}
	})
}

func TestLocalBytesBoundsTheLocalTier(t *testing.T) {
	for _, kind := range []string{"two tiers", "local only"} {
		synctest.Test(t, func(t *testing.T) {
			const budget = 100_000
			c := onDatabaseless(t, kind, strategy.LRU(100_000), strategy.LocalBytes(budget))
			value := strings.Repeat("x", 1000)
			for i := range 500 {
				if err := c.Set(t.Context(), fmt.Sprint(i), value); err != nil {
					t.Fatal(err)
				}
			}
			if n := c.Metrics().LocalEntries; n < budget/1500 || n > budget/1000 {
				t.Errorf("%s: %d entries of 1000 bytes in %d", kind, n, budget)
			}
			// The latest are there, and one that does not fit is not.
			if e, err := c.Inspect(t.Context(), "499"); err != nil || e.Tier.String() != "local" {
				t.Errorf("%s: %v, %v", kind, e.Tier, err)
			}
			if err := c.Set(t.Context(), "large", strings.Repeat("x", budget)); err != nil {
				t.Fatal(err)
			}
			if e, _ := c.Inspect(t.Context(), "large"); e.Tier.String() == "local" {
				t.Errorf("%s: what does not fit is there", kind)
			}
			if e, err := c.Inspect(t.Context(), "499"); err != nil || e.Tier.String() != "local" {
				t.Errorf("%s: it pushed out others", kind)
			}
		})
	}
}

func TestWeighSaysWhatAnEntryTakesOfLocalBytes(t *testing.T) {
	for _, kind := range []string{"two tiers", "local only"} {
		t.Run(kind, func(t *testing.T) {
			var weighed sync.Map
			src := cache.Source[string, string]{
				Load: func(_ context.Context, key string) (string, error) { return "loaded " + key, nil },
				Weigh: func(key, val string) int64 {
					weighed.Store(key, val)
					switch key {
					case "panic":
						panic("weigh")
					case "exit":
						runtime.Goexit()
					case "negative":
						return -1 << 60
					case "huge":
						return 1 << 60
					}
					return 10
				},
			}
			c := ofKind(t, kind, storetest.NewMemory(), src, cache.WithStrategy(strategy.Jitter(0), strategy.LRU(1000), strategy.LocalBytes(10_000)))
			// By the estimate no value would fit.
			for i := range 50 {
				if err := c.Set(t.Context(), fmt.Sprint(i), strings.Repeat("x", 20_000)); err != nil {
					t.Fatal(err)
				}
			}
			if m := c.Metrics(); m.LocalEntries != 50 || m.LocalBytes != 500 {
				t.Errorf("%d entries of %d bytes, want 50 of 500", m.LocalEntries, m.LocalBytes)
			}
			for _, key := range []string{"panic", "exit", "negative", "huge", "other"} {
				if v, err := c.Get(t.Context(), key); err != nil || v != "loaded "+key {
					t.Errorf("%s: %q, %v", key, v, err)
				}
				e, err := c.Inspect(t.Context(), key)
				if is, want := err == nil && e.Tier == metrics.Local, key != "huge"; is != want {
					t.Errorf("%s is in the local tier: %v, want %v", key, is, want)
				}
				if v, _ := weighed.Load(key); v != "loaded "+key {
					t.Errorf("%s was weighed with %v", key, v)
				}
			}
			if m := c.Metrics(); m.LocalBytes < 510 || m.LocalBytes > 2000 {
				t.Errorf("%d bytes, want 510 and two estimates", m.LocalBytes)
			}
		})
	}
	_, err := cache.NewFrom(nil, "no bound", cache.Source[string, string]{Weigh: func(string, string) int64 { return 1 }}, cache.LocalOnly())
	if !errors.Is(err, cache.ErrInvalidOption) || !strings.Contains(err.Error(), "LocalBytes") {
		t.Errorf("Weigh without a bound: %v", err)
	}
}

func onDatabaseless(t *testing.T, kind string, s ...strategy.Strategy) *cache.Cache[string, string] {
	t.Helper()
	return ofKind(t, kind, storetest.NewMemory(), cache.Source[string, string]{}, cache.WithStrategy(strategy.Jitter(0)), cache.WithStrategy(s...))
}
