package engine

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/local"
)

// loadContext is the context of the work of a load: it has the values of the first caller's
// context, but not its cancellation, and ends at the hard timeout, or when the load is canceled.
// It is what context.WithCancelCause over WithDeadlineCause over WithoutCancel make, and makes
// these only when a loader asks for more than its error: many never do, and the chain takes a dozen
// allocations and a timer.
type loadContext struct {
	values   context.Context // of the first caller
	ends     atomic.Int64    // the deadline, as local time; noEnd: none
	canceled atomic.Bool     // changed under mu

	mu    sync.Mutex    // guards what follows
	cause error         // of the cancellation
	asked *askedContext // nil until it is needed
}

// noEnd is the deadline of a loadContext that has none.
const noEnd = math.MaxInt64

// askedContext is what a loader has asked for of a loadContext.
type askedContext struct {
	deadline time.Time       // zero: none
	real     context.Context // that chain; nil until it is needed
	cancel   context.CancelCauseFunc
	stop     context.CancelFunc // of its deadline
}

func newLoadContext(values context.Context) *loadContext {
	c := &loadContext{values: values}
	c.ends.Store(noEnd)
	return c
}

// expireAt sets the deadline, a local time. It is called before the context is passed on.
func (c *loadContext) expireAt(ends int64) { c.ends.Store(ends) }

// Cancel cancels the context; the first cause counts.
func (c *loadContext) Cancel(cause error) {
	if c.canceled.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.canceled.Load() {
		c.cancelLocked(cause, c.expired())
	}
}

// cancelLocked cancels the context, unless its deadline has passed before.
func (c *loadContext) cancelLocked(cause error, expired bool) {
	if !expired {
		if c.cause = cause; cause == nil {
			c.cause = context.Canceled
		}
		c.canceled.Store(true)
	}
	if c.asked != nil && c.asked.real != nil {
		c.asked.cancel(cause)
		c.asked.stop()
	}
}

// causeBy returns the cause of an end before the local time at, nil for none, and endAt ends the
// context then, if it has not ended before.
func (c *loadContext) causeBy(at int64) error {
	switch {
	case c.canceled.Load():
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.cause
	case at >= c.ends.Load():
		return errHardTimeout
	}
	return nil
}

func (c *loadContext) endAt(at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.canceled.Load() {
		c.cancelLocked(nil, at >= c.ends.Load())
	}
}

func (c *loadContext) expired() bool {
	ends := c.ends.Load()
	return ends != noEnd && local.Now() >= ends
}

// Cause is context.Cause of the context.
func (c *loadContext) Cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.asked != nil && c.asked.real != nil:
		return context.Cause(c.asked.real)
	case c.canceled.Load():
		return c.cause
	case c.expired():
		return errHardTimeout
	}
	return nil
}

func (c *loadContext) Deadline() (time.Time, bool) {
	if c.ends.Load() == noEnd {
		return time.Time{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.askedLocked().deadline, true
}

func (c *loadContext) askedLocked() *askedContext {
	if c.asked == nil {
		c.asked = new(askedContext)
		if ends := c.ends.Load(); ends != noEnd {
			now := time.Now()
			c.asked.deadline = now.Add(time.Duration(ends - local.At(now)))
		}
	}
	return c.asked
}

func (c *loadContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.asked != nil && c.asked.real != nil:
		return c.asked.real.Err()
	case c.canceled.Load():
		return context.Canceled
	case c.expired():
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
	a := c.askedLocked()
	if a.real != nil {
		return a.real
	}
	ctx := context.WithoutCancel(c.values)
	a.stop = func() {}
	if c.ends.Load() != noEnd && !c.canceled.Load() { // else it has ended before, however late it is now
		ctx, a.stop = context.WithDeadlineCause(ctx, a.deadline, errHardTimeout)
	}
	a.real, a.cancel = context.WithCancelCause(ctx)
	if c.canceled.Load() {
		a.cancel(c.cause)
		a.stop()
	}
	return a.real
}

// withoutCancel is context.WithoutCancel, whose contexts allocate when they are asked for a value. That
// of a caller who can't leave is not canceled as it is.
func withoutCancel(ctx context.Context) context.Context {
	if c, ok := ctx.(*loadContext); ok {
		ctx = c.values
	}
	if ctx.Done() == nil {
		return ctx
	}
	return context.WithoutCancel(ctx)
}

// endOf returns the deadline of a context as local time; without one, it is the end of time.
func endOf(ctx context.Context) int64 {
	if c, ok := ctx.(*loadContext); ok {
		return c.ends.Load()
	}
	if deadline, ok := ctx.Deadline(); ok {
		return local.At(deadline)
	}
	return noEnd
}

// causeBy is causeOf for an end before the local time at.
func causeBy(ctx context.Context, at int64) error {
	if c, ok := ctx.(*loadContext); ok {
		return c.causeBy(at)
	}
	return causeOf(ctx)
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
	handle loadHandle
}

// Value implements [context.Context].
func (c *callContext) Value(key any) any {
	switch key.(type) {
	case underWayKey:
		return &c.call
	case HandleKey:
		return c.handle.get()
	}
	return c.Context.Value(key)
}

func (c *callContext) Cause() error { return causeOf(c.Context) }

// HandleKey is the key of the context's value that is a load's handle.
type HandleKey struct{}

// loadContexts are the contexts of the work of one load and of its loader. They are not used again: a
// loader may keep its context for as long as it likes.
type loadContexts struct {
	work loadContext
	call callContext
}
