package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/breaker"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

// sluggish is a store that answers after a while, whatever the context says, and knows how much
// is under way.
type sluggish struct {
	*storetest.Memory
	takes          time.Duration
	underway, most atomic.Int32
}

func (s *sluggish) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	n := s.underway.Add(1)
	defer s.underway.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	time.Sleep(s.takes)
	return s.Memory.Do(context.Background(), cmds)
}

func (s *sluggish) PoolSize() int { return 8 }

// A large operation has its place for as long as it is on its way, and not for as long as
// its caller waits: callers that leave soon do not pile up what is large.
func TestALargeOperationHasItsPlaceUntilItHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sluggish{Memory: storetest.NewMemory(), takes: 10 * time.Second}
		g := New(s, 250*time.Millisecond)
		defer g.Close()
		large := []store.Command{{Op: store.Set, Key: "large", Frame: make([]byte, largeRecord)}}
		for range 20 {
			ctx, leave := context.WithTimeout(t.Context(), 10*time.Millisecond)
			if r := g.Do(ctx, large)[0]; !errors.Is(r.Err, context.DeadlineExceeded) {
				t.Fatal(r.Err)
			}
			leave()
		}
		if most := s.most.Load(); most != 4 {
			t.Errorf("%d large operations were under way, of 4 that may be", most)
		}
		time.Sleep(s.takes)
		synctest.Wait()
		s.takes = 0
		if r := g.Do(t.Context(), large)[0]; r.Err != nil {
			t.Errorf("when they have ended: %v", r.Err)
		}
	})
}

// Whatever an operation waits for, it takes no longer than the timeout in all; and that there
// was no place for it says nothing of Redis.
func TestTheTimeoutBoundsWaitingForAPlace(t *testing.T) {
	const timeout = 250 * time.Millisecond
	for _, free := range []time.Duration{40 * time.Millisecond, 240 * time.Millisecond, time.Minute} {
		for _, prompt := range []bool{false, true} {
			t.Run(fmt.Sprintf("a place after %v, prompt %v", free, prompt), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &fake{Memory: storetest.NewMemory(), prompt: prompt, act: func(ctx context.Context) error {
						select {
						case <-time.After(200 * time.Millisecond):
							return nil
						case <-ctx.Done():
							return ctx.Err()
						}
					}}
					g := New(s, timeout)
					defer g.Close()
					opened := circuits(g, 1)
					var observed error
					g.Observe = func(_ context.Context, o Observation) { observed = o.Err }
					for range cap(g.wide) {
						g.wide <- struct{}{}
					}
					time.AfterFunc(free, func() { <-g.wide })
					start := time.Now()
					r := g.Do(t.Context(), []store.Command{{Op: store.Set, Key: "k", Frame: make([]byte, largeRecord)}})[0]
					if took := time.Since(start); took > timeout {
						t.Errorf("it took %v", took)
					}
					if want := free < 50*time.Millisecond; (r.Err == nil) != want || !want && (r.Err != ErrNoPlace || observed != ErrNoPlace) {
						t.Errorf("%v, %v", r.Err, observed)
					}
					time.Sleep(time.Minute)
					if *opened > 0 {
						t.Error("the circuit was opened")
					}
					for range cap(g.wide) - 1 {
						<-g.wide
					}
				})
			})
		}
	}
}

// A read that finds out late that its record is large has what is left of its time for it.
func TestTheTimeoutBoundsAReadOfALargeRecord(t *testing.T) {
	const timeout = 250 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		s := &fake{Memory: storetest.NewMemory(), prompt: true, act: func(ctx context.Context) error {
			select {
			case <-time.After(200 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		s.Memory.Do(t.Context(), []store.Command{{Op: store.Set, Key: "k", Frame: make([]byte, 2*largeRecord)}})
		g := New(s, timeout)
		defer g.Close()
		g.sizes.last.Store(max(int64(time.Since(started)), 1)) // there are large ones among the small
		start := time.Now()
		_, err := g.Get(t.Context(), "k")
		var late *TimeoutError
		if took := time.Since(start); took > timeout || !errors.As(err, &late) {
			t.Errorf("it took %v: %v", took, err)
		}
	})
}

// A batch that the window keeps from going in one piece opens it, however small it is.
func TestTheWindowOpensForBatchesOfAnySize(t *testing.T) {
	for _, bytes := range []int{70 << 10, 100 << 10, 130 << 10, 500 << 10} {
		t.Run(fmt.Sprintf("%d bytes", bytes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &narrow{Memory: storetest.NewMemory(), rate: 125e6}
				g := New(s, 250*time.Millisecond)
				defer g.Close()
				cmds := make([]store.Command, 50)
				for i := range cmds {
					cmds[i] = store.Command{Op: store.Set, Key: fmt.Sprint("key", i), Frame: make([]byte, bytes/len(cmds))}
				}
				for range 8 {
					s.calls = 0
					for _, r := range g.Do(t.Context(), cmds) {
						if r.Err != nil {
							t.Fatal(r.Err)
						}
					}
				}
				if s.calls != 1 {
					t.Errorf("it goes in %d pieces", s.calls)
				}
			})
		})
	}
}

// What was not sent, and what was refused, says nothing of the link: the window stays.
func TestOnlyTooLittleTimeClosesTheWindow(t *testing.T) {
	for name, tt := range map[string]struct {
		failure error
		closes  bool
	}{
		"left alone": {ErrOpen, false},
		"hung up":    {io.EOF, false},
		"too late":   {&TimeoutError{After: time.Second}, true},
	} {
		var w window
		w.adapt(&piece{began: time.Now(), failure: tt.failure}, time.Second)
		if closed := w.bytes() < windowFirst; closed != tt.closes {
			t.Errorf("%s: the window has %d bytes", name, w.bytes())
		}
	}
}

// One server has one circuit: whatever goes there is one operation, and costs no more to
// look after than a single command.
func TestOneServerIsOneOperation(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer rdb.Close()
	s, err := redisstore.NewRedis(rdb)
	if err != nil {
		t.Fatal(err)
	}
	g := New(s, time.Second)
	defer g.Close()
	g.Break(breaker.Config{Failures: 1, Open: time.Hour})
	cmds := []store.Command{{Op: store.Get, Key: "a", Shared: true}, {Op: store.Set, Key: "b"}, {Op: store.Set, Key: "c"}}
	count := func(cmds []store.Command) float64 {
		return testing.AllocsPerRun(100, func() {
			var a admission
			if err := g.breaker.admit(&a, cmds, false); err != nil || !a.all.tracked() || a.of != nil {
				t.Fatalf("%+v %v", &a, err)
			}
			a.all.settle(nil)
		})
	}
	if one, three := count(cmds[:1]), count(cmds); one != three {
		t.Errorf("%v allocations for one command, %v for three", one, three)
	}
}

// The failure of what is large is looked into, and the outcome counts once for all that failed
// meanwhile.
func TestALargeFailureIsSettled(t *testing.T) {
	for name, away := range map[string]bool{"the server answers": false, "it does not": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &fake{Memory: storetest.NewMemory(), act: func(context.Context) error {
					time.Sleep(time.Millisecond)
					if away {
						return io.EOF
					}
					return nil
				}}
				g := New(s, time.Second)
				opened := circuits(g, 3)
				fail := func(large bool) {
					e := new(entry)
					if err := g.breaker.enter(e, "k", large); err != nil {
						t.Fatal(err)
					}
					e.settle(io.EOF)
					e.settle(io.EOF)
				}
				failTogether := func() {
					for range 3 {
						fail(true)
					}
					synctest.Wait()
					time.Sleep(time.Second)
					synctest.Wait()
				}
				if away { // two failures
					failTogether()
					failTogether()
				} else { // two failures, and a success after them
					fail(false)
					fail(false)
					failTogether()
				}
				g.Close()
				failTogether() // does not count
				if *opened > 0 {
					t.Error("opened too early")
				}
				if fail(false); away != (*opened == 1) {
					t.Errorf("opened %d times at the third failure", *opened)
				}
			})
		})
	}
}

// The same through Do: a circuit that was opened while large operations were under way closes
// when the server is back.
func TestACircuitClosesAfterLargeFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		s := &narrow{Memory: storetest.NewMemory(), rate: math.Inf(1), away: func([]store.Command) error {
			time.Sleep(time.Millisecond)
			if away.Load() {
				return io.EOF
			}
			return nil
		}}
		g := New(s, time.Second)
		defer g.Close()
		g.Break(breaker.Config{Failures: 1, Open: time.Millisecond})
		away.Store(true)
		large := []store.Command{{Op: store.Set, Key: "large", Frame: make([]byte, largeRecord)}}
		for range 100 {
			for range 10 {
				go g.Do(t.Context(), large)
			}
			time.Sleep(700 * time.Microsecond)
		}
		away.Store(false)
		time.Sleep(time.Second)
		if r := g.Do(t.Context(), large)[0]; r.Err != nil {
			t.Error(r.Err)
		}
	})
}
