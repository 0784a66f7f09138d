package cache

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// queueFactor is how many loads may wait for each that may run.
const queueFactor = 16

// loadLimit bounds the loads of a cache that run at once, in this process. Whoever comes
// when all places are taken waits in a queue, first come, first served, for as long as
// its own load may take. When the queue is full as well it is turned away at once, so
// that a source which has become slow is not met by ever more that wait for it.
type loadLimit struct {
	places  *semaphore.Weighted
	queue   int64 // how many may wait
	waiting atomic.Int64
}

func newLoadLimit(n int) *loadLimit {
	return &loadLimit{places: semaphore.NewWeighted(int64(n)), queue: queueFactor * int64(n)}
}

// errNoPlaceBehind is for what would not queue.
var errNoPlaceBehind = fmt.Errorf("%w: load limit reached", ErrOverload)

// enter takes a place; leave gives it back. What nobody waits for does not queue. The
// error matches ErrOverload if there was no place, in the queue or before the load's time
// was over, or is why ctx has ended otherwise.
func (l *loadLimit) enter(ctx context.Context, behind bool) error {
	switch {
	case l.places.TryAcquire(1):
		return nil
	case behind:
		return errNoPlaceBehind
	}
	if l.waiting.Add(1) > l.queue {
		l.waiting.Add(-1)
		return fmt.Errorf("%w: %d loads wait already", ErrOverload, l.queue)
	}
	defer l.waiting.Add(-1)
	if l.places.Acquire(ctx, 1) == nil {
		return nil
	}
	cause := context.Cause(ctx)
	if cause == errHardTimeout {
		return fmt.Errorf("%w: the load did not get a place within the hard timeout", ErrOverload)
	}
	return cause
}

func (l *loadLimit) leave() { l.places.Release(1) }
