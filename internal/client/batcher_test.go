package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// trips is a store that notes what goes together.
type trips struct {
	*storetest.Memory
	before func(ctx context.Context, cmds []store.Command) // each

	mu    sync.Mutex
	sizes []int
}

func (s *trips) HonorsDeadline() bool { return true }

func (s *trips) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	s.mu.Lock()
	s.sizes = append(s.sizes, len(cmds))
	s.mu.Unlock()
	s.before(ctx, cmds)
	replies := s.Memory.Do(context.Background(), cmds)
	for i := range cmds {
		if cmds[i].Key == "bad" {
			replies[i] = store.Reply{Err: errBad}
		}
	}
	return replies
}

var errBad = errors.New("bad")

func slow(d time.Duration) func(context.Context, []store.Command) {
	return func(ctx context.Context, _ []store.Command) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
}

// apart is a store of two nodes: what begins with "a" is on one of them.
type apart struct{ *trips }

func (apart) Endpoint(key string) string { return key[:1] }

func inStore(keys ...string) *storetest.Memory {
	m := storetest.NewMemory()
	for _, k := range keys {
		m.Do(context.Background(), []store.Command{{Op: store.Set, Key: k, Frame: []byte("value of " + k)}})
	}
	return m
}

func checkGet(g *Client, ctx context.Context, key string) error {
	rec, err := g.Get(ctx, key)
	if err == nil && string(rec.Raw) != "value of "+key {
		err = fmt.Errorf("%s: %q", key, rec.Raw)
	}
	return err
}

func TestReadsThatComeMeanwhileGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &trips{Memory: inStore("k1", "k2", "k3", "k4", "k5"), before: slow(5 * time.Millisecond)}
		g := New(s, time.Second)
		defer g.Close()
		var wg sync.WaitGroup
		read := func(keys ...string) {
			for _, k := range keys {
				wg.Go(func() {
					if err := checkGet(g, t.Context(), k); err != nil {
						t.Error(err)
					}
				})
			}
		}
		start := time.Now()
		read("k1")
		synctest.Wait()
		read("k2", "k3", "k4", "k5")
		wg.Wait()
		if time.Since(start) != 10*time.Millisecond {
			t.Errorf("took %v, want two round trips", time.Since(start))
		}
		if got := fmt.Sprint(s.sizes); got != "[1 4]" {
			t.Errorf("round trips of %s, want 1 and 4", got)
		}
	})
}

func TestSeveralRoundTripsAreUnderWayWhereTheyTakeLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &trips{Memory: inStore("k"), before: slow(5 * time.Millisecond)}
		g := New(s, time.Second)
		defer g.Close()
		if err := checkGet(g, context.Background(), "k"); err != nil { // how long they take is known now
			t.Fatal(err)
		}
		start := time.Now()
		var wg sync.WaitGroup
		for range batchesMost {
			wg.Go(func() {
				if err := checkGet(g, context.Background(), "k"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if time.Since(start) != 5*time.Millisecond {
			t.Errorf("%d reads took %v", batchesMost, time.Since(start))
		}
	})
}

func TestARoundTripIsNotLargerThanItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &trips{Memory: inStore("k"), before: slow(5 * time.Millisecond)}
		g := New(s, time.Second)
		defer g.Close()
		var wg sync.WaitGroup
		for i := range 2*batchMost + 2 {
			wg.Go(func() {
				if err := checkGet(g, context.Background(), "k"); err != nil {
					t.Error(err)
				}
			})
			if i == 0 {
				synctest.Wait()
			}
		}
		wg.Wait()
		if got := fmt.Sprint(s.sizes); got != fmt.Sprintf("[1 %d %d 1]", batchMost, batchMost) {
			t.Errorf("round trips of %s", got)
		}
	})
}

// A caller that leaves, first or last, does not cancel the others.
func TestACallerThatLeavesCancelsNoOtherCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &trips{Memory: inStore("k0", "k1", "k2", "k3"), before: slow(8 * time.Millisecond)}
		g := New(s, time.Second)
		defer g.Close()
		gone, leave := context.WithCancel(t.Context())
		deadline, cancel := context.WithTimeout(t.Context(), 3*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		for i, c := range []struct {
			ctx   context.Context
			want  error
			after time.Duration
		}{
			{gone, context.Canceled, time.Millisecond}, // goes alone
			{gone, context.Canceled, time.Millisecond}, // the first of those that go together
			{deadline, context.DeadlineExceeded, 3 * time.Millisecond},
			{t.Context(), nil, 9 * time.Millisecond}, // those who wait go when the first has left
		} {
			wg.Go(func() {
				start := time.Now()
				if err := checkGet(g, c.ctx, fmt.Sprint("k", i)); err != c.want || time.Since(start) != c.after {
					t.Errorf("caller %d: %v after %v, want %v after %v", i, err, time.Since(start), c.want, c.after)
				}
			})
			synctest.Wait()
		}
		time.Sleep(time.Millisecond)
		leave()
		wg.Wait()
	})
}

func TestEachCallerGetsTheErrorOfItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &trips{Memory: inStore("k0", "k1", "k2"), before: slow(5 * time.Millisecond)}
		g := New(s, time.Second)
		defer g.Close()
		var wg sync.WaitGroup
		for i, key := range []string{"k0", "k1", "bad", "k2"} {
			wg.Go(func() {
				if err := checkGet(g, t.Context(), key); errors.Is(err, errBad) != (key == "bad") || key != "bad" && err != nil {
					t.Errorf("%s: %v", key, err)
				}
			})
			if i == 0 {
				synctest.Wait()
			}
		}
		wg.Wait()
	})
}

// A round trip that never ends costs those who are in it, and those who wait for it,
// their timeout; who comes later does not wait.
func TestARoundTripThatIsStuckHoldsUpNoLaterCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		s := &trips{Memory: inStore("k1", "k2", "k3")}
		s.before = func(ctx context.Context, cmds []store.Command) {
			s.mu.Lock()
			stuck := first
			first = false
			s.mu.Unlock()
			if stuck {
				time.Sleep(time.Minute)
			}
			time.Sleep(2 * time.Millisecond)
		}
		g := New(s, time.Second)
		defer g.Close()
		ctx, cancel := context.WithCancel(t.Context()) // so that the client is not relied on
		defer cancel()
		var wg sync.WaitGroup
		timedOut := func(key string, after time.Duration) {
			wg.Go(func() {
				start := time.Now()
				var te *TimeoutError
				if err := checkGet(g, ctx, key); after == time.Second && !errors.As(err, &te) || after < time.Second && err != nil || time.Since(start) != after {
					t.Errorf("%s: %v after %v", key, err, time.Since(start))
				}
			})
			synctest.Wait()
		}
		timedOut("k1", time.Second)
		timedOut("k2", tooLong+2*time.Millisecond)
		time.Sleep(tooLong + time.Millisecond)
		timedOut("k3", 3*time.Millisecond) // waits for that one, and not for the first
		timedOut("k1", 3*time.Millisecond) // goes with it
		wg.Wait()
	})
}

func TestWhoWaitsHasItsOwnTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &trips{Memory: storetest.NewMemory(), before: func(context.Context, []store.Command) { time.Sleep(time.Minute) }}
		g := New(s, time.Second)
		defer g.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				start := time.Now()
				var te *TimeoutError
				if _, err := g.Get(ctx, "k"); !errors.As(err, &te) || time.Since(start) != time.Second {
					t.Errorf("%v after %v", err, time.Since(start))
				}
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
	})
}

func TestWhatWaitsForOneNodeDoesNotWaitForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := apart{&trips{Memory: inStore("a1", "a2", "b1", "b2")}}
		s.before = func(ctx context.Context, cmds []store.Command) {
			for _, c := range cmds {
				if strings.HasPrefix(c.Key, "a") {
					slow(5*time.Millisecond)(ctx, cmds)
					return
				}
			}
		}
		g := New(s, time.Second)
		defer g.Close()
		var wg sync.WaitGroup
		read := func(after time.Duration, keys ...string) {
			wg.Go(func() {
				start := time.Now()
				cmds := make([]store.Command, len(keys))
				for i, k := range keys {
					cmds[i].Key = k
				}
				for i, r := range g.Do(t.Context(), cmds) {
					if string(r.Record.Raw) != "value of "+keys[i] || r.Err != nil {
						t.Errorf("%s: %q, %v", keys[i], r.Record.Raw, r.Err)
					}
				}
				if time.Since(start) != after {
					t.Errorf("%v after %v, want %v", keys, time.Since(start), after)
				}
			})
			synctest.Wait()
		}
		read(5*time.Millisecond, "a1")
		read(0, "b1")
		read(10*time.Millisecond, "b2", "a2") // one goes at once, the other waits
		read(0, "b2", "b1")
		wg.Wait()
	})
}

// What all look at is asked for once.
func TestWhatIsSharedIsAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &trips{Memory: inStore("k0", "k1", "k2", "clock"), before: slow(5 * time.Millisecond)}
		g := New(s, time.Second)
		defer g.Close()
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				key := fmt.Sprint("k", i)
				replies := g.Do(t.Context(), []store.Command{{Op: store.Get, Key: key}, {Op: store.Get, Key: "clock", Shared: true}})
				if string(replies[0].Record.Raw) != "value of "+key || string(replies[1].Record.Raw) != "value of clock" {
					t.Errorf("%s: %+v", key, replies)
				}
			})
			if i == 0 {
				synctest.Wait()
			}
		}
		wg.Wait()
		if got := fmt.Sprint(s.sizes); got != "[2 3]" {
			t.Errorf("round trips of %s commands", got)
		}
	})
}

func TestCloseEndsThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &trips{Memory: inStore("k"), before: slow(5 * time.Millisecond)}
		g := New(s, time.Second)
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				if err := checkGet(g, context.Background(), "k"); i == 0 && err != nil || i > 0 && err != ErrClosed {
					t.Errorf("caller %d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		g.Close()
		wg.Wait()
	})
}

// A lone reader who comes while another's connection is stuck waits for a moment, and
// not until the other one gives up.
func TestALoneReaderDoesNotWaitForWhatIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		var calls atomic.Int32
		s := &fake{Memory: storetest.NewMemory(), prompt: true, act: func(ctx context.Context) error {
			if calls.Add(1) > 1 {
				return nil
			}
			select {
			case <-stuck:
			case <-ctx.Done():
			}
			return ctx.Err()
		}}
		g := New(s, time.Second)
		defer g.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		first := make(chan error, 1)
		go func() {
			_, err := g.Get(ctx, "k")
			first <- err
		}()
		synctest.Wait()
		start := time.Now()
		if _, err := g.Get(ctx, "l"); err != nil || time.Since(start) != tooLong {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := <-first; err == nil {
			t.Error("the first one has an answer")
		}
		close(stuck)
	})
}

// Who has waited long behind round trips that end in time is in no hurry: what is under
// way now was sent a moment ago.
func TestWhatWasSentAMomentAgoIsNotWrittenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &endpointQueue{underway: 1, last: time.Now()}
		tr := &batch{line: l}
		l.waiting = append(l.waiting, tr)
		time.Sleep(tooLong / 2)
		if next, _, _, in := l.stuck(time.Now()); next != nil || in != tooLong/2 {
			t.Errorf("%v is sent, or in %v", next, in)
		}
		time.Sleep(tooLong / 2)
		if next, _, _, _ := l.stuck(time.Now()); next != tr || l.underway != 1 || l.generation != 1 {
			t.Errorf("%v is sent, %d are under way, lot %d", next, l.underway, l.generation)
		}
	})
}

// What changes keys goes together as well, but not with reads: neither waits for the
// other. Each caller gets its own answer.
func TestChangesThatComeMeanwhileGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &trips{Memory: inStore("k1", "k2"), before: slow(5 * time.Millisecond)}
		g := New(s, time.Second)
		defer g.Close()
		var wg sync.WaitGroup
		change := func(c store.Command, ok bool) {
			wg.Go(func() {
				if r := g.Do(t.Context(), []store.Command{c})[0]; r.Err != nil || r.OK != ok {
					t.Errorf("%v of %s: %+v", c.Op, c.Key, r)
				}
			})
		}
		start := time.Now()
		change(store.Command{Op: store.Set, Key: "first", Frame: []byte("1")}, true)
		synctest.Wait()
		change(store.Command{Op: store.Set, Key: "second", Frame: []byte("2")}, true)
		change(store.Command{Op: store.SetNX, Key: "k1", Frame: []byte("no")}, false)
		change(store.Command{Op: store.Delete, Key: "k2"}, true)
		change(store.Command{Op: store.CompareAndDelete, Key: "k1", Seen: store.TokenOf([]byte("something else"))}, false)
		wg.Go(func() {
			if err := checkGet(g, t.Context(), "k1"); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took != 5*time.Millisecond {
				t.Errorf("the read took %v: it has waited", took)
			}
		})
		wg.Wait()
		if took := time.Since(start); took != 10*time.Millisecond {
			t.Errorf("took %v, want two round trips", took)
		}
		if got := fmt.Sprint(s.sizes); got != "[1 1 4]" {
			t.Errorf("round trips of %s, want 1, the read, and 4", got)
		}
		for key, want := range map[string]string{"first": "1", "second": "2", "k1": "value of k1", "k2": ""} {
			if rec, err := g.Get(t.Context(), key); err != nil || string(rec.Raw) != want {
				t.Errorf("%s: %q, %v", key, rec.Raw, err)
			}
		}
	})
}

func TestWhatIsStoredTogetherIsNotTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &trips{Memory: storetest.NewMemory(), before: slow(5 * time.Millisecond)}
		g := New(s, time.Second)
		defer g.Close()
		var wg sync.WaitGroup
		for i, size := range []int{1, batchBytes/2 + 1, batchBytes / 2, 3 * batchBytes, 1, 1} {
			wg.Go(func() {
				r := g.Do(t.Context(), []store.Command{{Op: store.Set, Key: fmt.Sprint(i), Frame: make([]byte, size)}})[0]
				if r.Err != nil || !r.OK {
					t.Errorf("%d bytes: %+v", size, r)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if got := fmt.Sprint(s.sizes); got != "[1 1 1 1 2]" {
			t.Errorf("round trips of %s", got)
		}
	})
}

// Who waits for a batch waits for no longer than the timeout, also if that is short.
func TestWhoWaitsHasAShortTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 4 * time.Millisecond
		s := &trips{Memory: inStore("k1", "k2"), before: slow(time.Hour)}
		g := New(s, timeout)
		defer g.Close()
		var wg sync.WaitGroup
		wg.Go(func() { checkGet(g, context.Background(), "k1") })
		synctest.Wait()
		began := time.Now()
		err := checkGet(g, context.Background(), "k2")
		var te *TimeoutError
		if took := time.Since(began); !errors.As(err, &te) || took > timeout+timeout/deadlineSteps {
			t.Errorf("the timeout of %v: %v after %v", timeout, err, took)
		}
		wg.Wait()
	})
}
