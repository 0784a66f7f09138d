package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/breaker"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// narrow is a store behind a link of so many bytes a second, which all that is under way
// shares: the answer to a call is there when its bytes have passed.
type narrow struct {
	*storetest.Memory
	rate float64
	away func(cmds []store.Command) error // what fails, and how; it may block

	mu    sync.Mutex // guards what follows
	until time.Time  // when the link is free
	calls int
	most  int // commands of one call
	sent  [][]store.Command
}

func (n *narrow) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	replies := n.Memory.Do(context.Background(), cmds)
	bytes := 0
	for i := range cmds {
		bytes += 20 + len(cmds[i].Key) + len(cmds[i].Frame) + len(replies[i].Record.Raw)
	}
	n.mu.Lock()
	n.calls++
	n.most = max(n.most, len(cmds))
	if now := time.Now(); n.until.Before(now) {
		n.until = now
	}
	n.until = n.until.Add(time.Duration(float64(bytes) / n.rate * 1e9))
	n.sent = append(n.sent, cmds)
	left := time.Until(n.until)
	n.mu.Unlock()
	err := error(nil)
	if n.away != nil {
		err = n.away(cmds)
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-t.C:
	}
	if err != nil {
		for i := range replies {
			replies[i] = store.Reply{Err: err}
		}
	}
	return replies
}

func (n *narrow) OneNode() bool        { return true }
func (n *narrow) HonorsDeadline() bool { return true }

// circuits counts what a circuit saw.
func circuits(g *Client, failures int) (opened *int) {
	opened = new(int)
	g.Break(breaker.Config{Failures: failures, Open: time.Second, Changed: func(c breaker.Change) {
		if c.State == breaker.Open {
			*opened++
		}
	}})
	return opened
}

// However large a batch is, and however narrow the link, all of it is carried out, and no
// circuit takes the time that it takes for a server that does not answer.
func TestABatchOfAnySize(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a second, which -short leaves out")
	}
	for _, tt := range []struct {
		keys, size int
		rate       float64
	}{
		{100_000, 100, math.Inf(1)}, {100_000, 100, 125e6}, {100_000, 100, 10e6}, {20_000, 100, 1e6},
		{5_000, 10_000, 125e6}, {2_000, 10_000, 10e6}, {200, 1 << 20, 125e6}, {40, 6 << 20, 125e6}, {300, 100_000, 10e6},
		{257, 0, 1e6}, {1, 100, 1e6},
	} {
		t.Run(fmt.Sprintf("%d of %d bytes at %g", tt.keys, tt.size, tt.rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &narrow{Memory: storetest.NewMemory(), rate: tt.rate}
				g := New(s, 250*time.Millisecond)
				defer g.Close()
				opened := circuits(g, 2)
				frame := make([]byte, tt.size)
				batch := func(op store.Op) []store.Command {
					cmds := make([]store.Command, tt.keys)
					for i := range cmds {
						cmds[i] = store.Command{Op: op, Key: fmt.Sprint("key", i)}
						if op == store.Set {
							cmds[i].Frame = frame
						}
					}
					return cmds
				}
				for _, op := range []store.Op{store.Set, store.Get, store.GetHeader, store.Delete} {
					failed := 0
					for i, r := range g.Do(t.Context(), batch(op)) {
						if r.Err != nil || op == store.Get && tt.size > 0 && len(r.Record.Raw) != tt.size {
							if failed++; failed == 1 {
								t.Errorf("%v %d: %v", op, i, r.Err)
							}
						}
					}
					if failed > 0 {
						t.Errorf("%v: %d of %d failed", op, failed, tt.keys)
					}
				}
				synctest.Wait()
				if *opened > 0 {
					t.Errorf("the circuit was opened %d times", *opened)
				}
				if s.most > pieceMost {
					t.Errorf("%d commands in one round trip", s.most)
				}
			})
		})
	}
}

// A piece that fails costs its own commands, whatever fails it.
func TestAPieceThatFailsCostsItsOwn(t *testing.T) {
	for name, failure := range map[string]func(ctx context.Context) error{
		"an error":  func(context.Context) error { return errors.New("broken") },
		"a timeout": func(context.Context) error { time.Sleep(time.Minute); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &narrow{Memory: storetest.NewMemory(), rate: 125e6}
				s.away = func(cmds []store.Command) error {
					for i := range cmds {
						if cmds[i].Key == "key5000" {
							return failure(t.Context())
						}
					}
					return nil
				}
				g := New(s, 250*time.Millisecond)
				defer g.Close()
				opened := circuits(g, 1)
				cmds := make([]store.Command, 10_000)
				for i := range cmds {
					cmds[i] = store.Command{Op: store.Set, Key: fmt.Sprint("key", i), Frame: []byte("v")}
				}
				failed := 0
				replies := g.Do(t.Context(), cmds)
				for i := range replies {
					if replies[i].Err != nil {
						failed++
					}
				}
				if failed == 0 || failed > pieceMost || replies[5000].Err == nil {
					t.Errorf("%d commands failed", failed)
				}
				synctest.Wait()
				if *opened > 0 {
					t.Error("the circuit was opened")
				}
			})
		})
	}
}

// A batch for a server that does not answer is given up after two timeouts, and is one
// failure to the circuit for each of them.
func TestABatchForAServerThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &narrow{Memory: storetest.NewMemory(), rate: math.Inf(1), away: func([]store.Command) error { time.Sleep(time.Minute); return nil }}
		g := New(s, 250*time.Millisecond)
		defer g.Close()
		opened := circuits(g, 4)
		start := time.Now()
		for i, r := range g.Do(t.Context(), make([]store.Command, 100_000)) {
			if r.Err == nil {
				t.Fatalf("%d: no error", i)
			}
		}
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		time.Sleep(time.Second)
		if *opened > 0 {
			t.Error("the circuit was opened by one call")
		}
	})
}

// What has a message in common goes together, whatever pieces a batch goes in.
func TestWhatGoesTogetherStaysTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &narrow{Memory: storetest.NewMemory(), rate: 125e6}
		g := New(s, 250*time.Millisecond)
		defer g.Close()
		var cmds []store.Command
		for i := range 5000 {
			size := 100
			if i%97 == 0 {
				size = 200_000
			}
			c := store.Command{Op: store.Set, Key: fmt.Sprint("key", i), Frame: make([]byte, size)}
			if i%7 == 0 && i+7 <= 5000 {
				c.Notify, c.With = store.Notify{Channel: "c", Message: fmt.Sprint("post", i)}, 6
			}
			cmds = append(cmds, c)
		}
		for i, r := range g.Do(t.Context(), cmds) {
			if r.Err != nil {
				t.Fatal(i, r.Err)
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, piece := range s.sent {
			for i := range piece {
				if n := piece[i].With; i+n >= len(piece) {
					t.Fatalf("%d of a piece of %d commands, and %d go with it", i, len(piece), n)
				}
			}
		}
	})
}
