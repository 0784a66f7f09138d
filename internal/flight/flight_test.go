package flight

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

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	group = Group[string, int, string]
	call  = Call[string, int, string]
)

type userKey struct{}

func newGroup() *group {
	return New[string, int, string](func(v any, stack []byte) error { return fmt.Errorf("recovered %v", v) })
}

func req(keys ...string) []Request[string, int] {
	out := make([]Request[string, int], len(keys))
	for i, k := range keys {
		out[i].Key = k
	}
	return out
}

// leader is a Leader of one work.
type leader[V any] func(context.Context, []*Call[string, int, V])

func (f leader[V]) NewContext(caller context.Context) Context { return newStandard(caller) }

func (f leader[V]) Lead(ctx context.Context, mine []*Call[string, int, V]) { f(ctx, mine) }

func (f leader[V]) begin(bool) (*Single[string, int, V], Leader[string, int, V]) {
	return new(Single[string, int, V]), f
}

// ways are the ways to ask for one key.
func ways[V any]() map[string]func(*Group[string, int, V], context.Context, Request[string, int], leader[V]) Result[V] {
	return map[string]func(*Group[string, int, V], context.Context, Request[string, int], leader[V]) Result[V]{
		"Do": func(g *Group[string, int, V], ctx context.Context, r Request[string, int], lead leader[V]) Result[V] {
			return g.Do(ctx, []Request[string, int]{r}, lead)[0]
		},
		"DoSingle": func(g *Group[string, int, V], ctx context.Context, r Request[string, int], lead leader[V]) Result[V] {
			return g.DoSingle(ctx, &r, lead.begin)
		},
	}
}

// answer resolves every call with its key and v, after d.
func answer(g *group, d time.Duration, v string) func(context.Context, []*call) {
	return func(ctx context.Context, mine []*call) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return
		}
		for _, c := range mine {
			g.Resolve(c, c.Key+v, nil)
		}
	}
}

func TestCallersShareOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		var works, shared atomic.Int32
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				r := g.Do(t.Context(), req("k"), func(ctx context.Context, mine []*call) {
					works.Add(1)
					answer(g, time.Second, "!")(ctx, mine)
				})[0]
				if r.Val != "k!" || r.Err != nil {
					t.Errorf("%+v", r)
				}
				if r.Shared {
					shared.Add(1)
				}
			})
		}
		wg.Wait()
		if works.Load() != 1 || shared.Load() != 199 || g.Len() != 0 {
			t.Errorf("%d works, %d shared, %d left", works.Load(), shared.Load(), g.Len())
		}
	})
}

func TestALeaderThatLeavesCancelsNoOtherCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		ctx, leave := context.WithCancel(context.WithValue(t.Context(), userKey{}, "ada"))
		var seen any
		var ended error
		leader := make(chan error)
		go func() {
			leader <- g.Do(ctx, req("k"), func(ctx context.Context, mine []*call) {
				seen = ctx.Value(userKey{})
				answer(g, time.Minute, "")(ctx, mine)
				ended = ctx.Err()
			})[0].Err
		}()
		synctest.Wait()
		follower := make(chan Result[string])
		go func() { follower <- g.Do(t.Context(), req("k"), nil)[0] }()
		synctest.Wait()
		leave()
		if err := <-leader; !errors.Is(err, context.Canceled) {
			t.Errorf("the leader got %v", err)
		}
		if r := <-follower; r.Val != "k" || r.Err != nil || !r.Shared {
			t.Errorf("the follower got %+v", r)
		}
		synctest.Wait() // for the work's own end
		if seen != "ada" || ended != nil {
			t.Errorf("the work saw %v, and its context ended with %v", seen, ended)
		}
	})
}

func TestAWaiterObeysItsOwnContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.Do(t.Context(), req("k"), answer(g, time.Second, ""))
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		start := time.Now()
		if r := g.Do(ctx, req("k"), nil)[0]; !errors.Is(r.Err, context.DeadlineExceeded) || time.Since(start) != 50*time.Millisecond {
			t.Errorf("after %v: %+v", time.Since(start), r)
		}
		<-done
	})
}

func TestWorkIsCancelledWhenAllHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		cause := make(chan error, 1)
		work := func(ctx context.Context, mine []*call) {
			<-ctx.Done()
			cause <- context.Cause(ctx)
		}
		// Two callers of one batch, who leave one after the other.
		a, leaveA := context.WithCancel(t.Context())
		b, leaveB := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { g.Do(a, req("x", "y"), work) })
		synctest.Wait()
		wg.Go(func() { g.Do(b, req("y"), nil) })
		synctest.Wait()
		leaveA()
		synctest.Wait()
		if len(cause) != 0 {
			t.Fatal("canceled while a caller waits")
		}
		leaveB()
		wg.Wait()
		if err := <-cause; err != ErrAbandoned {
			t.Errorf("the cause is %v", err)
		}
		// Neither key may be joined any more, x neither, whose caller left first.
		for _, k := range []string{"x", "y"} {
			if r := g.Do(t.Context(), req(k), answer(g, 0, " anew"))[0]; r.Val != k+" anew" || r.Shared {
				t.Errorf("%s: %+v", k, r)
			}
		}
	})
}

func TestACallFromBeforeAMoveIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		old := make(chan Result[string], 1)
		go func() { old <- g.Do(t.Context(), req("k"), answer(g, time.Minute, " old"))[0] }()
		synctest.Wait()
		moved := []Request[string, int]{{Key: "k", Fence: 1}}
		if r := g.Do(t.Context(), moved, answer(g, time.Second, " new"))[0]; r.Val != "k new" || r.Shared {
			t.Errorf("%+v", r)
		}
		alone := []Request[string, int]{{Key: "k", Alone: true}}
		if r := g.Do(t.Context(), alone, answer(g, time.Second, " alone"))[0]; r.Val != "k alone" || r.Shared {
			t.Errorf("%+v", r)
		}
		if r := <-old; r.Val != "k old" {
			t.Errorf("the old call's caller got %+v", r)
		}
		if g.Len() != 0 {
			t.Errorf("%d calls are left", g.Len())
		}
	})
}

func TestOverlappingBatchesMeetKeyByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		var mu sync.Mutex
		led := map[string]int{}
		work := func(v string) func(context.Context, []*call) {
			return func(ctx context.Context, mine []*call) {
				mu.Lock()
				for _, c := range mine {
					led[c.Key]++
				}
				mu.Unlock()
				answer(g, time.Second, v)(ctx, mine)
			}
		}
		var wg sync.WaitGroup
		for i, keys := range [][]string{{"a", "b"}, {"b", "c"}, {"c"}, {"a", "b", "c", "d"}} {
			wg.Go(func() {
				for j, r := range g.Do(t.Context(), req(keys...), work("")) {
					if r.Val != keys[j] || r.Err != nil {
						t.Errorf("batch %d: %s: %+v", i, keys[j], r)
					}
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		for k, n := range led {
			if n != 1 {
				t.Errorf("%s was worked on %d times", k, n)
			}
		}
	})
}

func TestPanicExitAndSilenceAreErrorsForAll(t *testing.T) {
	for name, work := range map[string]func(context.Context, []*call){
		"panic":  func(context.Context, []*call) { time.Sleep(time.Second); panic("boom") },
		"goexit": func(context.Context, []*call) { time.Sleep(time.Second); runtime.Goexit() },
		"silent": func(context.Context, []*call) { time.Sleep(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGroup()
				var wg sync.WaitGroup
				for range 5 {
					wg.Go(func() {
						r := g.Do(t.Context(), req("k"), work)[0]
						if r.Err == nil || (name == "panic") != (r.Err.Error() == "recovered boom") {
							t.Errorf("%v", r.Err)
						}
					})
				}
				wg.Wait()
				if g.Len() != 0 {
					t.Error("the call is left")
				}
			})
		})
	}
}

func TestALeaverKeepsWhatIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		rs := g.Do(ctx, req("slow", "fast"), func(ctx context.Context, mine []*call) {
			g.Resolve(mine[1], "v", nil)
			g.Resolve(mine[1], "again", nil) // the first answer holds
			<-ctx.Done()
		})
		if !errors.Is(rs[0].Err, context.DeadlineExceeded) || rs[1].Val != "v" || rs[1].Err != nil {
			t.Errorf("%+v", rs)
		}
	})
}

func TestCloseCancelsAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		closed := errors.New("closed")
		var ended atomic.Bool
		got := make(chan error, 1)
		go func() {
			got <- g.Do(t.Context(), req("k"), func(ctx context.Context, mine []*call) {
				<-ctx.Done()
				g.Resolve(mine[0], "", context.Cause(ctx))
				time.Sleep(time.Second)
				ended.Store(true)
			})[0].Err
		}()
		synctest.Wait()
		g.Close(closed)
		if !ended.Load() {
			t.Error("Close did not wait")
		}
		g.Close(errors.New("again"))
		if err := <-got; err != closed {
			t.Errorf("the caller got %v", err)
		}
		if r := g.Do(t.Context(), req("k"), nil)[0]; r.Err != closed || !r.Refused {
			t.Errorf("later: %+v", r)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if r := newGroup().Do(ctx, req("k"), nil)[0]; !r.Refused || !errors.Is(r.Err, context.Canceled) {
			t.Errorf("%+v", r)
		}
	})
}
