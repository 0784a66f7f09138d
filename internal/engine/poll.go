package engine

import (
	"sync/atomic"
	"time"
)

// A load that waits for another process's lease, and is not notified of its end, polls it. The
// pauses grow with the time that was waited: an answer is late by an eighth of that, or by pollFirst.
// A store that takes long to answer, as when many processes wait for one lease, is asked less often:
// then an answer is late by up to half of the time that was waited.
//
// Loads of one cache mostly take about as long as the last ones. So near the time at which a load
// would end by that, the lease is polled more often, pollsNear times at most. Where the pauses would
// be less than pollFirst there are none: a poll takes a round trip, and a timer of a process that has
// nothing else to do ends at a whole millisecond.
const (
	pollFirst = time.Millisecond
	pollMost  = 50 * time.Millisecond
	pollsNear = 8
)

// polls says when a lease is polled.
type polls struct {
	expected time.Duration // how long leases of this cache were held lately; 0: not known
	near     int           // how many polls were near that
}

// pause returns the interval until the next poll of a lease, after the time that was waited so far,
// the polls themselves included. The last poll took that long.
func (p *polls) pause(waited, took time.Duration) time.Duration {
	pause := min(max(waited/8, min(waited/2, 2*took), pollFirst), pollMost)
	near := p.expected - p.expected/8
	switch {
	case waited >= p.expected+p.expected/2 || p.near == pollsNear:
		return pause
	case waited+pollFirst/2 < near:
		return min(pause, max(near-waited, pollFirst/2))
	}
	p.near++
	if pause = min(pause, max(p.expected/32, 2*took)); pause < pollFirst {
		return 0
	}
	return pause
}

// leaseTimes estimates how long the leases of a cache are held: how long its loads and fills take.
type leaseTimes struct{ mean atomic.Int64 }

// note adds a lease. One that was held for unusually long counts as one of twice the mean. Of those
// that end at the same time, some may not count.
func (t *leaseTimes) note(held time.Duration) {
	if mean := t.expected(); mean != 0 {
		held = mean + (min(held, 2*mean)-mean)/8
	}
	t.mean.Store(int64(max(held, time.Microsecond)))
}

func (t *leaseTimes) expected() time.Duration { return time.Duration(t.mean.Load()) }
