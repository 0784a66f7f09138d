package flight

import (
	"context"
	"errors"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestCloseIsTheAnswerOfWorkThatStopsWithoutAWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, closed := newGroup(), errors.New("closed")
		got := make(chan error, 3)
		for _, stop := range []func(){func() {}, runtime.Goexit} {
			go func() {
				// Alone: each has a work of its own.
				got <- g.Do(t.Context(), []Request[string, int]{{Key: "k", Alone: true}}, func(ctx context.Context, _ []*call) {
					<-ctx.Done()
					stop()
				})[0].Err
			}()
		}
		synctest.Wait()
		g.Close(closed)
		for range 2 {
			if err := <-got; err != closed {
				t.Errorf("a caller got %v", err)
			}
		}
	})
}

func TestEveryCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		var ended atomic.Bool
		go g.Do(t.Context(), req("k"), func(context.Context, []*call) {
			time.Sleep(time.Minute)
			ended.Store(true)
		})
		synctest.Wait()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				g.Close(errors.New("closed"))
				if !ended.Load() {
					t.Error("Close did not wait")
				}
			})
		}
		wg.Wait()
	})
}

func TestCloseWithoutACauseStillCloses(t *testing.T) {
	g := newGroup()
	g.Close(nil)
	if r := g.Do(t.Context(), req("k"), nil)[0]; r.Err != context.Canceled || !r.Refused {
		t.Errorf("%+v", r)
	}
}

// A reader that took its fence before a move and comes late does not keep those
// who came after the move from sharing their call.
func TestReadersOfTwoFencesShareAmongThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		var works atomic.Int32
		var wg sync.WaitGroup
		for i := range 20 {
			at := []Request[string, int]{{Key: "k", Fence: i % 2}}
			wg.Go(func() {
				r := g.Do(t.Context(), at, func(ctx context.Context, mine []*call) {
					works.Add(1)
					if mine[0].Fence != i%2 {
						t.Errorf("a call of fence %d for %d", mine[0].Fence, i%2)
					}
					answer(g, time.Second, "")(ctx, mine)
				})[0]
				if r.Err != nil {
					t.Error(r.Err)
				}
			})
			synctest.Wait() // they come one after the other
		}
		wg.Wait()
		if n := works.Load(); n != 2 {
			t.Errorf("%d works for two fences", n)
		}
	})
}

func TestARequestAloneMayBeJoinedByLaterOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		var wg sync.WaitGroup
		wg.Go(func() {
			if r := g.Do(t.Context(), req("k"), answer(g, time.Minute, " first"))[0]; r.Val != "k first" {
				t.Errorf("%+v", r)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			alone := []Request[string, int]{{Key: "k", Alone: true}}
			if r := g.Do(t.Context(), alone, answer(g, time.Second, " alone"))[0]; r.Val != "k alone" || r.Shared {
				t.Errorf("%+v", r)
			}
		})
		synctest.Wait()
		if r := g.Do(t.Context(), req("k"), nil)[0]; r.Val != "k alone" || !r.Shared {
			t.Errorf("%+v", r)
		}
		wg.Wait()
	})
}

// The batch's other key is what still keeps the work going; when that is answered,
// or its caller leaves too, no caller is left.
func TestWorkIsCancelledWhenOnlyAbandonedKeysAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		ctx, leave := context.WithCancel(t.Context())
		cause := make(chan error, 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			g.Do(ctx, req("wanted", "unwanted"), func(ctx context.Context, mine []*call) {
				time.Sleep(time.Second)
				g.Resolve(mine[0], "v", nil)
				<-ctx.Done()
				cause <- context.Cause(ctx)
			})
		})
		synctest.Wait()
		wg.Go(func() {
			if r := g.Do(t.Context(), req("wanted"), nil)[0]; r.Val != "v" {
				t.Errorf("%+v", r)
			}
		})
		synctest.Wait()
		leave()
		wg.Wait()
		if err := <-cause; err != ErrAbandoned {
			t.Errorf("the cause is %v", err)
		}
	})
}

// Someone who comes while one key of a batch has no callers, but its work goes on
// for another key, joins it.
func TestAnAbandonedKeyOfALivingBatchMayBeJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		ctx, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { g.Do(ctx, req("x", "y"), answer(g, time.Minute, "")) })
		synctest.Wait()
		wg.Go(func() { g.Do(t.Context(), req("y"), nil) })
		synctest.Wait()
		leave()
		synctest.Wait()
		if r := g.Do(t.Context(), req("x"), nil)[0]; r.Val != "x" || !r.Shared {
			t.Errorf("%+v", r)
		}
		wg.Wait()
	})
}

func TestResolvedSaysWhetherThereIsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		g.Do(t.Context(), req("k"), func(_ context.Context, mine []*call) {
			if mine[0].Resolved() {
				t.Error("before the answer")
			}
			g.Resolve(mine[0], "v", nil)
			if !mine[0].Resolved() {
				t.Error("after the answer")
			}
		})
	})
}

func TestAKeyThatDiffersFromItselfLeavesNothing(t *testing.T) {
	g := New[float64, int, string](nil)
	for range 3 {
		r := g.Do(t.Context(), []Request[float64, int]{{Key: math.NaN()}}, func(_ context.Context, mine []*Call[float64, int, string]) {
			g.Resolve(mine[0], "v", nil)
		})[0]
		if r.Val != "v" || r.Shared {
			t.Errorf("%+v", r)
		}
	}
	if g.Len() != 0 {
		t.Errorf("%d calls are left", g.Len())
	}
}

func TestAKeyThatCanNotBeHashedPanicsInItsCallerOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New[any, int, string](nil)
		lead := func(_ context.Context, mine []*Call[any, int, string]) {
			for _, c := range mine {
				g.Resolve(c, "v", nil)
			}
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			g.Do(t.Context(), []Request[any, int]{{Key: "good"}, {Key: []int{1}}}, lead)
		}()
		if r := g.Do(t.Context(), []Request[any, int]{{Key: "good"}}, lead)[0]; r.Val != "v" || r.Shared {
			t.Errorf("%+v", r)
		}
	})
}

// The work of a caller that leaves is cancelled, and may say so in its answer,
// before the caller has turned away.
func TestALeaverGetsTheErrorOfItsOwnContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New[int, int, string](nil)
		var wg sync.WaitGroup
		for key := range 1000 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				r := g.Do(ctx, []Request[int, int]{{Key: key}}, func(ctx context.Context, mine []*Call[int, int, string]) {
					<-ctx.Done()
					g.Resolve(mine[0], "", context.Cause(ctx))
				})[0]
				if r.Err != context.DeadlineExceeded {
					t.Errorf("it got %v", r.Err)
				}
			})
		}
		wg.Wait()
	})
}

// A loader that does not look at its context goes on after all have left. No one
// joins it, and its late end does not touch the call that took its place.
func TestDeafWorkIsNotJoinedAndDisturbsNoNewcomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		g.Do(ctx, req("k"), func(_ context.Context, mine []*call) {
			time.Sleep(time.Minute)
			g.Resolve(mine[0], "deaf", nil)
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			if r := g.Do(t.Context(), req("k"), answer(g, time.Hour, " anew"))[0]; r.Val != "k anew" || r.Shared {
				t.Errorf("%+v", r)
			}
		})
		time.Sleep(2 * time.Minute) // the deaf one has ended
		if r := g.Do(t.Context(), req("k"), nil)[0]; r.Val != "k anew" || !r.Shared {
			t.Errorf("%+v", r)
		}
		wg.Wait()
	})
}
