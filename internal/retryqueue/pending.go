package retryqueue

import "slices"

// keepNumbers is how many of the latest open numbers are worth keeping: an outbox does not
// remember more, and treats older ones as skipped.
const keepNumbers = 4096

func (q *Queue) newSlotLocked() *pending {
	q.live[q.period]++
	return &pending{period: q.period}
}

// releaseLocked removes one invalidation from its period.
func (q *Queue) releaseLocked(period uint64) {
	q.live[period]--
	if q.live[period] > 0 {
		return
	}
	delete(q.live, period)
	close(q.changed)
	q.changed = make(chan struct{})
}

// mergeLocked makes into cover s as well, which has these numbers and is discarded. A Wait for
// s waits for into from now on.
func (q *Queue) mergeLocked(into, s *pending, numbers []uint64) {
	q.openLocked(into, numbers)
	older, newer := min(into.period, s.period), max(into.period, s.period)
	into.period = older
	q.releaseLocked(newer)
}

// openUntilLocked reports whether any invalidation of a period up to that one is left.
func (q *Queue) openUntilLocked(until uint64) bool {
	for period := range q.live {
		if period <= until {
			return true
		}
	}
	return false
}

// openLocked adds numbers to s, which is waiting. A waiting invalidation has a slice of its
// own: neither the caller's nor that of a batch that was returned is written to.
func (q *Queue) openLocked(s *pending, numbers []uint64) {
	s.item.Numbers = append(s.item.Numbers, numbers...)
	q.numbers += len(numbers)
}

func (q *Queue) sizeLocked() int {
	return len(q.waiting.keys) + len(q.taken.keys) + q.waiting.tombstone.size() + q.taken.tombstone.size()
}

func (s *pending) size() int {
	if s == nil {
		return 0
	}
	n := len(s.tags)
	if s.all {
		n++
	}
	return n
}

// finishLocked must be called after every change of the queue's contents.
func (q *Queue) finishLocked() {
	q.size.Store(int64(q.sizeLocked()))
	if q.numbers <= 2*keepNumbers {
		return
	}
	var all []uint64
	for s := range q.waiting.slots {
		all = append(all, s.item.Numbers...)
	}
	slices.Sort(all)
	all = all[max(0, len(all)-keepNumbers):]
	q.numbers = len(all)
	if len(all) < keepNumbers {
		return
	}
	for s := range q.waiting.slots {
		s.item.Numbers = slices.DeleteFunc(s.item.Numbers, func(n uint64) bool { return n < all[0] })
	}
}

// slots yields all invalidations of p.
func (p *set) slots(yield func(*pending) bool) {
	for _, s := range p.keys {
		if !yield(s) {
			return
		}
	}
	if p.tombstone != nil {
		yield(p.tombstone)
	}
}
