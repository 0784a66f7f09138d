package cache

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

func (s *stubborn) source(many bool) Source[string, int] {
	if !many {
		return Source[string, int]{Load: s.load}
	}
	return Source[string, int]{LoadMany: func(ctx context.Context, keys []string) (map[string]int, error) {
		v, err := s.load(ctx, keys[0])
		vals := map[string]int{}
		for _, k := range keys {
			vals[k] = v
		}
		return vals, err
	}}
}

const hard = 2 * time.Second

// Whatever waits for a loader that ignores the end of its context is released when the load's
// time is over, with the stale value if there is one that may cover it, and else with an error
// that says so.
func TestALoaderThatIgnoresItsTimeIsLeftAlone(t *testing.T) {
	for name, ask := range map[string]func(context.Context, *Cache[string, int]) (int, error){
		"Get":      func(ctx context.Context, c *Cache[string, int]) (int, error) { return c.Get(ctx, "k") },
		"Get anew": func(ctx context.Context, c *Cache[string, int]) (int, error) { return c.Get(ctx, "k", MaxAge(0)) },
		"Refresh":  func(ctx context.Context, c *Cache[string, int]) (int, error) { return 0, c.Refresh(ctx, "k") },
		"Refresh of several": func(ctx context.Context, c *Cache[string, int]) (int, error) {
			var batch *BatchError[string]
			errors.As(c.Refresh(ctx, "k", "l"), &batch)
			return 0, batch.For("k")
		},
		"GetMany": func(ctx context.Context, c *Cache[string, int]) (int, error) {
			m, err := c.GetMany(ctx, []string{"k", "other"})
			var batch *BatchError[string]
			errors.As(err, &batch)
			return m["k"], batch.For("k")
		},
		"GetOrLoad": func(ctx context.Context, c *Cache[string, int]) (int, error) {
			return c.GetOrLoad(ctx, "k", loaderOf(c))
		},
		"Update": func(ctx context.Context, c *Cache[string, int]) (int, error) {
			return c.Update(ctx, "k", func(old int, _ bool) (int, error) { return old, nil })
		},
	} {
		for _, many := range []bool{false, true} {
			for _, covered := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/many %v/covered %v", name, many, covered), func(t *testing.T) {
					anyTiers(t, func(t *testing.T, build func(Source[string, int], ...strategy.Strategy) *Cache[string, int]) {
						ctx := t.Context()
						s := newStubborn()
						strategies := []strategy.Strategy{strategy.TTL(time.Minute), strategy.HardTimeout(hard)}
						if covered {
							strategies = append(strategies, strategy.StaleIfError(time.Hour))
						}
						c := build(s.source(many), strategies...)
						if name == "Update" && c.loader.one == nil {
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
						v, err := ask(ctx, c)
						if took := time.Since(start); took < hard || took > hard+releaseGrace {
							t.Errorf("released after %v", took)
						}
						if covered && (name == "Get" || name == "GetMany" || name == "GetOrLoad") {
							if v != 1 || err != nil {
								t.Errorf("%d, %v, though there is a stale value", v, err)
							}
						} else if !errors.Is(err, errHardTimeout) || !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("%d, %v", v, err)
						}
						// The next one does not wait for it.
						start = time.Now()
						if v, err := c.Get(ctx, "k", MaxAge(0)); v != 3 || err != nil || time.Since(start) > time.Second {
							t.Errorf("%d, %v after %v", v, err, time.Since(start))
						}
						s.returns(2)
						synctest.Wait()
						if v, err := c.Get(ctx, "k"); v != 3 || err != nil {
							t.Errorf("%d, %v: the late value has replaced a newer one", v, err)
						}
						if n := c.limit.places.TryAcquire(defaultLoadLimit); !n {
							t.Error("a place of the load limit is lost")
						}
					})
				})
			}
		}
	}
}

func loaderOf(c *Cache[string, int]) LoadFunc[string, int] {
	if c.src.Load != nil {
		return c.src.Load
	}
	return oneOf(c.src.LoadMany)
}
