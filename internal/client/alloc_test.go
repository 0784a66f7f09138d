package client

import (
	"context"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/breaker"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// frugal is a store whose answers are made in advance.
type frugal struct {
	*storetest.Memory
	replies []store.Reply
}

func (frugal) HonorsDeadline() bool { return true }
func (f frugal) Do(_ context.Context, cmds []store.Command) []store.Reply {
	return f.replies[:len(cmds)]
}

// An operation of one caller costs its context, and what its caller's context makes necessary: a
// goroutine that may be left behind.
func TestAnOperationAllocatesItsContext(t *testing.T) {
	g := New(frugal{storetest.NewMemory(), make([]store.Reply, 2)}, time.Hour) // one deadline for all
	defer g.Close()
	g.Break(breaker.Config{Failures: 1, Open: time.Hour})
	cancelable, cancel := context.WithCancel(context.Background())
	defer cancel()
	reads := []store.Command{{Op: store.Get, Key: "k"}, {Op: store.Get, Key: "epoch", Shared: true}}
	sets := []store.Command{{Op: store.Set, Key: "k", Frame: []byte("v")}}
	for _, tt := range []struct {
		name string
		ctx  context.Context
		cmds []store.Command
		most float64
	}{
		{"a read", context.Background(), reads[:1], 1},
		{"a read with the clock", context.Background(), reads, 1},
		{"a write", context.Background(), sets, 1},
		{"a read that may be canceled", cancelable, reads, 4},
	} {
		if n := testing.AllocsPerRun(200, func() {
			if r := g.Do(tt.ctx, tt.cmds); r[0].Err != nil {
				t.Error(r[0].Err)
			}
		}); n > tt.most {
			t.Errorf("%s: %v allocations, want at most %v", tt.name, n, tt.most)
		}
	}
}
