package redisstore

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// clockAge is how long a measured offset is used before it is measured again. A quartz
	// clock drifts by less than a millisecond in that time.
	clockAge = 10 * time.Second

	// clockRetry is the pause after a failed renewal: otherwise many callers a second would ask
	// a node that can't answer, or may not (by its ACL).
	clockRetry = time.Second

	// clockPatience bounds a renewal. The answer is the time at some point of the round trip,
	// so a slow one says little.
	clockPatience = time.Second
)

// clock estimates one Redis node's clock. It never reads this machine's wall clock: it adds the
// time that the monotonic clock has counted since the last measurement to the node's time in
// that measurement.
type clock struct {
	last    atomic.Pointer[reading]
	renewal atomic.Bool // a measurement is in progress in the background
}

type reading struct {
	at     time.Time // when the answer arrived, with its monotonic reading
	server int64     // µs
	due    time.Time // when to measure again
	within int64     // µs that server may be wrong by
	before int64     // likewise of the reading that this one replaced
}

// now returns the estimate. Without one it measures and waits for the answer (the first callers
// may measure concurrently: the command costs less than a lock held over I/O would); with an
// old one it answers at once and calls renew to start a measurement. measure asks the node for
// its time in µs.
func (c *clock) now(ctx context.Context, measure func(context.Context) (int64, error), renew func(func(context.Context))) (int64, error) {
	r := c.last.Load()
	if r == nil {
		var err error
		if r, err = take(ctx, measure); err != nil {
			return 0, err
		}
		if !c.last.CompareAndSwap(nil, r) {
			r = c.last.Load() // another caller's: wrong is of the one in use
		}
	}
	now := time.Now()
	if !now.Before(r.due) && c.renewal.CompareAndSwap(false, true) {
		renew(func(ctx context.Context) {
			defer c.renewal.Store(false)
			c.renew(ctx, r, measure)
		})
	}
	return r.server + now.Sub(r.at).Microseconds(), nil
}

// estimate returns the estimate at the time at if no measurement is needed.
func (c *clock) estimate(at time.Time) (int64, bool) {
	r := c.last.Load()
	if r == nil {
		return 0, false
	}
	passed := at.Sub(r.at)
	return r.server + passed.Microseconds(), passed < r.due.Sub(r.at)
}

// wrong is by how much, in µs, the estimate may be off, either way: also one that was made up to
// clockAge ago, before the clock was measured again. It is half of the round trip that the
// measurement took, which on a busy machine is more than what lies between two operations.
func (c *clock) wrong() int64 {
	r := c.last.Load()
	if r == nil {
		return 0
	}
	return max(r.within, r.before)
}

// renew replaces old by a new measurement. After a failed one the old offset stays in use for
// clockRetry: the reason for the failure shows in the callers' own operations.
func (c *clock) renew(ctx context.Context, old *reading, measure func(context.Context) (int64, error)) {
	ctx, cancel := context.WithTimeout(ctx, clockPatience)
	defer cancel()
	if r, err := take(ctx, measure); err == nil {
		r.before = old.within
		c.last.Store(r)
		return
	}
	c.last.CompareAndSwap(old, &reading{at: old.at, server: old.server, due: time.Now().Add(clockRetry), within: old.within, before: old.before})
}

func take(ctx context.Context, measure func(context.Context) (int64, error)) (*reading, error) {
	sent := time.Now()
	server, err := measure(ctx)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err // too slow to be of use; ctx has ended
	}
	// The node read its clock between sent and now. The middle halves the maximum error.
	at := time.Now()
	trip := at.Sub(sent).Microseconds()
	return &reading{at: at, server: server + trip/2, due: at.Add(clockAge), within: (trip + 1) / 2}, nil
}
