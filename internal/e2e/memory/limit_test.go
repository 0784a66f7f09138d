package memory_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// busy is a source that counts who is in it at once, and takes a second.
type busy struct {
	now, most, loads atomic.Int32
}

func (b *busy) work(ctx context.Context) error {
	b.loads.Add(1)
	n := b.now.Add(1)
	defer b.now.Add(-1)
	for m := b.most.Load(); n > m && !b.most.CompareAndSwap(m, n); m = b.most.Load() {
	}
	return wait(ctx, time.Second)
}

func (b *busy) source() cache.Source[string, string] {
	return cache.SourceFunc(func(ctx context.Context, k string) (string, error) { return "of " + k, b.work(ctx) })
}

func TestLoadsQueueAndThenOverflow(t *testing.T) {
	for _, kind := range []string{"two tiers", "local only"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const limit = 3
				b := new(busy)
				c := ofKind(t, kind, storetest.NewMemory(), b.source(), cache.WithLoadLimit(limit), cache.WithStrategy(strategy.LRU(1000)))
				var all sync.WaitGroup
				var good, turnedAway atomic.Int32
				callers := limit + hook.QueueFactor*limit + 7
				for i := range callers {
					all.Go(func() {
						k := fmt.Sprint(i)
						start := time.Now()
						switch v, err := c.Get(t.Context(), k); {
						case err == nil && v == "of "+k:
							good.Add(1)
						case errors.Is(err, cache.ErrOverload) && time.Since(start) == 0:
							turnedAway.Add(1)
						default:
							t.Errorf("%q, %v after %v", v, err, time.Since(start))
						}
					})
				}
				all.Wait()
				if int(good.Load()) != callers-7 || turnedAway.Load() != 7 || b.most.Load() != limit {
					t.Errorf("%d answers, %d turned away, %d loads at once", good.Load(), turnedAway.Load(), b.most.Load())
				}
				m := c.Metrics()
				if m.Misses() != uint64(callers) || m.Loads != uint64(callers-7) || m.Unloaded != 7 || m.LoadErrors != 0 {
					t.Errorf("%d misses, %d loads, %d unloaded, %d errors", m.Misses(), m.Loads, m.Unloaded, m.LoadErrors)
				}
				// A caller that was refused may try again: nothing is remembered.
				for i := range callers {
					if v, err := c.Get(t.Context(), fmt.Sprint(i)); err != nil || v != fmt.Sprint("of ", i) {
						t.Fatal(v, err)
					}
				}
			})
		})
	}
}

// The queue obeys the contexts of those who wait, and the hard timeout.
func TestWaitingForAPlaceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(busy)
		hold := make(chan struct{})
		src := cache.SourceFunc(func(ctx context.Context, k string) (string, error) {
			if k == "slow" {
				<-hold
				return "at last", nil
			}
			return "of " + k, b.work(ctx)
		})
		c := onMemory(t, storetest.NewMemory(), src, cache.WithLoadLimit(1), cache.WithStrategy(strategy.HardTimeout(10*time.Second)))
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := c.Get(t.Context(), "slow"); !errors.Is(err, hook.ErrHardTimeout) && err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := c.Get(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, cache.ErrOverload) || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		start = time.Now()
		if _, err := c.Get(t.Context(), "l"); !errors.Is(err, cache.ErrOverload) || time.Since(start) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if _, err := c.Update(ctx, "m", func(string, bool) (string, error) { return "", nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		close(hold)
		all.Wait()
		if v, err := c.Get(t.Context(), "k"); v != "of k" || err != nil {
			t.Error(v, err)
		}
		if b.loads.Load() != 1 {
			t.Errorf("%d loads without a caller that waits", b.loads.Load()-1)
		}
	})
}

func TestOverloadIsCoveredByAStaleValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		var slow atomic.Bool
		src := cache.SourceFunc(func(_ context.Context, k string) (string, error) {
			if slow.Load() {
				<-hold
			}
			return "of " + k, nil
		})
		store := storetest.NewMemory()
		s := cache.WithStrategy(strategy.TTL(time.Second), strategy.StaleIfError(time.Hour), strategy.RetryAfter(time.Hour))
		c, other := onMemory(t, store, src, cache.WithLoadLimit(1), s), onMemory(t, store, cache.SourceFunc(func(context.Context, string) (string, error) { return "other", nil }), s)
		if _, err := c.Get(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		slow.Store(true)
		var all sync.WaitGroup
		for i := range 1 + hook.QueueFactor {
			all.Go(func() { _, _ = c.Get(t.Context(), fmt.Sprint("other", i)) })
		}
		synctest.Wait()
		var info cache.Info
		v, err := c.Get(t.Context(), "k", cache.Report(&info))
		if v != "of k" || err != nil || !info.Stale || !errors.Is(info.LoadErr, cache.ErrOverload) {
			t.Errorf("%q, %v, %+v", v, err, info)
		}
		// What one process can't load is no failure of the source for others, nor is it
		// remembered here.
		if v, err := other.Get(t.Context(), "k"); v != "other" || err != nil {
			t.Errorf("%q, %v in another process", v, err)
		}
		close(hold)
		all.Wait()
		if v, err := c.Get(t.Context(), "k"); v != "other" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	})
}

// A load of many keys is one call; one by one, each is.
func TestBatchesTakePlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(busy)
		src := b.source()
		c := onMemory(t, storetest.NewMemory(), src, cache.WithLoadLimit(2))
		keys := make([]string, 20)
		for i := range keys {
			keys[i] = fmt.Sprint(i)
		}
		if vals, err := c.GetMany(t.Context(), keys); len(vals) != len(keys) || err != nil || b.most.Load() != 2 {
			t.Errorf("%d values, %v, %d loads at once", len(vals), err, b.most.Load())
		}
		many := new(busy)
		src.LoadMany = func(ctx context.Context, keys []string) (map[string]string, error) {
			vals := map[string]string{}
			for _, k := range keys {
				vals[k] = "of " + k
			}
			return vals, many.work(ctx)
		}
		d := onMemory(t, storetest.NewMemory(), src, cache.WithLoadLimit(2))
		var all sync.WaitGroup
		for g := range 5 {
			all.Go(func() {
				if vals, err := d.GetMany(t.Context(), keys[4*g:4*g+4]); len(vals) != 4 || err != nil {
					t.Errorf("%d values, %v", len(vals), err)
				}
			})
		}
		all.Wait()
		if many.most.Load() != 2 || many.loads.Load() != 5 {
			t.Errorf("%d loads, %d at once", many.loads.Load(), many.most.Load())
		}
	})
}

// overContext is a context of a caller that must not be asked once its request is over.
type overContext struct {
	context.Context
	over *atomic.Bool
	exit bool
}

func (c overContext) Value(key any) any {
	if c.over.Load() {
		if c.exit {
			runtime.Goexit()
		}
		panic("the request is over")
	}
	return c.Context.Value(key)
}

// The load of an Update that has waited for a place asks the context of its caller, which is the
// program's own.
func TestUpdateReturnsWhenItsContextPanics(t *testing.T) {
	for name, exit := range map[string]bool{"panic": false, "exit": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hold := make(chan struct{})
				src := cache.Source[string, string]{
					Load: func(_ context.Context, key string) (string, error) {
						if key == "first" {
							<-hold
						}
						return key, nil
					},
					Store: func(context.Context, string, string) error { return nil },
				}
				c := ofKind(t, "local only", nil, src, cache.WithLoadLimit(1))
				go c.Get(context.Background(), "first")
				synctest.Wait()
				var over atomic.Bool
				answer := make(chan error, 1)
				go func() {
					_, err := c.Update(overContext{context.Background(), &over, exit}, "k", func(old string, _ bool) (string, error) { return old + "+", nil })
					answer <- err
				}()
				synctest.Wait()
				over.Store(true)
				close(hold)
				synctest.Wait()
				select {
				case err := <-answer:
					if err == nil {
						t.Error("Update has succeeded")
					}
				default:
					t.Fatal("Update has not returned")
				}
				if v, err := c.Get(t.Context(), "k"); v != "k" || err != nil {
					t.Errorf("then %q, %v", v, err)
				}
			})
		})
	}
}
