package client

import "time"

// A queue looks at its batches by a timer, for as long as there are any: round trips that take too long
// are no longer waited for, reads among them are sent once more, and callers are woken up when their time
// is over.

// abandonLocked stops waiting for batches in flight.
func (l *endpointQueue) abandonLocked() {
	l.underway = 0
	l.generation++
}

// watchLocked has the queue looked at after a while, and then for as long as there are batches.
// The callers do not do that themselves: a timer for each, or a look at another channel than that of
// their batch, costs more than its share of the round trip.
func (l *endpointQueue) watchLocked() {
	switch {
	case l.watching:
		return
	case l.watch == nil:
		l.watch = time.AfterFunc(l.lookEvery(), l.watched)
	default:
		l.watch.Reset(l.lookEvery())
	}
	l.watching = true
}

// lookEvery is how often a queue is looked at: often enough for callers who may not wait for long.
func (l *endpointQueue) lookEvery() time.Duration { return min(tooLong, l.batcher.client.timeout) }

func (l *endpointQueue) watched() {
	next, lot, overtake, in := l.stuck(time.Now())
	if next != nil {
		l.batcher.flush(l, next, lot)
	}
	if overtake != nil {
		l.batcher.overtake(overtake)
	}
	if in > 0 {
		l.watch.Reset(in)
	}
}

// stuck returns the batch to send now, because the round trips in flight take too long and it
// waits for them; the batch whose reads are to be sent once more; and the time until the next
// look, 0 if there is nothing to look at. It wakes up the callers of batches that have taken as long as
// one may wait.
func (l *endpointQueue) stuck(now time.Time) (next *batch, lot int, overtake *batch, in time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) > 0 {
		if in = tooLong - now.Sub(l.last); in <= 0 {
			l.abandonLocked()
			l.underway++
			l.last = now
			next, lot, in = l.nextLocked(), l.generation, tooLong
		}
	}
	overtake, left := l.slowestLocked(now)
	if left > 0 && (in == 0 || left < in) {
		in = left
	}
	if left := l.expireLocked(now); left > 0 && (in == 0 || left < in) {
		in = left
	}
	l.watching = in > 0
	return next, lot, overtake, in
}

// expireLocked wakes up the callers of a batch when the time of the first of them is over: each then
// waits for its own. It returns the time until the next look, 0 if no other batch is open.
func (l *endpointQueue) expireLocked(now time.Time) (in time.Duration) {
	for _, tr := range l.open {
		left := l.batcher.client.timeout - now.Sub(tr.began)
		switch {
		case left <= 0 && tr.late == nil:
			tr.late = make(chan struct{})
			close(tr.progress)
		case left > 0 && (in == 0 || left < in):
			in = min(left, l.lookEvery())
		}
	}
	return in
}
