package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

func localOnly[K comparable, V any](t *testing.T, src cache.Source[K, V], s ...strategy.Strategy) *cache.Cache[K, V] {
	t.Helper()
	c, err := cache.NewFrom(nil, "local", src, cache.LocalOnly(), cache.WithStrategy(s...), discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestLocalOnlyDoesAllThatTwoTiersDo(t *testing.T) {
	ctx := t.Context()
	loads := 0
	c := localOnly(t, cache.SourceFunc(func(_ context.Context, k string) (int, error) {
		if loads++; k == "nothing" {
			return 0, cache.ErrNotFound
		}
		return len(k), nil
	}))
	for range 2 {
		if v, err := c.Get(ctx, "four"); v != 4 || err != nil {
			t.Fatal(v, err)
		}
		if _, err := c.Get(ctx, "nothing"); !errors.Is(err, cache.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if loads != 2 {
		t.Errorf("%d loads", loads)
	}
	if err := c.SetMany(ctx, map[string]int{"a": 1, "b": 2}); err != nil {
		t.Fatal(err)
	}
	if got, err := c.GetMany(ctx, []string{"a", "b", "ccc", "nothing"}); fmt.Sprint(got) != "map[a:1 b:2 ccc:3]" || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if ok, err := c.SetIfAbsent(ctx, "a", 9); ok || err != nil {
		t.Errorf("over a value: %v, %v", ok, err)
	}
	if ok, err := c.SetIfAbsent(ctx, "nothing", 9); !ok || err != nil {
		t.Errorf("over an absence: %v, %v", ok, err)
	}
	if err := c.Delete(ctx, "a", "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Peek(ctx, "a"); !errors.Is(err, cache.ErrMiss) || errors.Is(err, cache.ErrUnavailable) {
		t.Error(err)
	}
	e, err := c.Inspect(ctx, "four")
	if err != nil || e.Value != 4 || e.Tier != metrics.Local {
		t.Errorf("%+v, %v", e, err)
	}
	if v, err := c.Update(ctx, "five5", func(n int, ok bool) (int, error) { return n * 10, nil }); v != 50 || err != nil {
		t.Errorf("Update asks the source: %d, %v", v, err)
	}
	if err := c.Set(ctx, "four", 0, cache.TTL(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Peek(ctx, "four"); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("a life that is over: %v", err)
	}
	if m := c.Metrics(); m.RemoteHits != 0 || m.Remote.Count != 0 || m.Misses() != m.Loads-m.Refreshes+m.Coalesced+m.Unloaded {
		t.Errorf("%d misses: %s", m.Misses(), m)
	}
}

func TestLocalOnlyLifetimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		c := localOnly(t, cache.Source[string, int]{}, strategy.TTL(10*time.Minute), strategy.Jitter(0))
		capped := localOnly(t, cache.Source[string, int]{}, strategy.TTL(10*time.Minute), strategy.LocalTTL(time.Second))
		for _, c := range []*cache.Cache[string, int]{c, capped} {
			if err := errors.Join(c.Set(ctx, "k", 1), c.Set(ctx, "short", 1, cache.TTL(time.Second))); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		for key, want := range map[string]error{"k": nil, "short": cache.ErrMiss} {
			if _, err := c.Get(ctx, key); !errors.Is(err, want) {
				t.Errorf("%s after a second: %v", key, err)
			}
		}
		if _, err := capped.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("beyond LocalTTL: %v", err)
		}
		if _, err := c.Update(ctx, "k", func(n int, ok bool) (int, error) { return n + 1, nil }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Minute - time.Second - 1)
		if v, err := c.Get(ctx, "k"); v != 2 || err != nil {
			t.Errorf("just before the end: %d, %v", v, err)
		}
		time.Sleep(time.Nanosecond)
		if v, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("Update moved the deadline: %d, %v", v, err)
		}
	})
}

func TestLocalOnlyIsAtomic(t *testing.T) {
	ctx := t.Context()
	c := localOnly(t, cache.Source[string, int]{})
	const writers, rounds = 8, 500
	var wg sync.WaitGroup
	wins := make(chan int, writers)
	for i := range writers {
		wg.Go(func() {
			for range rounds {
				if _, err := c.Update(ctx, "n", func(n int, ok bool) (int, error) { return n + 1, nil }); err != nil {
					t.Error(err)
				}
			}
			if ok, err := c.SetIfAbsent(ctx, "owner", i); err != nil {
				t.Error(err)
			} else if ok {
				wins <- i
			}
		})
	}
	wg.Wait()
	if n, err := c.Get(ctx, "n"); n != writers*rounds || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if len(wins) != 1 {
		t.Errorf("%d owners", len(wins))
	}
}
