package flight

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// Which call of the same key and fence a request joins.
func TestWhoJoins(t *testing.T) {
	for name, tt := range map[string]struct {
		first, second Request[string, int]
		joins         bool
	}{
		"later":            {Request[string, int]{Now: 1}, Request[string, int]{Now: 2}, true},
		"not before":       {Request[string, int]{Now: 5}, Request[string, int]{Now: 6, NotBefore: 5}, true},
		"began too early":  {Request[string, int]{Now: 4}, Request[string, int]{Now: 6, NotBefore: 5}, false},
		"another fence":    {Request[string, int]{}, Request[string, int]{Fence: 1}, false},
		"alone":            {Request[string, int]{}, Request[string, int]{Alone: true}, false},
		"behind one alone": {Request[string, int]{Alone: true}, Request[string, int]{}, true},
		"apart":            {Request[string, int]{}, Request[string, int]{Apart: true}, false},
		"behind one apart": {Request[string, int]{Apart: true}, Request[string, int]{}, false},
	} {
		for first, ask := range ways[int]() {
			for second, askAgain := range ways[int]() {
				t.Run(name+"/"+first+"/"+second, func(t *testing.T) { whoJoins(t, tt.first, tt.second, tt.joins, ask, askAgain) })
			}
		}
	}
}

func whoJoins(t *testing.T, one, two Request[string, int], joins bool, ask, askAgain func(*Group[string, int, int], context.Context, Request[string, int], leader[int]) Result[int]) {
	for name, ctx := range map[string]func(*testing.T) context.Context{
		"a context that can end": func(t *testing.T) context.Context { return t.Context() },
		"one that can't":         func(*testing.T) context.Context { return context.Background() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := New[string, int, int](func(any, []byte) error { return errors.New("panic") })
				hold := make(chan struct{})
				works := 0
				lead := func(_ context.Context, mine []*Call[string, int, int]) {
					works++
					n := works
					<-hold
					g.Resolve(mine[0], n, nil)
				}
				one.Key, two.Key = "k", "k"
				var first, second Result[int]
				go func() { first = ask(g, ctx(t), one, lead) }()
				synctest.Wait()
				go func() { second = askAgain(g, ctx(t), two, lead) }()
				synctest.Wait()
				close(hold)
				synctest.Wait()
				if first.Val != 1 || first.Joined != joins || first.Shared || second.Shared != joins || (second.Val == 1) != joins || second.Err != nil {
					t.Errorf("%+v and %+v", first, second)
				}
				if g.Len() != 0 {
					t.Errorf("%d calls are left", g.Len())
				}
			})
		})
	}
}

// What is answered is the answer, though the wait for it has ended at the same time.
func TestAnAnswerCountsThoughTheWaitHasEnded(t *testing.T) {
	for range 50 { // a select chooses
		synctest.Test(t, func(t *testing.T) {
			g := New[string, int, int](func(any, []byte) error { return errors.New("panic") })
			answered, soft := make(chan struct{}), make(chan struct{})
			var got []Result[int]
			go func() {
				got = g.Do(t.Context(), []Request[string, int]{{Key: "first"}, {Key: "second", Soft: soft}}, func(_ context.Context, mine []*Call[string, int, int]) {
					g.Resolve(mine[1], 2, nil)
					close(soft)
					<-answered
					g.Resolve(mine[0], 1, nil)
				})
			}()
			synctest.Wait()
			close(answered)
			synctest.Wait()
			if got[1].Late || got[1].Val != 2 {
				t.Errorf("%+v", got[1])
			}
		})
	}
}

func TestAWaitThatHasEndedLeavesTheWorkGoingOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New[string, int, int](func(any, []byte) error { return errors.New("panic") })
		answer, soft := make(chan struct{}), make(chan struct{})
		ended := make(chan error, 1)
		close(soft)
		got := g.Do(t.Context(), []Request[string, int]{{Key: "k", Soft: soft}}, func(ctx context.Context, mine []*Call[string, int, int]) {
			<-answer
			ended <- ctx.Err()
			g.Resolve(mine[0], 1, nil)
		})[0]
		if !got.Late || got.Val != 0 || got.Err != nil {
			t.Errorf("%+v", got)
		}
		close(answer)
		if err := <-ended; err != nil {
			t.Errorf("the work was cancelled: %v", err)
		}
	})
}
