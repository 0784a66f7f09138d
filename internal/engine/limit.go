package engine

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/delqhi/cache/internal/errs"
	"golang.org/x/sync/semaphore"
)

// queueFactor is how many loads may be queued for each one that may run.
const queueFactor = 16

// loadLimit bounds the concurrent loads of a cache in this process. A load that finds all
// slots taken waits in a FIFO queue, for as long as it may take itself. When the queue is
// full as well the load is refused at once, so that an ever growing number of loads does
// not wait for a source that has become slow.
type loadLimit struct {
	places  *semaphore.Weighted
	queue   int64 // the most loads that may wait
	waiting atomic.Int64
}

func newLoadLimit(n int) *loadLimit {
	return &loadLimit{places: semaphore.NewWeighted(int64(n)), queue: queueFactor * int64(n)}
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
		return errNoPlaceBehind
	}
	if l.waiting.Add(1) > l.queue {
		l.waiting.Add(-1)
		return fmt.Errorf("%w: %d loads wait already", errs.ErrOverload, l.queue)
	}
	defer l.waiting.Add(-1)
	if l.places.Acquire(ctx, 1) == nil {
		return nil
	}
	return withoutPlace(causeOf(ctx))
}

// enterAtOnce is enter if there is a slot, and reports whether there was.
func (l *loadLimit) enterAtOnce() bool { return l.places.TryAcquire(1) }

// withoutPlace is the error of a load whose context has ended for cause while it was in the queue.
func withoutPlace(cause error) error {
	if cause == errHardTimeout {
		return fmt.Errorf("%w: the load did not get a place within the hard timeout", errs.ErrOverload)
	}
	return cause
}

func (l *loadLimit) leave() { l.places.Release(1) }
