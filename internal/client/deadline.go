package client

import (
	"context"
	"sync/atomic"
	"time"
)

// Every operation has a deadline, and hardly any reaches it. A context and a timer for each
// would be a third of the garbage of a read. So operations that begin within a short time share
// one: it ends when the last of them is due. Connections are given the exact deadline of their
// operation; only waits without a connection, such as the one for a place in the pool, may last
// longer, by 1/deadlineSteps of the timeout. An operation after a pause has a deadline of its
// own, to the nanosecond.
//
// A shared deadline is not canceled when an operation ends, and never used again for others:
// code of the user that keeps the context of an operation sees it end at the deadline.
const deadlineSteps = 64

// now is the time, of which only differences count: it reads the monotonic clock alone, which takes
// half of the time that time.Now takes.
func now() time.Time { return started.Add(time.Since(started)) }

// deadlines makes the deadlines of a Client's operations.
type deadlines struct {
	timeout time.Duration
	latest  atomic.Pointer[deadline]
}

// deadline ends at at.
type deadline struct {
	context.Context
	at     time.Time
	cancel context.CancelFunc
}

// of returns a deadline of operations that begin at start.
func (d *deadlines) of(start time.Time) *deadline {
	at, step := start.Add(d.timeout), d.timeout/deadlineSteps
	for {
		last := d.latest.Load()
		next := at
		if last != nil {
			switch later := last.at.Sub(at); {
			case later >= 0 && later <= step:
				return last
			case later < 0 && later >= -step:
				next = at.Add(step)
			}
		}
		made := &deadline{at: next}
		made.Context, made.cancel = context.WithDeadline(context.Background(), next)
		if d.latest.CompareAndSwap(last, made) {
			return made
		}
		made.cancel()
	}
}

// soon returns a deadline that ends within a step before that of an operation that began at
// start.
func (d *deadlines) soon(start time.Time) *deadline {
	return d.of(start.Add(-d.timeout / deadlineSteps))
}

// waitFor waits until ready is closed, and reports whether it is: no longer than ctx allows, and
// not after due. soon ends some time before due: most waits need no timer.
func waitFor(ctx context.Context, ready, soon <-chan struct{}, due time.Time) bool {
	select {
	case <-ready:
		return true
	case <-ctx.Done():
	case <-soon:
		if time.Now().Before(due) {
			end, cancel := context.WithDeadline(context.Background(), due)
			defer cancel()
			select {
			case <-ready:
			case <-ctx.Done():
			case <-end.Done():
			}
		}
	}
	// Several may be ready; prefer an answer to a timeout.
	select {
	case <-ready:
		return true
	default:
		return false
	}
}

// close releases the timer of the last deadline. No operation may be in flight.
func (d *deadlines) close() {
	if last := d.latest.Load(); last != nil {
		last.cancel()
	}
}

// operationContext has the values of its caller's context, and the end of a deadline.
type operationContext struct {
	caller context.Context
	end    *deadline
	at     time.Time
}

func (c *operationContext) Deadline() (time.Time, bool) { return c.at, true }
func (c *operationContext) Done() <-chan struct{}       { return c.end.Done() }
func (c *operationContext) Err() error                  { return c.end.Err() }

// Value asks the deadline first, which has no values but what package context itself asks for,
// to find out how a derived context is to be canceled: that is not up to the caller's context.
func (c *operationContext) Value(key any) any {
	if v := c.end.Value(key); v != nil {
		return v
	}
	return c.caller.Value(key)
}

// bound returns a context for an operation that begins now, with the values of ctx, which ends
// within the given time, whether ctx is canceled or not; release, if not nil, is to be called
// when the operation has ended.
func (g *Client) bound(ctx context.Context, within time.Duration) (_ context.Context, release context.CancelFunc) {
	if within != g.timeout {
		return context.WithTimeout(context.WithoutCancel(ctx), within)
	}
	at := now()
	return &operationContext{caller: ctx, end: g.deadlines.of(at), at: at.Add(within)}, nil
}
