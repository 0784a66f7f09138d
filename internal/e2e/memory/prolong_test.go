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
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// One load refreshes an entry, and it takes longer than what is left of the entry: who needs
// the key waits for it, in this process and in another, and nothing else is loaded.
func TestAnEntryThatEndsDuringItsRefreshIsLoadedOnce(t *testing.T) {
	const life = 10 * time.Second
	ahead := []strategy.Strategy{strategy.TTL(life), strategy.RefreshAhead(0.5)}
	get := func(ctx context.Context, c *cache.Cache[string, int]) (int, error) { return c.Get(ctx, "k") }
	for name, test := range map[string]struct {
		s     []strategy.Strategy
		wait  time.Duration // from the first load to what begins the refresh
		begin func(ctx context.Context, c *cache.Cache[string, int]) (int, error)
		slow  time.Duration
	}{
		"ahead":                {ahead, life - 2*time.Second, get, 8 * time.Second},
		"ahead, a moment left": {ahead, life - time.Millisecond, get, 8 * time.Second},
		"ahead, short":         {ahead, life - hook.LeaseLife/2, get, hook.LeaseLife},
		"while revalidating":   {[]strategy.Strategy{strategy.TTL(life / 2), strategy.StaleWhileRevalidate(life / 2)}, life - time.Second/3, get, 8 * time.Second},
		"idle":                 {append(ahead, strategy.Sliding(3*time.Second)), 6 * time.Second, get, 8 * time.Second},
		"Refresh": {ahead[:1], life - 2*time.Second, func(ctx context.Context, c *cache.Cache[string, int]) (int, error) {
			return 1, c.Refresh(ctx, "k")
		}, 8 * time.Second},
		"MaxAge(0)": {ahead[:1], life - 2*time.Second, func(ctx context.Context, c *cache.Cache[string, int]) (int, error) {
			return c.Get(ctx, "k", cache.MaxAge(0))
		}, 8 * time.Second},
		"MaxAge": {ahead[:1], life - 2*time.Second, func(ctx context.Context, c *cache.Cache[string, int]) (int, error) {
			return c.Get(ctx, "k", cache.MaxAge(time.Second))
		}, 8 * time.Second},
		"Update": {[]strategy.Strategy{strategy.TTL(life / 2), strategy.StaleIfError(life / 2)}, life - 2*time.Second, func(ctx context.Context, c *cache.Cache[string, int]) (int, error) {
			return c.Update(ctx, "k", func(old int, _ bool) (int, error) { return old, nil })
		}, 8 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
				ctx := t.Context()
				var loads atomic.Int32
				var slow time.Duration
				src := cache.Source[string, int]{Load: func(context.Context, string) (int, error) {
					n := loads.Add(1)
					time.Sleep(slow)
					return int(n), nil
				}}
				a := build(src, test.s...)
				all := []*cache.Cache[string, int]{a}
				if hook.Of(a).Remote() {
					all = append(all, build(src, test.s...))
				}
				if v, err := a.Get(ctx, "k"); v != 1 || err != nil {
					t.Fatal(v, err)
				}
				for left := test.wait; left > 0; left -= 2 * time.Second {
					if time.Sleep(min(left, 2*time.Second)); name == "idle" && left > 2*time.Second {
						_, _ = get(ctx, a) // lives on, and is not due yet
					}
				}
				slow = test.slow
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					if _, err := test.begin(ctx, a); err != nil {
						t.Error(err)
					}
				}()
				synctest.Wait()
				if n := loads.Load(); n < 2 {
					t.Fatalf("%d loads: no refresh has begun", n)
				}
				// Past the end of the entry, and beyond what a process that hears nothing would join.
				time.Sleep(test.slow * 3 / 4)
				answers := make(chan error, 20)
				for range cap(answers) / len(all) {
					for _, c := range all {
						go func() {
							v, err := c.Get(ctx, "k")
							if err == nil && v != 2 {
								err = errors.New("not what was loaded")
							}
							answers <- err
						}()
					}
				}
				for range cap(answers) / len(all) * len(all) {
					if err := <-answers; err != nil {
						t.Error(err)
					}
				}
				<-ended
				synctest.Wait()
				if n := loads.Load(); n != 2 {
					t.Errorf("%d loads, want the first one and one refresh", n)
				}
			})
		})
	}
}

// What a refresh prolongs is over all the same when its life is: nothing serves it, also
// where the refresh fails.
func TestWhatARefreshProlongsIsOver(t *testing.T) {
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
		policy := cache.WithStrategy(strategy.TTL(10*time.Second), strategy.RefreshAhead(0.9))
		a, b := onMemory(t, st, src, policy), onMemory(t, st, cache.Source[string, string]{}, policy)
		if _, err := a.Get(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9900 * time.Millisecond)
		if v, err := a.Get(ctx, "k"); v != "v" || err != nil {
			t.Fatal(v, err)
		}
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		for range 20 {
			if v, err := b.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
				t.Fatalf("%q, %v after its end", v, err)
			}
			if v, err := b.Peek(ctx, "k", cache.AllowStale()); !errors.Is(err, cache.ErrMiss) {
				t.Fatalf("%q, %v after its end", v, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		if rec := st.Do(ctx, []store.Command{{Op: store.Get, Key: a.RedisKey("k")}})[0].Record; rec.State != store.Missing {
			t.Error("what was prolonged is still there")
		}
	})
}

// What is invalidated, replaced or cleared while it is refreshed is not brought back by what
// prolongs it.
func TestARefreshProlongsWhatItReplacesOnly(t *testing.T) {
	for name, change := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"delete": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, "k") },
		"set": func(ctx context.Context, c *cache.Cache[string, string]) error {
			return c.Set(ctx, "k", "set", cache.TTL(50*time.Millisecond))
		},
		"clear": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store := storetest.NewMemory()
				var loads atomic.Int32
				src := cache.Source[string, string]{Load: func(context.Context, string) (string, error) {
					if loads.Add(1) == 2 {
						time.Sleep(5 * time.Second)
					}
					return "v", nil
				}}
				policy := cache.WithStrategy(strategy.TTL(10*time.Second), strategy.RefreshAhead(0.9))
				a, b := onMemory(t, store, src, policy), onMemory(t, store, src, policy)
				_, _ = a.Get(ctx, "k")
				time.Sleep(9500 * time.Millisecond)
				_, _ = a.Get(ctx, "k")
				synctest.Wait()
				if err := change(ctx, b); err != nil {
					t.Fatal(err)
				}
				time.Sleep(200 * time.Millisecond)
				if v, err := b.Peek(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
					t.Errorf("%q, %v", v, err)
				}
				start := time.Now()
				if v, err := b.Get(ctx, "k"); v != "v" || err != nil || time.Since(start) > time.Second {
					t.Errorf("%q, %v after %v", v, err, time.Since(start))
				}
				time.Sleep(10 * time.Second) // the refresh ends
			})
		})
	}
}

// A refresh waits for nothing: it gives up where another process refreshes already, and where
// as many loads run as may. A read that has joined it does not.
//
//  1. b: refreshes
//  2. a: begins to refresh as well, and asks for the lock; the entry ends
//  3. a: a reader joins that refresh
//  4. a: the lock is b's
func TestAReaderWhoHasJoinedARefreshWaits(t *testing.T) {
	for _, name := range []string{"held by another process", "no place"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				st := storetest.NewMemory()
				free := make(chan struct{})
				var slow atomic.Bool
				src := cache.Source[string, string]{Load: func(_ context.Context, k string) (string, error) {
					if k == "other" {
						<-free
					} else if slow.Load() {
						time.Sleep(5 * time.Second)
						return "new", nil
					}
					return "v", nil
				}}
				policy := cache.WithStrategy(strategy.TTL(10*time.Second), strategy.RefreshAhead(0.5))
				a, net := onWire(t, st, src, policy, cache.WithLoadLimit(1))
				b := onMemory(t, st, src, policy)
				if _, err := a.Get(ctx, "k"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(9500 * time.Millisecond)
				slow.Store(true)
				if name == "no place" {
					go a.Get(ctx, "other")
				} else {
					_, _ = b.Get(ctx, "k")
				}
				synctest.Wait()
				on, asking, goOn := onlyOnce(func(cmd store.Command) bool { return cmd.Op == store.SetNX && cmd.Key == hook.Of(a).Names.Lock+"k" })
				net.watch(on, nil)
				if v, err := a.Get(ctx, "k"); v != "v" || err != nil {
					t.Fatal(v, err)
				}
				<-asking
				time.Sleep(600 * time.Millisecond)
				got := make(chan error)
				go func() {
					v, err := a.Get(ctx, "k")
					if err == nil && v != "new" {
						err = errors.New(v)
					}
					got <- err
				}()
				synctest.Wait()
				close(goOn)
				synctest.Wait()
				close(free)
				if err := <-got; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
