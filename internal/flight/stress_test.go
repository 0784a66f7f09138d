package flight

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// history is what the works of one random schedule did.
type history struct {
	t  *testing.T
	g  *Group[string, int, product]
	mu sync.Mutex
	// open are the works that have begun and not yet answered, by what they do.
	open   map[Request[string, int]][]context.Context
	alone  bool // some callers want to be alone, and so there may be several
	closed atomic.Bool
}

// product is the value of a work: who made it, and of what.
type product struct {
	of        Request[string, int]
	work      *Call[string, int, product] // its first call stands for it
	abandoned func() time.Time            // when; zero if it was not
}

var (
	errFailed = errors.New("failed")
	errClosed = errors.New("closed")
	errPanic  = errors.New("panicked")
)

func (h *history) begin(ctx context.Context, c *Call[string, int, product]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := Request[string, int]{Key: c.Key, Fence: c.Fence}
	for _, other := range h.open[id] {
		if other.Err() == nil && !h.alone {
			h.t.Errorf("%v is worked on twice, and no caller left the first", id)
		}
	}
	h.open[id] = append(h.open[id], ctx)
}

func (h *history) end(ctx context.Context, c *Call[string, int, product]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := Request[string, int]{Key: c.Key, Fence: c.Fence}
	var rest []context.Context
	for _, other := range h.open[id] {
		if other != ctx {
			rest = append(rest, other)
		}
	}
	h.open[id] = rest
}

// lead is work that does whatever a loader may do, well-behaved or not.
func (h *history) lead(r *rand.Rand) func(context.Context, []*Call[string, int, product]) {
	return func(ctx context.Context, mine []*Call[string, int, product]) {
		var mu sync.Mutex
		var at time.Time
		context.AfterFunc(ctx, func() {
			if context.Cause(ctx) == ErrAbandoned {
				mu.Lock()
				at = time.Now()
				mu.Unlock()
			}
		})
		abandoned := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return at
		}
		for _, c := range mine {
			h.begin(ctx, c)
		}
		defer func() {
			for _, c := range mine {
				h.end(ctx, c)
			}
		}()
		deaf := r.IntN(4) == 0
		for _, c := range mine {
			pause := time.After(time.Duration(r.IntN(200)) * time.Millisecond)
			if deaf {
				<-pause
			} else {
				select {
				case <-pause:
				case <-ctx.Done():
					return // without a word
				}
			}
			var err error
			switch r.IntN(20) {
			case 0:
				panic("boom")
			case 1:
				runtime.Goexit()
			case 2:
				err = errFailed
			}
			h.end(ctx, c)
			h.g.Resolve(c, product{Request[string, int]{Key: c.Key, Fence: c.Fence}, mine[0], abandoned}, err)
			if r.IntN(5) == 0 {
				h.g.Resolve(c, product{}, nil) // too late
			}
		}
	}
}

// call is one caller, who checks what it gets.
func (h *history) call(r *rand.Rand, fences map[string]*atomic.Int64) {
	t := h.t
	alone := h.alone && r.IntN(5) == 0
	var reqs []Request[string, int]
	for k, f := range fences {
		if r.IntN(3) == 0 {
			f.Add(1)
		}
		if r.IntN(2) == 0 {
			reqs = append(reqs, Request[string, int]{Key: k, Fence: int(f.Load()), Alone: alone})
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+r.IntN(400))*time.Millisecond)
	defer cancel()
	start := time.Now()
	var led *Call[string, int, product]
	lead := h.lead(r)
	if r.IntN(4) == 0 {
		ctx = context.Background() // the wait is another one
	}
	var results []Result[product]
	if len(reqs) == 1 && r.IntN(3) > 0 {
		results = []Result[product]{h.g.DoSingle(ctx, &reqs[0], leader[product](lead).begin)}
	} else {
		results = h.g.Do(ctx, reqs, lead)
	}
	for i, res := range results {
		want := Request[string, int]{Key: reqs[i].Key, Fence: reqs[i].Fence}
		switch {
		case res.Refused:
			if res.Err != errClosed {
				t.Errorf("refused with %v", res.Err)
			}
		case res.Err == nil:
			if res.Val.of != want {
				t.Errorf("got %v for %v", res.Val.of, want)
			}
			if at := res.Val.abandoned(); !at.IsZero() && at.Before(start) {
				t.Errorf("%v joined a work that all others had left", want)
			}
			if alone && res.Shared {
				t.Errorf("%v did not want to share, and did", want)
			}
			if !res.Shared {
				if led == nil {
					led = res.Val.work
				}
				if led != res.Val.work {
					t.Errorf("%v: one caller began two works", want)
				}
			}
		case errors.Is(res.Err, context.DeadlineExceeded):
			if ctx.Err() == nil {
				t.Errorf("%v: %v, and the caller had not left", want, res.Err)
			}
		case errors.Is(res.Err, ErrAbandoned):
			t.Errorf("%v was given up while a caller waited for it", want)
		case res.Err == errClosed:
			if !h.closed.Load() {
				t.Errorf("%v: %v before Close", want, res.Err)
			}
		case res.Err != errFailed && res.Err != errPanic && res.Err != errUnresolved:
			t.Errorf("%v: %v", want, res.Err)
		}
	}
}

// Callers come, leave, and move fences at random, works fail in every way, and in
// every third schedule the group is closed in the middle of it. Whatever happens, a
// caller gets the result of a call that began at its fence, or its own context's
// error; nothing is worked on twice at a time, unless a caller wanted to be alone; and
// nothing is left.
func TestRandomSchedules(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &history{t: t, alone: seed%2 == 0, open: map[Request[string, int]][]context.Context{}}
				h.g = New[string, int, product](func(any, []byte) error { return errPanic })
				fences := map[string]*atomic.Int64{"a": {}, "b": {}, "c": {}}
				var wg sync.WaitGroup
				for i := range 60 {
					r := rand.New(rand.NewPCG(seed, uint64(i)))
					wg.Go(func() {
						time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
						h.call(r, fences)
					})
				}
				if seed%3 == 0 {
					time.Sleep(500 * time.Millisecond)
					h.closed.Store(true)
					h.g.Close(errClosed)
					h.g.mu.Lock()
					if h.g.works != nil {
						t.Error("a work goes on after Close")
					}
					h.g.mu.Unlock()
				}
				wg.Wait()
				synctest.Wait()
				time.Sleep(time.Minute) // for works without a caller
				if n := h.g.Len(); n != 0 {
					t.Errorf("%d calls are left", n)
				}
				if h.g.works != nil || h.g.calls.len != 0 {
					t.Error("works or calls are left")
				}
			})
		})
	}
}
