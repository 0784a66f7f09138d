package client

import (
	"context"
	"errors"
	"fmt"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// deaf sleeps without looking at the context, as a client does that is blocked in
// a read.
func deaf(d time.Duration) func(context.Context) error {
	return func(context.Context) error { time.Sleep(d); return nil }
}

func TestTheGuardLeavesAStoreThatDoesNotListen(t *testing.T) {
	for name, op := range operations {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &fake{Memory: storetest.NewMemory(), act: deaf(time.Minute)}
				g := New(s, time.Second)
				start := time.Now()
				expect := func(ctx context.Context, after time.Duration, ok func(error) bool) {
					t.Helper()
					start := time.Now()
					if err := op(g, ctx); !ok(err) || time.Since(start) != after {
						t.Errorf("%v after %v", err, time.Since(start))
					}
				}
				timedOut := func(err error) bool {
					var te *TimeoutError
					return errors.As(err, &te) && te.After == time.Second && te.Timeout() && !errors.Is(err, context.DeadlineExceeded)
				}
				expect(context.Background(), time.Second, timedOut)
				late, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				expect(late, time.Second, timedOut)

				canceled, cancel := context.WithCancel(t.Context())
				time.AfterFunc(300*time.Millisecond, cancel)
				expect(canceled, 300*time.Millisecond, func(err error) bool { return err == context.Canceled })
				expect(canceled, 0, func(err error) bool { return err == context.Canceled })

				early, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				expect(early, 300*time.Millisecond, func(err error) bool { return err == context.DeadlineExceeded })

				g.Close() // waits for those that were left behind
				if n := s.done.Load(); n != 4 || time.Since(start) < time.Minute {
					t.Errorf("%d of 4 operations have ended after %v", n, time.Since(start))
				}
				expect(context.Background(), 0, func(err error) bool { return err == ErrClosed })
				if n := s.done.Load(); n != 4 {
					t.Error("the store was asked after Close")
				}
			})
		})
	}
}

// A connection that obeys deadlines messages them at the same moment as the context
// does, a little earlier or later, and has an error of its own for it.
func atTheDeadline(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	time.Sleep(time.Until(deadline))
	return &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
}

func TestTheGuardSaysWhoseTimeHasPassed(t *testing.T) {
	boom := errors.New("boom")
	timedOutAfter := func(d time.Duration) func(context.Context, error) bool {
		return func(_ context.Context, err error) bool {
			var te *TimeoutError
			return errors.As(err, &te) && te.After == d && !errors.Is(err, context.DeadlineExceeded)
		}
	}
	is := func(want error) func(context.Context, error) bool {
		return func(_ context.Context, err error) bool { return err == want }
	}
	after := func(d time.Duration, err error) func(context.Context) error {
		return func(context.Context) error { time.Sleep(d); return err }
	}
	for name, tt := range map[string]struct {
		own  time.Duration // the caller's deadline; 0: none
		act  func(ctx context.Context) error
		want func(ctx context.Context, err error) bool
	}{
		"the timeout": {0, atTheDeadline, timedOutAfter(time.Second)},
		"the timeout, before the caller's deadline": {time.Minute, atTheDeadline, timedOutAfter(time.Second)},
		"the caller's deadline": {300 * time.Millisecond, atTheDeadline, func(ctx context.Context, err error) bool {
			return err == context.DeadlineExceeded && ctx.Err() == err
		}},
		"the client's timeout for dialing": {0, after(time.Millisecond, context.DeadlineExceeded), timedOutAfter(time.Millisecond)},
		"the client's timeout for reading": {time.Minute, after(time.Millisecond, os.ErrDeadlineExceeded), is(os.ErrDeadlineExceeded)},
		"another error":                    {time.Minute, after(time.Millisecond, boom), is(boom)},
		"the cancellation of another caller": {time.Minute, after(0, context.Canceled), func(_ context.Context, err error) bool {
			return err != nil && !errors.Is(err, context.Canceled)
		}},
	} {
		for _, prompt := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, prompt: %v", name, prompt), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := New(&fake{Memory: storetest.NewMemory(), prompt: prompt, act: tt.act}, time.Second)
					defer g.Close()
					for range 50 { // chance settles who is earlier
						for op, f := range operations {
							ctx, cancel := context.Background(), context.CancelFunc(func() {})
							if tt.own > 0 {
								ctx, cancel = context.WithTimeout(ctx, tt.own)
							}
							if err := f(g, ctx); !tt.want(ctx, err) {
								t.Errorf("%s: %v", op, err)
							}
							cancel()
						}
					}
				})
			})
		}
	}
}

// liar has a deadline and never ends.
type liar struct{ context.Context }

func (liar) Deadline() (time.Time, bool) { return time.Now().Add(-time.Hour), true }

func TestTheGuardDoesNotTrustADeadlineForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(&fake{Memory: storetest.NewMemory(), act: func(context.Context) error { return os.ErrDeadlineExceeded }}, time.Second)
		defer g.Close()
		if _, err := g.Get(liar{context.Background()}, "k"); err == nil {
			t.Error("no error")
		}
	})
}

// An operation that the caller itself carries out counts like any other.
func TestCloseWaitsForPromptOperationsToo(t *testing.T) {
	for name, op := range operations {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &fake{Memory: storetest.NewMemory(), prompt: true, act: deaf(500 * time.Millisecond)}
				g := New(s, time.Second)
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := op(g, context.Background()); err != nil {
						t.Error(err)
					}
				})
				synctest.Wait()
				for range 3 {
					wg.Go(func() {
						g.Close()
						if s.done.Load() != 1 {
							t.Error("Close did not wait")
						}
					})
				}
				wg.Wait()
				if s.closed.Load() == 0 {
					t.Error("the store is open")
				}
				if err := op(g, context.Background()); err != ErrClosed || s.done.Load() != 1 {
					t.Errorf("after Close: %v, %d operations", err, s.done.Load())
				}
			})
		})
	}
}

func TestTheGuardHandsOnWhatTheStoreAnswers(t *testing.T) {
	for _, prompt := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &fake{Memory: storetest.NewMemory(), prompt: prompt, act: deaf(100 * time.Millisecond)}
			g := New(s, time.Second)
			defer g.Close()
			for _, ctx := range []context.Context{t.Context(), context.Background()} {
				rs := g.Do(ctx, []store.Command{{Op: store.Set, Key: "k", Frame: []byte("v")}, {Op: store.Get, Key: "k"}, {Op: 99}})
				if !rs[0].OK || string(rs[1].Record.Raw) != "v" || rs[0].Err != nil || rs[1].Err != nil || rs[2].Err == nil {
					t.Errorf("%+v", rs)
				}
				if rec, err := g.Get(ctx, "k"); string(rec.Raw) != "v" || err != nil {
					t.Errorf("%+v, %v", rec, err)
				}
				if now, err := g.Now(ctx, "k"); now != time.Now().UnixMicro() || err != nil {
					t.Errorf("%d, %v", now, err)
				}
				if masters, err := g.Masters(ctx); len(masters) != 1 || err != nil {
					t.Errorf("%q, %v", masters, err)
				}
				if keys, next, err := g.Scan(ctx, "", "[k]", 0); len(keys) != 1 || next != 0 || err != nil {
					t.Errorf("%q, %d, %v", keys, next, err)
				}
				names := store.NewNames("p", "n")
				m, err := g.AddTombstones(ctx, names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"a"}})
				if err != nil || m.Tags[0].Hard != m.Epoch.Clock {
					t.Errorf("%+v, %v", m, err)
				}
				if got, err := g.ReadClock(ctx, names, logicalclock.Known{}, []string{"a"}); err != nil || got.Tags[0] != m.Tags[0] {
					t.Errorf("%+v, %v", got, err)
				}
				if err := g.Publish(ctx, store.Notify{Channel: "c"}); err != nil {
					t.Error(err)
				}
				if rs := g.Do(ctx, nil); rs != nil {
					t.Errorf("nothing: %v", rs)
				}
			}
		})
	}
}

// A caller that has left has replies of its own: late replies are dropped. The race
// detector sees it if not.
func TestALateAnswerIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written []store.Reply
		s := &lateStore{fake: fake{Memory: storetest.NewMemory()}, write: func(r []store.Reply) { written = r }}
		g := New(s, time.Second)
		cmds := []store.Command{{Op: store.Get, Key: "a"}, {Op: store.Get, Key: "b"}}
		replies := g.Do(t.Context(), cmds)
		for i := range replies {
			if replies[i].Err == nil || replies[i].OK {
				t.Errorf("%+v", replies[i])
			}
			replies[i] = store.Reply{}
		}
		g.Close()
		if len(written) != 2 || !written[0].OK || replies[0].OK {
			t.Errorf("late: %+v; the caller has %+v", written, replies)
		}
	})
}

type lateStore struct {
	fake
	write func([]store.Reply)
}

func (s *lateStore) Do(_ context.Context, cmds []store.Command) []store.Reply {
	replies := make([]store.Reply, len(cmds))
	time.Sleep(time.Minute)
	for i := range replies {
		replies[i].OK = true
	}
	s.write(replies)
	return replies
}

func TestTheGuardTellsWhatItDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type event struct {
			op   string
			keys int
			d    time.Duration
			err  error
		}
		var events []event
		boom := errors.New("boom")
		answer := error(nil)
		s := &fake{Memory: storetest.NewMemory(), act: func(context.Context) error { time.Sleep(10 * time.Millisecond); return answer }}
		g := New(s, time.Second)
		g.Observe = func(_ context.Context, o Observation) {
			events = append(events, event{o.Op, o.Keys, o.Duration, o.Err})
		}
		expect := func(want ...event) {
			t.Helper()
			if len(events) != len(want) || len(want) > 0 && events[0] != want[0] {
				t.Errorf("%+v instead of %+v", events, want)
			}
			events = nil
		}
		ctx := t.Context()
		ms := 10 * time.Millisecond
		g.Do(ctx, []store.Command{{Op: store.Set}, {Op: store.Set}, {Op: store.Set}})
		expect(event{"set", 3, ms, nil})
		g.Do(ctx, []store.Command{{Op: store.Set}, {Op: store.Get}})
		expect(event{"mixed", 2, ms, nil})
		g.Do(ctx, []store.Command{{Op: store.Extend, TTL: -1}})
		if len(events) != 1 || events[0].err == nil {
			t.Errorf("%+v", events)
		}
		events = nil
		g.Now(ctx, "k") // most do no I/O
		expect()
		names := store.NewNames("p", "n")
		for _, tt := range []struct {
			op   string
			keys int
			f    func(context.Context) error
		}{
			{"masters", 0, func(ctx context.Context) error { return operations["masters"](g, ctx) }},
			{"scan", 0, func(ctx context.Context) error { return operations["scan"](g, ctx) }},
			{"publish", 0, func(ctx context.Context) error { return operations["publish"](g, ctx) }},
			{"read_clock", 2, func(ctx context.Context) error {
				_, err := g.ReadClock(ctx, names, logicalclock.Known{}, []string{"a", "b"})
				return err
			}},
			{"add_tombstones", 2, func(ctx context.Context) error {
				_, err := g.AddTombstones(ctx, names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"a", "b"}})
				return err
			}},
		} {
			for _, answer = range []error{nil, boom} {
				if err := tt.f(ctx); err != answer {
					t.Errorf("%s: %v", tt.op, err)
				}
				expect(event{tt.op, tt.keys, ms, answer})
			}
			canceled, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Millisecond, cancel)
			_ = tt.f(canceled)
			expect(event{tt.op, tt.keys, time.Millisecond, nil})
			time.Sleep(ms) // until what was left behind has its answer
			synctest.Wait()
		}
		answer = boom
		g.Get(ctx, "k")
		expect(event{"get", 1, ms, boom})
		g.Now(ctx, "k")
		expect(event{"time", 1, ms, boom})
		canceled, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Millisecond, cancel)
		g.Get(canceled, "k") // is no fault of Redis
		expect(event{"get", 1, time.Millisecond, nil})
		g.Now(canceled, "k")
		expect()
		g.Close()
		g.Get(ctx, "k")
		expect(event{"get", 1, 0, ErrClosed})
	})
}

func TestOperationsHaveNames(t *testing.T) {
	names := map[string]bool{}
	for op := range store.Op(11) {
		names[op.String()] = true
	}
	if len(names) != 11 || names["unknown"] || store.Op(11).String() != "unknown" {
		t.Errorf("%v", names)
	}
}
