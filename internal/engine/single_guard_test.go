package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/strategy"
)

// keyedLoad is a loader of single values that depend on the key.
type keyedLoad func(ctx context.Context, key string) (string, error)

func (keyedLoad) HasOne() bool  { return true }
func (keyedLoad) HasMany() bool { return false }
func (f keyedLoad) Load(ctx context.Context, k Key) (Value, error) {
	v, err := f(ctx, *k.(*string))
	return &v, err
}
func (keyedLoad) LoadMany(context.Context, []Key) (Found, error) { panic("not a loader of many") }

// getEach reads keys in one call, and returns the error of each.
func getEach(ctx context.Context, c *Cache, load Loader, keys ...string) (errs []error) {
	s := new(Scratch)
	s.Grow(len(keys))
	for i := range keys {
		s.Add(&keys[i], nil)
	}
	c.Read(ctx, s, load, &Options{})
	for i := range keys {
		_, err := c.Deliver("get", s.At(i))
		errs = append(errs, err)
	}
	return errs
}

// When the cache was closed and its timer stopped, a load may still begin: one whose lease was
// under way.
func TestALoadThatBeginsAfterCloseIsWatched(t *testing.T) {
	for _, how := range []string{"the last load ends after Close", "the last load ends before Close"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var w watchdog
				add := func() *singleLoad {
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					t.Cleanup(cancel)
					s := &singleLoad{ctx: ctx}
					s.state.Store(loadEnded)
					w.add(local.Now(), s)
					return s
				}
				first := add()
				if how == "the last load ends after Close" {
					w.close()
					w.remove(first)
					time.Sleep(5 * time.Millisecond)
				} else {
					w.remove(first)
					time.Sleep(29*time.Second + 500*time.Millisecond)
					w.close()
				}
				add()
				time.Sleep(closeGrace)
				synctest.Wait()
				if n := len(listed(t, &w)); n != 0 {
					t.Errorf("%d loads are left when the grace of Close is over", n)
				}
			})
		})
	}
}

// overContext is a context of a caller that must not be asked once its request is over, such as
// one that is used again.
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

// A load that has waited for a place asks the context of its caller, which is user code.
func TestTheContextOfACallerMayPanicLate(t *testing.T) {
	for name, exit := range map[string]bool{"panic": false, "exit": true} {
		for kind, keys := range map[string][]string{"one key": {"a"}, "several keys": {"a", "b"}} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := testCache[string](t, nil, func(cfg *Config) { cfg.LoadLimit = 1 })
					hold := make(chan struct{})
					load := keyedLoad(func(_ context.Context, key string) (string, error) {
						if key == "first" {
							<-hold
						}
						return key, nil
					})
					go getEach(context.Background(), c, load, "first")
					synctest.Wait()
					var over atomic.Bool
					answers := make(chan []error, 1)
					go func() {
						answers <- getEach(overContext{t.Context(), &over, exit}, c, load, keys...) // which could leave
					}()
					synctest.Wait()
					over.Store(true)
					close(hold)
					synctest.Wait()
					select {
					case got := <-answers:
						for i, err := range got {
							if exit && err == nil || !exit && !usercode.Panicked(err) {
								t.Errorf("%s: error %v", keys[i], err)
							}
						}
					default:
						t.Error("the caller is still waiting")
					}
					if err := getEach(context.Background(), c, load, "third")[0]; err != nil {
						t.Errorf("the place was lost: %v", err)
					}
				})
			})
		}
	}
}

// exitingError ends the goroutine that asks for its text a second time.
type exitingError struct{ asked atomic.Int64 }

func (e *exitingError) Error() string {
	if e.asked.Add(1) > 1 {
		runtime.Goexit()
	}
	return "exits"
}

func TestAFailedLoadWhoseErrorEndsTheGoroutineFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testCache[string](t, nil, nil, strategy.HardTimeout(time.Second))
		load := keyedLoad(func(ctx context.Context, _ string) (string, error) {
			<-ctx.Done()
			return "", &exitingError{}
		})
		if err := getEach(context.Background(), c, load, "k")[0]; err == nil {
			t.Error("it has answered a value")
		}
		if err := getEach(context.Background(), c, keyedLoad(func(context.Context, string) (string, error) { return "v", nil }), "k")[0]; err != nil {
			t.Errorf("then: %v", err)
		}
	})
}

// A batch that begins more loads after Close is answered within its grace.
func TestABatchThatGoesOnAfterCloseIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testCache[string](t, nil, nil)
		hold := make(chan struct{})
		var keys []string
		for i := range loadsAtOnce + 1 {
			keys = append(keys, fmt.Sprint(i))
		}
		var began atomic.Int64
		load := keyedLoad(func(ctx context.Context, key string) (string, error) {
			if began.Add(1) <= loadsAtOnce {
				<-ctx.Done()
				time.Sleep(time.Millisecond)
				return "", ctx.Err()
			}
			<-hold // whatever happens to its context
			return key, nil
		})
		answers := make(chan []error, 1)
		go func() { answers <- getEach(context.Background(), c, load, keys...) }()
		synctest.Wait()
		start := time.Now()
		c.Close()
		if took := time.Since(start); took > 2*closeGrace {
			t.Errorf("Close took %v", took)
		}
		synctest.Wait()
		select {
		case got := <-answers:
			for i, err := range got {
				if !errors.Is(err, errs.ErrClosed) {
					t.Errorf("%s: %v", keys[i], err)
				}
			}
		default:
			t.Error("the caller is still waiting")
		}
		close(hold)
	})
}
