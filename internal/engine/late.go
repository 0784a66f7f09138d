package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/usercode"
)

// A loader that ignores its context can't be stopped. When its time is over it goes on
// without its callers: they get a stale value or an error, and its lease is released, as if
// it had failed. A value that it returns later is stored only if the key has not changed
// since: by compare-and-set against the failure record that replaced its lease, or against
// the value that it was to replace; and that value is as old as the load. Until then the
// loader keeps its slot of the load limit.
const (
	// releaseGrace is how long a loader may take to return once its time is over.
	releaseGrace = 20 * time.Millisecond

	// closeGrace is the same for a loader that is running when the cache is closed.
	closeGrace = time.Second

	// closeWait bounds how long Close waits for each part that may be running user code.
	closeWait = 5 * time.Second
)

// called is what a function returned.
type called[R any] struct {
	res R
	err error
}

// contained calls f on a goroutine of its own, as [usercode.Contained] does. If the deadline
// of ctx has passed and f is still running, it returns with left true; late is called with
// the results of f, on f's goroutine. If ctx ends earlier, for example because no caller
// waits any more, contained still waits for f: its results are still of use.
func contained[R any](ctx context.Context, closing <-chan struct{}, f func() (R, error), late func(R, error)) (res R, err error, left bool) {
	done := make(chan called[R], 1)
	var over atomic.Bool // f has returned, or contained has, whichever comes first
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

// leftAlone returns the error of a load that goes on although its time is over.
func leftAlone(ctx context.Context) error {
	err := ctx.Err()
	if cause := causeOf(ctx); cause == errs.ErrClosed || cause == errHardTimeout {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// leftover is a load that may go on without its callers.
type leftover struct {
	ready sync.WaitGroup // done when its callers have been answered
	once  sync.Once
	l     *inflightLoad // the load that stores the late value; nil: it is not stored
	stop  func()        // stops prolonging the record that the value may replace; nil: nothing does
}

// release notes that the callers have been answered. Only the first call has an effect.
func (lo *leftover) release(l *inflightLoad, stop func()) (first bool) {
	lo.once.Do(func() {
		first = true
		lo.l, lo.stop = l, stop
		lo.ready.Done()
	})
	return first
}

// leave releases a load that goes on: its value may replace the record that replaced its lease.
func (c *Cache) leave(l *inflightLoad) {
	rest := &inflightLoad{loadKey: l.loadKey, call: l.call, state: l.state, fence: l.fence, version: l.version, claim: l.claim, apart: l.apart, outage: l.outage, late: true}
	if l.redisLoad != nil {
		rest.redisLoad = &redisLoad{seen: l.seen}
	}
	stop := c.backend.keepLate(l, rest)
	l.left.release(rest, stop)
}

// fillLate stores the result of a load that went on without its callers.
func (c *Cache) fillLate(o *Options, lo *leftover, res loaded) {
	if lo.ready.Wait(); lo.stop != nil {
		lo.stop()
	}
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
	c.fill(context.Background(), o, []*inflightLoad{l})
}

// age returns the age of the loaded value when it is stored: a late value is as old as its load.
func (l *inflightLoad) age() time.Duration {
	if !l.late {
		return 0
	}
	return l.res.cost()
}

// waitClosing waits for wg, but no longer than closeWait.
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
