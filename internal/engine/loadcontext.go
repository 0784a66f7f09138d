package engine

import (
	"context"
	"sync"
	"time"
)

// loadContext is the context of the work of a load: it has the values of the first caller's
// context, but not its cancellation, and ends at the hard timeout, or when the load is canceled.
// It is what context.WithCancelCause over WithDeadlineCause over WithoutCancel make, and makes
// these only when a loader asks for more than its error and its deadline: many never do, and the
// chain takes a dozen allocations and a timer.
type loadContext struct {
	values context.Context // of the first caller

	mu       sync.Mutex // guards what follows
	deadline time.Time  // zero: none
	canceled bool
	cause    error           // of the cancellation
	real     context.Context // that chain; nil until it is needed
	cancel   context.CancelCauseFunc
	stop     context.CancelFunc // of its deadline
}

func newLoadContext(values context.Context) *loadContext { return &loadContext{values: values} }

// expireAfter sets the deadline. It is called before the context is passed on.
func (c *loadContext) expireAfter(d time.Duration) { c.expireAt(time.Now().Add(d)) }

// expireAt is expireAfter for a point in time.
func (c *loadContext) expireAt(deadline time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = deadline
}

// Cancel cancels the context; the first cause counts.
func (c *loadContext) Cancel(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.endedLocked() {
		if c.canceled, c.cause = true, cause; cause == nil {
			c.cause = context.Canceled
		}
	}
	if c.real != nil {
		c.cancel(cause)
		c.stop()
	}
}

func (c *loadContext) endedLocked() bool { return c.canceled || c.expiredLocked() }

func (c *loadContext) expiredLocked() bool {
	return !c.deadline.IsZero() && time.Until(c.deadline) <= 0 // which reads one clock, not two
}

// Cause is context.Cause of the context.
func (c *loadContext) Cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.real != nil:
		return context.Cause(c.real)
	case c.canceled:
		return c.cause
	case c.expiredLocked():
		return errHardTimeout
	}
	return nil
}

func (c *loadContext) Deadline() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deadline, !c.deadline.IsZero()
}

func (c *loadContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.real != nil:
		return c.real.Err()
	case c.canceled:
		return context.Canceled
	case c.expiredLocked():
		return context.DeadlineExceeded
	}
	return nil
}

func (c *loadContext) Done() <-chan struct{} { return c.chain().Done() }

// Value implements [context.Context]. The chain would find the values of the caller's context as
// well; it is asked for what package context looks for, and that is the address of an int. A test
// holds that no other key is needed.
func (c *loadContext) Value(key any) any {
	if _, ok := key.(*int); ok {
		return c.chain().Value(key)
	}
	return c.values.Value(key)
}

// chain returns the contexts of package context, which it makes when it is first called.
func (c *loadContext) chain() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real != nil {
		return c.real
	}
	ctx := context.WithoutCancel(c.values)
	c.stop = func() {}
	if !c.deadline.IsZero() && !c.canceled { // else it has ended before, however late it is now
		ctx, c.stop = context.WithDeadlineCause(ctx, c.deadline, errHardTimeout)
	}
	c.real, c.cancel = context.WithCancelCause(ctx)
	if c.canceled {
		c.cancel(c.cause)
		c.stop()
	}
	return c.real
}

// causeOf is context.Cause, for the contexts of loads as well.
func causeOf(ctx context.Context) error {
	if c, ok := ctx.(interface{ Cause() error }); ok {
		return c.Cause()
	}
	return context.Cause(ctx)
}

// callContext is the context of a call of user code: it identifies the call to the cache, and a
// load's handle to the loader.
type callContext struct {
	context.Context
	call   underWay
	handle any // nil: it is no load
	key    [1]string
}

// Value implements [context.Context].
func (c *callContext) Value(key any) any {
	switch key.(type) {
	case underWayKey:
		return &c.call
	case HandleKey:
		return c.handle
	}
	return c.Context.Value(key)
}

func (c *callContext) Cause() error { return causeOf(c.Context) }

// HandleKey is the key of the context's value that is a load's handle.
type HandleKey struct{}
