package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/delqhi/cache/internal/errs"
)

// queueFactor is how many loads may be queued for each one that may run.
const queueFactor = 16

// loadLimit bounds the concurrent loads of a cache in this process. A load that finds all
// slots taken waits in a FIFO queue, for as long as it may take itself. When the queue is
// full as well the load is refused at once, so that an ever growing number of loads does
// not wait for a source that has become slow.
//
// While no load waits, a slot is taken and released in one step each. One that is released while a load
// begins to wait is not missed: that load is counted as waiting first and then looks for a free slot, and
// a release first adds the slot and then looks whether a load waits.
type loadLimit struct {
	free    atomic.Int64 // slots
	waiting atomic.Int64 // loads
	most    int64        // of these

	mu    sync.Mutex      // guards what follows
	queue []chan struct{} // closed when its load has got a slot
}

func newLoadLimit(n int) *loadLimit {
	l := &loadLimit{most: queueFactor * int64(n)}
	l.free.Store(int64(n))
	return l
}

// errNoPlaceBehind is the error of a background load, which does not queue.
var errNoPlaceBehind = fmt.Errorf("%w: load limit reached", errs.ErrOverload)

// enter acquires a slot; leave releases it. With behind, for a load in the background, it does
// not queue. The error matches errs.ErrOverload if there was no slot for a load in the background,
// no room in the queue, or no slot before the hard timeout; otherwise it is the cause of ctx's
// end.
func (l *loadLimit) enter(ctx context.Context, behind bool) error {
	switch {
	case l.enterAtOnce():
		return nil
	case behind:
		return l.enterBehind()
	}
	if l.waiting.Add(1) > l.most {
		l.waiting.Add(-1)
		return fmt.Errorf("%w: %d loads wait already", errs.ErrOverload, l.most)
	}
	defer l.waiting.Add(-1)
	mine := make(chan struct{})
	l.mu.Lock()
	l.queue = append(l.queue, mine)
	l.serveLocked()
	l.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.queue, mine); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		return withoutPlace(causeOf(ctx))
	}
	return nil // it has got one at the last moment
}

// enterAtOnce is enter if there is a slot, and reports whether there was.
func (l *loadLimit) enterAtOnce() bool { return l.waiting.Load() == 0 && l.take() }

// enterBehind is enter for a load in the background. Those who have got a slot count as waiting until
// they run; here they do not.
func (l *loadLimit) enterBehind() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 && l.take() {
		return nil
	}
	return errNoPlaceBehind
}

func (l *loadLimit) take() bool {
	for n := l.free.Load(); n > 0; n = l.free.Load() {
		if l.free.CompareAndSwap(n, n-1) {
			return true
		}
	}
	return false
}

// serveLocked gives free slots to those who have waited longest.
func (l *loadLimit) serveLocked() {
	for len(l.queue) > 0 && l.take() {
		close(l.queue[0])
		l.queue[0] = nil
		l.queue = l.queue[1:]
	}
}

// withoutPlace is the error of a load whose context has ended for cause while it was in the queue.
func withoutPlace(cause error) error {
	if cause == errHardTimeout {
		return fmt.Errorf("%w: the load did not get a place within the hard timeout", errs.ErrOverload)
	}
	return cause
}

func (l *loadLimit) leave() {
	if l.free.Add(1); l.waiting.Load() > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.serveLocked()
	}
}
