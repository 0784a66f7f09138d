package memory_test

import (
	"bytes"
	"context"
	"errors"
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

var tierKinds = []string{"local only", "Redis", "two tiers"}

// goroutine identifies the goroutine that calls it.
func goroutine() string {
	var buf [64]byte
	name, _, _ := bytes.Cut(buf[:runtime.Stack(buf[:], false)], []byte(" ["))
	return string(name)
}

// A load runs in its caller's goroutine where that can't leave: its context never ends, and no
// timeout was given.
func TestACallerThatCantLeaveLoadsByItself(t *testing.T) {
	for _, kind := range tierKinds {
		for name, test := range map[string]struct {
			leaves     bool
			strategies []strategy.Strategy
			opts       []cache.LoadOption
			here       bool
		}{
			"no timeout":             {here: true},
			"a caller that may":      {leaves: true},
			"a timeout of the cache": {strategies: []strategy.Strategy{strategy.HardTimeout(time.Minute)}},
			"a timeout of the call":  {opts: []cache.LoadOption{cache.With(strategy.HardTimeout(time.Minute))}},
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := ofKind(t, kind, storetest.NewMemory(), cache.Source[string, string]{}, cache.WithStrategy(test.strategies...))
					ctx := context.Background()
					if test.leaves {
						ctx = t.Context()
					}
					at := ""
					v, err := c.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) {
						at = goroutine()
						return "v", nil
					}, test.opts...)
					if v != "v" || err != nil {
						t.Fatal(v, err)
					}
					if here := at == goroutine(); here != test.here {
						t.Errorf("in the caller's goroutine: %v", here)
					}
				})
			})
		}
	}
}

// Such a caller has to wait for a loader that ignores the end of its context. All others are
// answered at the hard timeout, or when they leave, and what the loader returns is stored.
func TestWhoHasJoinedACallerThatCantLeaveNeedNotWait(t *testing.T) {
	const hard, long = 30 * time.Second, 40 * time.Second
	for _, kind := range tierKinds {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var loads atomic.Int32
				c := ofKind(t, kind, storetest.NewMemory(), cache.SourceFunc(func(context.Context, string) (string, error) {
					loads.Add(1)
					time.Sleep(long)
					return "v", nil
				}), cache.WithLoadLimit(1))
				start := time.Now()
				var wg sync.WaitGroup
				answered := func(who string, want error, least, most time.Duration, get func() error) {
					wg.Go(func() {
						if err := get(); !errors.Is(err, want) {
							t.Errorf("%s: %v, want %v", who, err, want)
						}
						if took := time.Since(start); took < least || took > most {
							t.Errorf("%s: answered after %v, want %v", who, took, most)
						}
					})
					synctest.Wait()
				}
				one := func(ctx context.Context) func() error {
					return func() error { _, err := c.Get(ctx, "k"); return err }
				}
				brief, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				answered("the caller", hook.ErrHardTimeout, long, long, one(context.Background()))
				answered("another that can't leave", hook.ErrHardTimeout, hard, hard+hook.ReleaseGrace, one(context.Background()))
				answered("one that may", hook.ErrHardTimeout, hard, hard+hook.ReleaseGrace, one(t.Context()))
				answered("one that leaves", context.DeadlineExceeded, time.Second, time.Second, one(brief))
				answered("a batch", hook.ErrHardTimeout, hard, hard+hook.ReleaseGrace, func() error {
					_, err := c.GetMany(t.Context(), []string{"k"})
					var batch *cache.BatchError[string]
					errors.As(err, &batch)
					return batch.For("k")
				})
				wg.Wait()
				synctest.Wait()
				if v, err := c.Get(t.Context(), "k"); v != "v" || err != nil || loads.Load() != 1 {
					t.Errorf("then: %q, %v after %d loads", v, err, loads.Load())
				}
				if _, err := c.Get(t.Context(), "other"); !errors.Is(err, hook.ErrHardTimeout) {
					t.Errorf("the place was lost: %v", err)
				}
				time.Sleep(long) // until that loader has returned as well
			})
		})
	}
}

// Close does not wait for such a caller.
func TestCloseWhileACallerLoadsByItself(t *testing.T) {
	for _, kind := range tierKinds {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hold, begun := make(chan struct{}), make(chan struct{})
				c := ofKind(t, kind, storetest.NewMemory(), cache.SourceFunc(func(context.Context, string) (string, error) {
					close(begun)
					<-hold
					return "v", nil
				}))
				errs := make(chan error, 2)
				get := func(ctx context.Context) {
					_, err := c.Get(ctx, "k")
					errs <- err
				}
				go get(context.Background())
				<-begun
				go get(t.Context())
				synctest.Wait()
				start := time.Now()
				_ = c.Close()
				if took := time.Since(start); took > 2*hook.CloseGrace {
					t.Errorf("Close took %v", took)
				}
				if err := <-errs; !errors.Is(err, cache.ErrClosed) {
					t.Errorf("one that has joined: %v", err)
				}
				close(hold)
				if err := <-errs; !errors.Is(err, cache.ErrClosed) {
					t.Errorf("the caller: %v", err)
				}
			})
		})
	}
}

// A caller that can't leave may load a key from within the load of another one, and does not wait for
// its own load.
func TestALoadFromWithinALoadInTheCallersGoroutine(t *testing.T) {
	for _, kind := range tierKinds {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c *cache.Cache[string, string]
				c = ofKind(t, kind, storetest.NewMemory(), cache.SourceFunc(func(ctx context.Context, k string) (string, error) {
					switch k {
					case "outer":
						v, err := c.Get(context.Background(), "inner")
						return "of " + v, err
					case "itself":
						return c.Get(ctx, "itself")
					}
					return k, nil
				}))
				if v, err := c.Get(context.Background(), "outer"); v != "of inner" || err != nil {
					t.Errorf("%q, %v", v, err)
				}
				if v, err := c.Get(context.Background(), "itself"); !errors.Is(err, hook.ErrWaitsForItself) {
					t.Errorf("%q, %v", v, err)
				}
			})
		})
	}
}
