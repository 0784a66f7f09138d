package memory_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// stubborn is a source whose loads do not look at their contexts. The first one of a key "k"
// returns 1 at once; the second takes as long as it is let; all others return at once.
type stubborn struct {
	loads atomic.Int32
	began chan struct{}
	end   chan func(context.Context) (int, error)
}

func newStubborn() *stubborn {
	return &stubborn{began: make(chan struct{}, 1), end: make(chan func(context.Context) (int, error), 1)}
}

func (s *stubborn) load(ctx context.Context, key string) (int, error) {
	if key != "k" {
		return 0, nil
	}
	n := s.loads.Add(1)
	if n == 2 {
		s.began <- struct{}{}
		return (<-s.end)(ctx)
	}
	return int(n), nil
}

func (s *stubborn) returns(v int) { s.end <- func(context.Context) (int, error) { return v, nil } }

func (s *stubborn) source(many bool) cache.Source[string, int] {
	if !many {
		return cache.Source[string, int]{Load: s.load}
	}
	return cache.Source[string, int]{LoadMany: func(ctx context.Context, keys []string) (map[string]int, error) {
		v, err := s.load(ctx, keys[0])
		vals := map[string]int{}
		for _, k := range keys {
			vals[k] = v
		}
		return vals, err
	}}
}

const hard = 2 * time.Second

// A late value is stored if nothing has happened to its key, and it is as old as its load.
// Otherwise what has happened holds.
func TestALateValueIsStoredOnlyWhereNothingHasHappened(t *testing.T) {
	const life = time.Minute
	for what, test := range map[string]struct {
		change func(context.Context, *cache.Cache[string, int]) error
		want   int // 0: none
	}{
		"nothing":    {func(context.Context, *cache.Cache[string, int]) error { return nil }, 2},
		"set":        {func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Set(ctx, "k", 7) }, 7},
		"delete":     {func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Delete(ctx, "k") }, 0},
		"invalidate": {func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Invalidate(ctx, "k") }, 0},
		"tag":        {func(ctx context.Context, c *cache.Cache[string, int]) error { return c.InvalidateTags(ctx, "t") }, 0},
		"clear":      {func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Clear(ctx) }, 0},
		"pattern": {func(ctx context.Context, c *cache.Cache[string, int]) error {
			_, err := c.InvalidatePattern(ctx, "*")
			return err
		}, 0},
		"load": {func(ctx context.Context, c *cache.Cache[string, int]) error { _, err := c.Get(ctx, "k"); return err }, 3},
	} {
		for _, covered := range []bool{false, true} {
			for _, many := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/covered %v/many %v", what, covered, many), func(t *testing.T) {
					anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
						ctx := t.Context()
						s := newStubborn()
						strategies := []strategy.Strategy{strategy.TTL(life), strategy.HardTimeout(hard)}
						if covered {
							strategies = append(strategies, strategy.StaleIfError(time.Hour), strategy.RetryAfter(time.Millisecond))
						}
						c := build(s.source(many), strategies...)
						changer := c
						if hook.Of(c).Remote() {
							changer = build(s.source(many), strategies...)
						}
						if _, err := c.Get(ctx, "k"); err != nil {
							t.Fatal(err)
						}
						time.Sleep(2 * life)
						_, _ = c.Get(ctx, "k") // released
						time.Sleep(3 * hard / 4)
						if err := test.change(ctx, changer); err != nil {
							t.Fatal(err)
						}
						synctest.Wait()
						s.end <- func(ctx context.Context) (int, error) {
							cache.CurrentLoad[int](ctx).AddTags("t")
							return 2, nil
						}
						synctest.Wait()
						var info cache.Info
						v, err := c.Peek(ctx, "k", cache.Report(&info))
						if test.want == 0 && !errors.Is(err, cache.ErrMiss) || test.want != 0 && (v != test.want || err != nil) {
							t.Fatalf("%d, %v, want %d", v, err, test.want)
						}
						if what != "nothing" {
							return
						}
						if age := info.Age; age < 7*hard/4 || info.TTL > life-age {
							t.Errorf("it counts as %v old, with %v to live", age, info.TTL)
						}
						time.Sleep(life - 7*hard/4)
						if _, err := c.Peek(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
							t.Errorf("it outlives what its load saw: %v", err)
						}
					})
				})
			}
		}
	}
}

// What comes after the entry's whole life is not stored.
func TestAValueThatIsTooLateIsNotStored(t *testing.T) {
	anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
		ctx := t.Context()
		s := newStubborn()
		s.loads.Store(1)
		c := build(s.source(false), strategy.TTL(3*time.Second), strategy.HardTimeout(hard))
		_, _ = c.Get(ctx, "k")
		time.Sleep(4 * time.Second)
		s.returns(2)
		synctest.Wait()
		if info, err := c.Inspect(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
			t.Error(info, err)
		}
	})
}

// A refresh behind a reader's back ends as well, so that Sync and the next one do not wait.
func TestAStubbornRefreshEnds(t *testing.T) {
	anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
		ctx := t.Context()
		s := newStubborn()
		c := build(s.source(false), strategy.TTL(time.Minute), strategy.StaleWhileRevalidate(time.Hour), strategy.HardTimeout(hard))
		_, _ = c.Get(ctx, "k")
		time.Sleep(2 * time.Minute)
		if v, err := c.Get(ctx, "k"); v != 1 || err != nil {
			t.Fatal(v, err)
		}
		<-s.began
		start := time.Now()
		if err := c.Sync(ctx); err != nil || time.Since(start) > hard+hook.ReleaseGrace {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		s.returns(2)
		synctest.Wait()
		if v, err := c.Get(ctx, "k"); v != 2 || err != nil {
			t.Errorf("%d, %v: the late value was good", v, err)
		}
	})
}

// Close waits for no function of the program for ever, and what such a function returns later
// is not stored.
func TestCloseWaitsForNoFunctionForEver(t *testing.T) {
	for name, begin := range map[string]func(context.Context, *cache.Cache[string, int]) error{
		"Get":     func(ctx context.Context, c *cache.Cache[string, int]) error { _, err := c.Get(ctx, "k"); return err },
		"Refresh": func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Refresh(ctx, "k") },
		"Update": func(ctx context.Context, c *cache.Cache[string, int]) error {
			_, err := c.Update(ctx, "k", func(old int, _ bool) (int, error) { return old, nil })
			return err
		},
		"abandoned": func(ctx context.Context, c *cache.Cache[string, int]) error {
			ctx, leave := context.WithTimeout(ctx, time.Millisecond)
			defer leave()
			if _, err := c.Get(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			return cache.ErrClosed
		},
	} {
		t.Run(name, func(t *testing.T) {
			anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
				ctx := t.Context()
				s := newStubborn()
				s.loads.Store(1)
				c := build(s.source(false))
				back := make(chan error, 1)
				go func() { back <- begin(ctx, c) }()
				<-s.began
				time.Sleep(time.Second)
				start := time.Now()
				if _ = c.Close(); time.Since(start) > hook.CloseGrace {
					t.Errorf("Close took %v", time.Since(start))
				}
				if err := <-back; !errors.Is(err, cache.ErrClosed) {
					t.Error(err)
				}
				s.returns(2)
			})
		})
	}
}

// A loader may close the cache that it loads for.
func TestALoaderMayCloseItsCache(t *testing.T) {
	anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
		var c *cache.Cache[string, int]
		var closed atomic.Bool
		load := func(context.Context, string) (int, error) {
			_ = c.Close()
			closed.Store(true)
			return 1, nil
		}
		c = build(cache.Source[string, int]{Load: load})
		start := time.Now()
		if _, err := c.Get(t.Context(), "k"); !errors.Is(err, cache.ErrClosed) || time.Since(start) > hook.CloseGrace {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		synctest.Wait()
		if !closed.Load() {
			t.Error("Close has not returned")
		}
	})
}

// stuckRecorder is a recorder that does not return from what a load begins with.
type stuckRecorder struct {
	metrics.Discard
	until chan struct{}
}

func (r *stuckRecorder) StartLoad(ctx context.Context, _ metrics.LoadEvent) (context.Context, func(metrics.LoadResult)) {
	<-r.until
	return ctx, func(metrics.LoadResult) {}
}

// Nor is a recorder waited for.
func TestARecorderThatBlocksIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &stuckRecorder{until: make(chan struct{})}
		c, err := build("test", cache.Source[string, int]{Load: func(context.Context, string) (int, error) { return 1, nil }}, []cache.Option{cache.LocalOnly(), quietLog, cache.WithRecorder(r)}, func() store.Store { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), "k"); !errors.Is(err, hook.ErrHardTimeout) {
			t.Error(err)
		}
		_ = c.Close()
		close(r.until)
	})
}

// Whatever waits for a loader that ignores the end of its context is released when the load's
// time is over, with the stale value if there is one that may cover it, and else with an error
// that says so.
func TestALoaderThatIgnoresItsTimeIsLeftAlone(t *testing.T) {
	for name, ask := range map[string]func(context.Context, *cache.Cache[string, int], cache.LoadFunc[string, int]) (int, error){
		"Get": func(ctx context.Context, c *cache.Cache[string, int], load cache.LoadFunc[string, int]) (int, error) {
			return c.Get(ctx, "k")
		},
		"Get anew": func(ctx context.Context, c *cache.Cache[string, int], load cache.LoadFunc[string, int]) (int, error) {
			return c.Get(ctx, "k", cache.MaxAge(0))
		},
		"Refresh": func(ctx context.Context, c *cache.Cache[string, int], load cache.LoadFunc[string, int]) (int, error) {
			return 0, c.Refresh(ctx, "k")
		},
		"Refresh of several": func(ctx context.Context, c *cache.Cache[string, int], load cache.LoadFunc[string, int]) (int, error) {
			var batch *cache.BatchError[string]
			errors.As(c.Refresh(ctx, "k", "l"), &batch)
			return 0, batch.For("k")
		},
		"GetMany": func(ctx context.Context, c *cache.Cache[string, int], load cache.LoadFunc[string, int]) (int, error) {
			m, err := c.GetMany(ctx, []string{"k", "other"})
			var batch *cache.BatchError[string]
			errors.As(err, &batch)
			return m["k"], batch.For("k")
		},
		"GetOrLoad": func(ctx context.Context, c *cache.Cache[string, int], load cache.LoadFunc[string, int]) (int, error) {
			return c.GetOrLoad(ctx, "k", load)
		},
		"Update": func(ctx context.Context, c *cache.Cache[string, int], load cache.LoadFunc[string, int]) (int, error) {
			return c.Update(ctx, "k", func(old int, _ bool) (int, error) { return old, nil })
		},
	} {
		for _, many := range []bool{false, true} {
			for _, covered := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/many %v/covered %v", name, many, covered), func(t *testing.T) {
					anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
						ctx := t.Context()
						s := newStubborn()
						strategies := []strategy.Strategy{strategy.TTL(time.Minute), strategy.HardTimeout(hard)}
						if covered {
							strategies = append(strategies, strategy.StaleIfError(time.Hour))
						}
						c := build(s.source(many), strategies...)
						if name == "Update" && many {
							t.Skip("Update loads keys one by one")
						}
						if err := c.Set(ctx, "other", 1); err != nil {
							t.Fatal(err)
						}
						if _, err := c.Get(ctx, "k"); err != nil {
							t.Fatal(err)
						}
						time.Sleep(2 * time.Minute)
						_ = c.Set(ctx, "other", 1)
						start := time.Now()
						v, err := ask(ctx, c, s.load)
						if took := time.Since(start); took < hard || took > hard+hook.ReleaseGrace {
							t.Errorf("released after %v", took)
						}
						if covered && (name == "Get" || name == "GetMany" || name == "GetOrLoad") {
							if v != 1 || err != nil {
								t.Errorf("%d, %v, though there is a stale value", v, err)
							}
						} else if !errors.Is(err, hook.ErrHardTimeout) || !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("%d, %v", v, err)
						}
						// The next one does not wait for it.
						start = time.Now()
						if v, err := c.Get(ctx, "k", cache.MaxAge(0)); v != 3 || err != nil || time.Since(start) > time.Second {
							t.Errorf("%d, %v after %v", v, err, time.Since(start))
						}
						s.returns(2)
						synctest.Wait()
						if v, err := c.Get(ctx, "k"); v != 3 || err != nil {
							t.Errorf("%d, %v: the late value has replaced a newer one", v, err)
						}
						if !hook.Of(c).NoLoads() {
							t.Error("a place of the load limit is lost")
						}
					})
				})
			}
		}
	}
}
