package cache

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
)

// A loader that ignores its context can't be stopped. When its time is over it is left alone:
// those who wait for it are released, with a stale value or an error, and its lease with
// them, as if it had failed. What it returns later is stored only if nothing has happened to
// the key since: by compare-and-set against what was left in the place of its lease, or
// against the value that it was to replace; and it is as old as the load. Until then it keeps
// its place of the load limit.
const (
	// releaseGrace is how long a loader may take to return once its time is over.
	releaseGrace = 20 * time.Millisecond

	// closeGrace is the same for one that is under way when the cache is closed.
	closeGrace = time.Second

	// closeWait bounds how long Close waits for each part that may be in a function of the
	// program.
	closeWait = 5 * time.Second
)

// called is what a function returned.
type called[R any] struct {
	res R
	err error
}

// contained calls f on a goroutine of its own, as [usercode.Contained] does. If the time of
// ctx is over and f goes on, it returns with left true; late is called with what f returns,
// on its goroutine. A ctx that ends earlier, since nobody waits any more, say, changes
// nothing: what f returns is still of use.
func contained[R any](ctx context.Context, closing <-chan struct{}, f func() (R, error), late func(R, error)) (res R, err error, left bool) {
	done := make(chan called[R], 1)
	var over atomic.Bool // f has returned, or is left alone: whatever comes first
	go func() {
		out := called[R]{err: usercode.ErrGoexit} // unless it returns, or panics
		defer func() {
			if over.CompareAndSwap(false, true) {
				done <- out
				return
			}
			_ = usercode.Do(func() { late(out.res, out.err) })
		}()
		out.err = usercode.Call(func() (err error) {
			out.res, err = f()
			return err
		})
	}()
	select {
	case out := <-done:
		return out.res, out.err, false
	case <-ctx.Done():
	}
	rest := func() time.Duration {
		deadline, _ := ctx.Deadline()
		return max(time.Until(deadline), 0) + releaseGrace
	}
	t := time.NewTimer(rest())
	defer t.Stop()
	for {
		select {
		case out := <-done:
			return out.res, out.err, false
		case <-closing:
			closing = nil
			t.Reset(min(rest(), closeGrace))
		case <-t.C:
			if over.CompareAndSwap(false, true) {
				return res, nil, true
			}
			out := <-done
			return out.res, out.err, false
		}
	}
}

// leftAlone is the error of a load that goes on although its time is over.
func leftAlone(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause == ErrClosed || cause == errHardTimeout {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// leftover is a load that goes on alone.
type leftover[K comparable, V any] struct {
	ready chan struct{} // closed when those who waited are released
	once  sync.Once
	l     *inflightLoad[K, V] // what its value may replace; nil: nothing
	stop  func()              // of what keeps that in place
}

func newLeftover[K comparable, V any]() *leftover[K, V] {
	return &leftover[K, V]{ready: make(chan struct{}), stop: func() {}}
}

// release says that those who waited are released. Only the first call counts.
func (lo *leftover[K, V]) release(l *inflightLoad[K, V], stop func()) (first bool) {
	lo.once.Do(func() {
		first = true
		if lo.l = l; stop != nil {
			lo.stop = stop
		}
		close(lo.ready)
	})
	return first
}

// leave releases a load that goes on: what it may replace is what its lease has become.
func (c *Cache[K, V]) leave(l *inflightLoad[K, V], r *fillResult[V]) {
	rest := &inflightLoad[K, V]{loadKey: l.loadKey, call: l.call, state: l.state, fence: l.fence, stamp: l.stamp, seen: l.seen, claim: l.claim, late: true}
	var stop func()
	if l.lease && l.state == fillBoth {
		rest.state = fillNone
		if t := r.tell; t != nil && t.reply.OK && t.reply.Err == nil {
			rest.state, rest.seen = fillBoth, store.TokenOf(t.Frame)
			// For as long again as the load was to take: one that takes longer is too late.
			ctx, cancel := context.WithTimeout(c.refresher.ctx, c.policy.HardTimeout)
			stays := &inflightLoad[K, V]{loadKey: l.loadKey, lock: true, life: leaseLife, seen: rest.seen, ends: later(local.Now(), t.TTL)}
			stopped := c.extend(ctx, leaseLife, nil, stays)
			stop = func() { stopped(); cancel() }
			context.AfterFunc(ctx, cancel)
		}
	}
	l.left.release(rest, stop)
}

// fillLate stores what a load has returned that was left alone.
func (c *Cache[K, V]) fillLate(o *callOptions, lo *leftover[K, V], res loaded[V]) {
	<-lo.ready
	lo.stop()
	l := lo.l
	if l == nil {
		return
	}
	defer l.claim.End(nil)
	if res.err != nil && c.absence(res.err) == nil || !c.refresher.beginLate() {
		return
	}
	defer c.refresher.wg.Done()
	l.res = res
	c.fill(context.Background(), o, []*inflightLoad[K, V]{l})
}

// age is how old what was loaded is when it is stored: a late value is as old as its load.
func (l *inflightLoad[K, V]) age() time.Duration {
	if !l.late {
		return 0
	}
	return l.res.cost()
}

// waitClosing waits for what is under way, but no longer than closeWait.
func waitClosing(wg interface{ Wait() }) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wg.Wait()
	}()
	t := time.NewTimer(closeWait)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}
