package memory_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

var errRequestLost = errors.New("the request was lost")

// wire is the network between one process and a store that several share. Its hooks
// see every operation, before it takes effect and after; each may block, and an error
// is what the process gets instead of an answer.
type wire struct {
	*storetest.Memory
	mu      sync.Mutex
	request func(op string) error
	reply   func(op string) error
	before  func(cmds []store.Command) // sees the commands of a Do before they take effect
	after   func(cmds []store.Command) // sees them after, before the reply

	broken atomic.Bool
	dialed atomic.Uint32
}

// Connections counts the connections that the process has made.
func (w *wire) Connections() uint32 { return 1 + w.dialed.Load() }

// redial has the next operation find its connection closed, and make another one.
func (w *wire) redial() { w.broken.Store(true) }

func (w *wire) set(request, reply func(op string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.request, w.reply = request, reply
}

// watch sets what sees the commands of every Do: before they take effect, and after. Either
// may be nil, and may block.
func (w *wire) watch(before, after func(cmds []store.Command)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before, w.after = before, after
}

// show shows commands to one of the functions of watch.
func (w *wire) show(f func(*wire) func([]store.Command), cmds []store.Command) {
	w.mu.Lock()
	hook := f(w)
	w.mu.Unlock()
	if hook != nil {
		hook(cmds)
	}
}

// lose has the requests of these operations lost, all if none is named; heal ends it.
func (w *wire) lose(ops ...string) { w.set(losing(errRequestLost, ops), nil) }

func (w *wire) heal() { w.set(nil, nil) }

// held is an operation that a wire holds back.
type held struct{ reached, release chan struct{} }

// hold holds the next operation of a kind on its way to the store, or on its way back.
func (w *wire) hold(op store.Op, going bool) *held {
	h := &held{make(chan struct{}), make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	hook := &w.reply
	if going {
		hook = &w.request
	}
	before := *hook
	var once atomic.Bool
	*hook = func(name string) error {
		if name == op.String() && once.CompareAndSwap(false, true) {
			close(h.reached)
			<-h.release
		}
		if before != nil {
			return before(name)
		}
		return nil
	}
	return h
}

func losing(err error, ops []string) func(string) error {
	return func(op string) error {
		for _, o := range ops {
			if o == op {
				return err
			}
		}
		if len(ops) == 0 {
			return err
		}
		return nil
	}
}

func (w *wire) at(f func(*wire) func(string) error, op string) error {
	w.mu.Lock()
	hook := f(w)
	w.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(op)
}

// through takes an operation over the wire.
func (w *wire) through(op string, do func()) error {
	if err := w.at(func(w *wire) func(string) error { return w.request }, op); err != nil {
		return err
	}
	if w.broken.Swap(false) {
		w.dialed.Add(1)
	}
	do()
	return w.at(func(w *wire) func(string) error { return w.reply }, op)
}

func (w *wire) Do(ctx context.Context, cmds []store.Command) (replies []store.Reply) {
	op := cmds[0].Op
	if len(cmds) > 1 && cmds[0].Shared {
		op = cmds[1].Op // beside it is a look at the clock
	}
	if err := w.through(op.String(), func() {
		w.show(func(w *wire) func([]store.Command) { return w.before }, cmds)
		replies = w.Memory.Do(context.WithoutCancel(ctx), cmds)
		w.show(func(w *wire) func([]store.Command) { return w.after }, cmds)
	}); err != nil {
		replies = make([]store.Reply, len(cmds))
		for i := range replies {
			replies[i].Err = err
		}
	}
	return replies
}

func (w *wire) ReadClock(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (m logicalclock.Reading, err error) {
	if lost := w.through("read_clock", func() { m, err = w.Memory.ReadClock(ctx, names, known, tags) }); lost != nil {
		return logicalclock.Reading{}, lost
	}
	return m, err
}

func (w *wire) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, n logicalclock.NewTombstone) (m logicalclock.Reading, err error) {
	if lost := w.through("add_tombstones", func() { m, err = w.Memory.AddTombstones(ctx, names, known, n) }); lost != nil {
		return logicalclock.Reading{}, lost
	}
	return m, err
}

func (w *wire) Publish(ctx context.Context, t store.Notify) (err error) {
	if lost := w.through("publish", func() { err = w.Memory.Publish(ctx, t) }); lost != nil {
		return lost
	}
	return err
}

func (w *wire) ServerID(ctx context.Context) (s string, err error) {
	if lost := w.through("server_id", func() { s, err = w.Memory.ServerID(ctx) }); lost != nil {
		return "", lost
	}
	return s, err
}

// onWire makes a cache that speaks to the store over a wire of its own.
func onWire[K comparable, V any](t *testing.T, store *storetest.Memory, src cache.Source[K, V], opts ...cache.Option) (*cache.Cache[K, V], *wire) {
	t.Helper()
	return onWireWith(t, store, src, append([]cache.Option{cache.WithStrategy(strategy.LRU(100))}, opts...)...)
}

// onWireWith is onWire without a local tier, unless an option asks for one.
func onWireWith[K comparable, V any](t *testing.T, st *storetest.Memory, src cache.Source[K, V], opts ...cache.Option) (*cache.Cache[K, V], *wire) {
	t.Helper()
	w := &wire{Memory: st}
	c := newCache(t, w, src, append([]cache.Option{cache.WithTimeout(time.Minute), cache.WithBreaker(math.MaxInt, time.Hour), cache.WithStrategy(strategy.Jitter(0))}, opts...)...)
	t.Cleanup(w.heal) // before Close
	return c, w
}
