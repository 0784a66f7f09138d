package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/breaker"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// replyError is what a server answers.
type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

func TestEveryOperationIsRefusedWhileItsEndpointIsAway(t *testing.T) {
	for _, prompt := range []bool{true, false} {
		for name, op := range operations {
			t.Run(fmt.Sprint(name, " prompt=", prompt), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var away atomic.Bool
					away.Store(true)
					var asked atomic.Int32
					s := &fake{Memory: storetest.NewMemory(), prompt: prompt, act: func(ctx context.Context) error {
						asked.Add(1)
						if !away.Load() {
							return nil
						}
						if prompt {
							<-ctx.Done() // as a client does that obeys deadlines
							return ctx.Err()
						}
						time.Sleep(3 * time.Second) // and one that has timeouts of its own
						return io.EOF
					}}
					g := New(s, 250*time.Millisecond)
					defer g.Close()
					var refused atomic.Int32
					g.Observe = func(_ context.Context, o Observation) {
						if errors.Is(o.Err, ErrOpen) {
							refused.Add(1)
						}
					}
					g.Break(breaker.Config{Failures: 3, Open: time.Second})
					for range 3 {
						start := time.Now()
						var timeout *TimeoutError
						if err := op(g, t.Context()); !errors.As(err, &timeout) || time.Since(start) != 250*time.Millisecond {
							t.Fatalf("%v after %v", err, time.Since(start))
						}
						synctest.Wait() // what was left behind at this moment knows it, too
					}
					before := asked.Load()
					for range 10 {
						start := time.Now()
						if err := op(g, t.Context()); !errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), "250ms") || time.Since(start) != 0 {
							t.Fatalf("%v after %v", err, time.Since(start))
						}
					}
					if asked.Load() != before || refused.Load() != 10 {
						t.Errorf("%d were sent, and %d refusals observed", asked.Load()-before, refused.Load())
					}
					away.Store(false)
					time.Sleep(1001 * time.Millisecond)
					synctest.Wait()
					if err := op(g, t.Context()); err != nil {
						t.Errorf("after a probe: %v", err)
					}
					time.Sleep(5 * time.Second) // what was left behind ends
				})
			})
		}
	}
}

// Neither a caller that leaves nor an answer that says no opens the circuit; and a caller
// that does not wait long enough hides nothing.
func TestWhatOpensTheCircuit(t *testing.T) {
	for name, tt := range map[string]struct {
		act   error // nil: no answer at all
		leave time.Duration
		opens bool
	}{
		"a reset":                  {act: io.EOF, opens: true},
		"no answer":                {opens: true},
		"no answer in a hurry":     {leave: time.Millisecond, opens: true},
		"an error reply":           {act: replyError("OOM command not allowed")},
		"loading":                  {act: replyError("LOADING Redis is loading")},
		"not the owner":            {act: store.ErrNotOwner},
		"an answer, in a hurry":    {act: replyError("late"), leave: time.Nanosecond},
		"an unreadable answer":     {act: errors.New("redis: invalid reply: 'x'"), opens: true},
		"a wrapped error of Redis": {act: fmt.Errorf("somewhere: %w", replyError("NOPERM"))},
	} {
		for _, prompt := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " prompt=", prompt), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &fake{Memory: storetest.NewMemory(), prompt: prompt, act: func(ctx context.Context) error {
						if tt.act != nil {
							time.Sleep(time.Microsecond)
							return tt.act
						}
						<-ctx.Done()
						return ctx.Err()
					}}
					g := New(s, 250*time.Millisecond)
					defer g.Close()
					var state atomic.Uint32
					g.Break(breaker.Config{Failures: 2, Open: time.Hour, Changed: func(c breaker.Change) { state.Store(uint32(c.Worst)) }})
					for range 4 {
						ctx := t.Context()
						if tt.leave > 0 {
							var cancel context.CancelFunc
							ctx, cancel = context.WithTimeout(ctx, tt.leave)
							defer cancel()
						}
						_, err := g.Get(ctx, "k")
						if tt.leave > 0 && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrOpen) {
							t.Errorf("the caller's deadline has passed, and it gets %v", err)
						}
						time.Sleep(time.Second)
					}
					if opened := breaker.State(state.Load()) == breaker.Open; opened != tt.opens {
						t.Errorf("open: %v", opened)
					}
				})
			})
		}
	}
}

// nodes is a store of two endpoints, one of which is away.
type nodes struct {
	*storetest.Memory
	away atomic.Bool
	sent atomic.Int32
}

func (n *nodes) HonorsDeadline() bool { return true }

func (n *nodes) Endpoint(key string) string { return key[:1] }

func (n *nodes) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	n.sent.Add(int32(len(cmds)))
	replies := n.Memory.Do(ctx, cmds)
	for i := range cmds {
		if cmds[i].Key[:1] == "b" && n.away.Load() {
			replies[i] = store.Reply{Err: io.EOF}
		}
	}
	return replies
}

// Of a batch, what goes to an endpoint that answers is carried out, in its place.
func TestABatchOverSeveralEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nodes{Memory: storetest.NewMemory()}
		g := New(n, time.Second)
		defer g.Close()
		var changes atomic.Int32
		g.Break(breaker.Config{Failures: 2, Open: time.Second, Changed: func(c breaker.Change) {
			changes.Add(1)
			if c.Endpoint != "b" {
				t.Errorf("%+v", c)
			}
		}})
		cmds := []store.Command{{Op: store.Get, Key: "b1"}, {Op: store.Set, Key: "a1", Frame: []byte("v")}, {Op: store.Get, Key: "b2"}, {Op: store.SetNX, Key: "a2", Frame: []byte("w")}}
		n.away.Store(true)
		for i := range 5 {
			n.sent.Store(0)
			replies := g.Do(t.Context(), cmds)
			refused := i >= 2
			for k, r := range replies {
				if away := k%2 == 0; (r.Err != nil) != away || errors.Is(r.Err, ErrOpen) != (away && refused) {
					t.Errorf("batch %d, reply %d: %+v", i, k, r)
				}
			}
			if want := map[bool]int32{false: 4, true: 2}[refused]; n.sent.Load() != want {
				t.Errorf("batch %d: %d commands were sent", i, n.sent.Load())
			}
		}
		if replies := g.Do(t.Context(), []store.Command{cmds[0], cmds[2]}); !errors.Is(replies[0].Err, ErrOpen) || !errors.Is(replies[1].Err, ErrOpen) {
			t.Errorf("%+v", replies)
		}
		if r, err := g.Get(t.Context(), "a1"); err != nil || string(r.Raw) != "v" {
			t.Errorf("%+v, %v", r, err)
		}
		if err := g.Publish(t.Context(), store.Notify{Channel: "c"}); err != nil {
			t.Errorf("what goes to any node: %v", err)
		}
		n.away.Store(false)
		time.Sleep(1001 * time.Millisecond)
		synctest.Wait()
		for i, r := range g.Do(t.Context(), cmds) {
			if r.Err != nil {
				t.Errorf("reply %d: %+v", i, r)
			}
		}
		if changes.Load() != 3 {
			t.Errorf("%d changes", changes.Load())
		}
	})
}
