package engine

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/strategy"
)

// listed returns the loads of a watchdog in their order, and checks the links.
func listed(t *testing.T, w *watchdog) (all []*singleLoad) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var previous *singleLoad
	for s := w.first; s != nil; s = s.next {
		if s.previous != previous || !s.listed {
			t.Fatalf("load %d is not linked to the one before", len(all))
		}
		previous, all = s, append(all, s)
	}
	if w.last != previous {
		t.Fatal("the last load is not the last one")
	}
	return all
}

func TestTheWatchdogKeepsLoadsInTheOrderOfTheirEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w watchdog
		add := func(after time.Duration) *singleLoad {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			t.Cleanup(cancel)
			s := &singleLoad{ctx: ctx}
			s.state.Store(loadEnded) // so that its end does nothing
			w.add(local.Now(), s)
			return s
		}
		b, d, a, c := add(2*time.Second), add(4*time.Second), add(time.Second), add(3*time.Second)
		if got := listed(t, &w); !slices.Equal(got, []*singleLoad{a, b, c, d}) {
			t.Error("the order is not that of the ends")
		}
		w.remove(c)
		w.remove(c) // no effect
		if got := listed(t, &w); !slices.Equal(got, []*singleLoad{a, b, d}) {
			t.Error("the one that was removed is still there, or others are not")
		}
		time.Sleep(2*time.Second + releaseGrace)
		synctest.Wait()
		if got := listed(t, &w); !slices.Equal(got, []*singleLoad{d}) {
			t.Errorf("%d loads are left after two seconds, want the one of four", len(got))
		}
		w.close()
		later := add(time.Hour)
		time.Sleep(closeGrace - time.Millisecond)
		synctest.Wait()
		if got := listed(t, &w); !slices.Equal(got, []*singleLoad{d, later}) {
			t.Errorf("%d loads are left before the grace of Close is over, want both", len(got))
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if got := listed(t, &w); len(got) != 0 {
			t.Errorf("%d loads are left after it", len(got))
		}
	})
}

// A loader that ignores its context and then panics, or whose value can't be copied, must not
// end the work that the watchdog has ended.
func TestALoadThatWasTakenOverEndsOnce(t *testing.T) {
	for name, after := range map[string]func() (string, error){
		"value": func() (string, error) { return "late", nil },
		"panic": func() (string, error) { panic("late") },
		"error": func() (string, error) { return "", errors.New("late") },
		"exit":  func() (string, error) { runtime.Goexit(); return "", nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hold := make(chan struct{})
				var loads atomic.Int64
				c := testCache[string](t, nil, nil, strategy.HardTimeout(time.Second))
				load := loadFunc[string](func(context.Context) (string, error) {
					if loads.Add(1) > 1 {
						return "again", nil
					}
					<-hold
					return after()
				})
				began := time.Now()
				if _, err := get[string](t.Context(), c, "k", load, &Options{}); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "hard timeout") {
					t.Errorf("error %v, want that of the hard timeout", err)
				}
				if took := time.Since(began); took != time.Second+releaseGrace {
					t.Errorf("the caller was held for %v", took)
				}
				if n := c.flights.Len(); n != 0 {
					t.Errorf("%d loads are in flight", n)
				}
				close(hold)
				synctest.Wait()
				v, err := get[string](t.Context(), c, "k", load, &Options{})
				if want := map[bool]string{true: "late", false: "again"}[name == "value"]; err != nil || v != want {
					t.Errorf("then %v, error %v, want %q", v, err, want)
				}
				c.Close()
				if _, err := get[string](t.Context(), c, "k", load, &Options{}); !errors.Is(err, errs.ErrClosed) {
					t.Errorf("after Close: %v", err)
				}
			})
		})
	}
}
