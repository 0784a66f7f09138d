package flight

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// goroutine identifies the goroutine that calls it.
func goroutine() string {
	var buf [64]byte
	name, _, _ := bytes.Cut(buf[:runtime.Stack(buf[:], false)], []byte(" ["))
	return string(name)
}

// A work runs in its caller's goroutine only if that is allowed and the caller can't leave.
func TestOnlyTheWorkOfACallerThatStaysRunsInItsGoroutine(t *testing.T) {
	canceled, cancel := context.WithCancel(context.Background())
	defer cancel()
	type valueKey struct{}
	for name, test := range map[string]struct {
		ctx  context.Context
		r    Request[string, int]
		here bool
	}{
		"a context without an end":   {context.Background(), Request[string, int]{Here: true}, true},
		"and with values":            {context.WithValue(context.Background(), valueKey{}, 1), Request[string, int]{Here: true}, true},
		"it is not allowed":          {context.Background(), Request[string, int]{}, false},
		"the context may end":        {canceled, Request[string, int]{Here: true}, false},
		"the wait may end by itself": {context.Background(), Request[string, int]{Here: true, Soft: make(chan struct{})}, false},
	} {
		g, at := newGroup(), ""
		lead := leader[string](func(_ context.Context, mine []*call) {
			at = goroutine()
			g.Resolve(mine[0], "v", nil)
		})
		if r := g.DoSingle(test.ctx, &test.r, lead.begin); r.Val != "v" || r.Err != nil || r.Shared {
			t.Errorf("%s: %+v", name, r)
		}
		if here := at == goroutine(); here != test.here {
			t.Errorf("%s: in the caller's goroutine: %v", name, here)
		}
		g.Close(nil)
		if g.Len() != 0 {
			t.Errorf("%s: the call is left", name)
		}
	}
}

// Others share a work that runs in its caller's goroutine, each under its own context, and whatever
// becomes of it.
func TestAWorkInItsCallersGoroutineIsShared(t *testing.T) {
	for name, test := range map[string]struct {
		end  func()
		want string // the error of those who wait
		ends bool   // the caller's goroutine
	}{
		"an answer": {nil, "", false},
		"a panic":   {func() { panic("boom") }, "recovered boom", false},
		"an exit":   {runtime.Goexit, errUnresolved.Error(), true},
		"silence":   {func() {}, errUnresolved.Error(), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGroup()
				r := Request[string, int]{Key: "k", Here: true}
				lead := leader[string](func(ctx context.Context, mine []*call) {
					time.Sleep(time.Second)
					if ctx.Err() != nil {
						t.Error("the work was abandoned, though its caller is there")
					}
					if test.end == nil {
						g.Resolve(mine[0], "v", nil)
					} else {
						test.end()
					}
				})
				returned, over := false, make(chan struct{})
				go func() {
					defer close(over)
					check(t, "the caller", g.DoSingle(context.Background(), &r, lead.begin), test.want)
					returned = true
				}()
				synctest.Wait()
				for _, ctx := range []context.Context{context.Background(), t.Context()} {
					go func() { check(t, "another one", g.DoSingle(ctx, &r, lead.begin), test.want) }()
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				if r := g.DoSingle(ctx, &r, lead.begin); !errors.Is(r.Err, context.DeadlineExceeded) {
					t.Errorf("one that leaves: %+v", r)
				}
				<-over
				if returned == test.ends {
					t.Errorf("the caller has returned: %v", returned)
				}
				synctest.Wait()
				g.Close(nil)
				if g.Len() != 0 {
					t.Error("the call is left")
				}
			})
		})
	}
}

func check(t *testing.T, who string, r Result[string], want string) {
	t.Helper()
	if want == "" && (r.Val != "v" || r.Err != nil) || want != "" && (r.Err == nil || r.Err.Error() != want) {
		t.Errorf("%s: %+v, want the error %q", who, r, want)
	}
}

// When a work in its caller's goroutine is taken over, the others are answered at once, and the
// caller when its work returns.
func TestAWorkInItsCallersGoroutineIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		r := Request[string, int]{Key: "k", Here: true}
		lead := leader[string](func(_ context.Context, mine []*call) {
			time.AfterFunc(time.Second, func() {
				g.TakeOver(mine[0])
				defer g.Finish(mine[0])
				g.Resolve(mine[0], "v", nil)
			})
			time.Sleep(time.Minute)
		})
		start, others := time.Now(), make(chan time.Duration, 1)
		go func() {
			time.Sleep(time.Millisecond)
			check(t, "another one", g.DoSingle(t.Context(), &r, lead.begin), "")
			others <- time.Since(start)
		}()
		check(t, "the caller", g.DoSingle(context.Background(), &r, lead.begin), "")
		if took := time.Since(start); took != time.Minute {
			t.Errorf("the caller was answered after %v", took)
		}
		if took := <-others; took != time.Second {
			t.Errorf("another one was answered after %v", took)
		}
		g.Close(nil)
	})
}
