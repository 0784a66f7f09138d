package memory_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
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

func onDatabaseless(t *testing.T, kind string, s ...strategy.Strategy) *cache.Cache[string, string] {
	t.Helper()
	return ofKind(t, kind, storetest.NewMemory(), cache.Source[string, string]{}, cache.WithStrategy(strategy.Jitter(0)), cache.WithStrategy(s...))
}
