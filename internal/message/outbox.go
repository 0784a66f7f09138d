package message

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// repeat is how many watermarks repeat the same number: one may be lost as well.
	repeat = 3
	// maxSkipped is how many numbers a watermark lists. Beyond it the oldest are left out, and
	// receivers that have not received them flush.
	maxSkipped = 256
	// maxFailed is how many failed numbers are remembered.
	maxFailed = 4096
)

// Outbox numbers this process's messages, and tracks the outcome of each.
//
// A number is in flight from Next until it is resolved; see [Sent]. If its outcome is unknown it
// stays open until Skip or Done. No watermark goes beyond the lowest open number: an open number
// may not have been published.
//
// Where the keys are in several parts, each of which has a channel, nothing is counted: a number only
// says which echoes are the sender's own, and of which part it is whose content is lost. See Lost.
//
// All methods are safe for concurrent use.
type Outbox struct {
	sender uint64
	parts  int // 1: messages are counted

	mu        sync.Mutex        // guards what follows
	last      uint64            // the greatest number begun
	inFlight  map[uint64]uint8  // the part of each
	failed    map[uint64]failed // those of which it is not known whether they were published
	low       uint64            // some of the failed numbers up to low have been forgotten
	skipped   []skip            // oldest first
	base      uint64            // nothing up to it was in flight at the time baseAt
	baseAt    time.Time
	settled   time.Time // when the last number left flight
	published uint64    // the greatest number of a watermark
	left      int       // how many watermarks still have to repeat it
	lost      bool      // see Lose
	// Of the numbers from first to last some count as published whose content never was, and a
	// watermark has to say so; 0: none.
	gaveUpFirst, gaveUpLast uint64
	lostIn                  uint32 // the parts of those that were given to GiveUp, as bits
}

// failed is a failed number.
type failed struct {
	part uint8
	open bool
}

// skip is a number that was skipped. It is dropped when [repeat] watermarks have listed it.
type skip struct {
	number uint64
	left   int
}

// NewOutbox returns an outbox that has begun no number. sender is not 0.
func NewOutbox(sender uint64) *Outbox { return NewOutboxOf(sender, 1) }

// NewOutboxOf returns an outbox for keys in that many parts.
func NewOutboxOf(sender uint64, parts int) *Outbox {
	return &Outbox{sender: sender, parts: parts, inFlight: map[uint64]uint8{}, failed: map[uint64]failed{}}
}

// NewSender returns a random sender number for a new instance of a cache. Two instances get the
// same one as likely as any two random numbers of 64 bits are equal.
func NewSender() uint64 {
	for {
		if n := rand.Uint64(); n != 0 {
			return n
		}
	}
}

// Sender returns the number that NewOutbox was given.
func (o *Outbox) Sender() uint64 { return o.sender }

// Next returns a message of that kind with a new number, which is now in flight.
func (o *Outbox) Next(kind Kind) (Message, Sent) { return o.NextIn(0, kind) }

// NextIn is Next for the channel of a part of the keys.
func (o *Outbox) NextIn(part uint8, kind Kind) (Message, Sent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.inFlight) == 0 {
		o.base, o.baseAt = o.last, o.settled
	}
	o.last++
	o.inFlight[o.last] = part
	return Message{Sender: o.sender, Number: o.last, Kind: kind, Base: o.base, Quiet: o.quietLocked()}, Sent{o, o.last}
}

// quietLocked returns how long ago the last number up to base left flight.
func (o *Outbox) quietLocked() time.Duration {
	if o.base == 0 {
		return 0 // nothing was published before
	}
	return time.Since(o.baseAt).Truncate(time.Millisecond)
}

// landLocked takes a number out of flight.
func (o *Outbox) landLocked(n uint64) (flew bool) {
	if _, flew = o.inFlight[n]; flew {
		delete(o.inFlight, n)
		o.settled = time.Now()
	}
	return flew
}

// Done records that these numbers were published.
func (o *Outbox) Done(numbers ...uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range numbers {
		o.landLocked(n)
		if f, ok := o.failed[n]; ok {
			o.failed[n] = failed{f.part, false}
		}
	}
}

// GiveUp records that it is unknown whether these numbers were published, and that their content will
// not be published again. They count as published, and the next watermark is marked as Unresolved:
// receivers flush.
func (o *Outbox) GiveUp(numbers ...uint64) {
	o.mu.Lock()
	for _, n := range numbers {
		part, flies := o.inFlight[n]
		f, ok := o.failed[n]
		switch {
		case flies:
			o.lostIn |= 1 << part
		case ok:
			o.lostIn |= 1 << f.part
		default:
			o.lostIn = o.all() // forgotten
		}
		o.giveUpLocked(n)
	}
	o.mu.Unlock()
	o.Done(numbers...)
}

// all returns the bits of all parts.
func (o *Outbox) all() uint32 { return 1<<o.parts - 1 }

// giveUpLocked records that the content of a number counts as lost.
func (o *Outbox) giveUpLocked(n uint64) {
	if o.gaveUpLast == 0 {
		o.gaveUpFirst = n
	}
	o.gaveUpFirst, o.gaveUpLast = min(o.gaveUpFirst, n), max(o.gaveUpLast, n)
}

// Lost returns the parts, as bits, of which the content of some message is lost since the last call, and
// the message that says so, on the channel of each. With closing it is the last one: what is open then
// will never be published. It takes the place of Watermark where there are several parts. A number that
// the outbox has forgotten is no loss there: its content will be published under another one.
func (o *Outbox) Lost(closing bool) (n Message, parts uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if closing {
		if o.lost {
			o.lostIn = o.all()
		}
		for _, part := range o.inFlight {
			o.lostIn |= 1 << part
		}
		for _, f := range o.failed {
			if f.open {
				o.lostIn |= 1 << f.part
			}
		}
	}
	parts, o.lostIn = o.lostIn, 0
	return Message{Sender: o.sender, Number: o.last, Kind: Watermark, Last: closing, Unresolved: true}, parts
}

// fail records that it is unknown whether n was published, or will be.
func (o *Outbox) fail(n uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	part := o.inFlight[n]
	if o.landLocked(n) {
		o.failLocked(n, failed{part, true})
	}
}

// Skip records that the content of these numbers has been published again under other numbers:
// receivers need not receive them.
func (o *Outbox) Skip(numbers ...uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range numbers {
		part, flies := o.inFlight[n]
		if f := o.failed[n]; !flies {
			if !f.open {
				continue // published, skipped before, or forgotten
			}
			part = f.part
		}
		o.landLocked(n)
		if o.failLocked(n, failed{part, false}); o.parts > 1 {
			continue
		}
		if len(o.skipped) == maxSkipped {
			if s := o.skipped[0]; s.left == repeat {
				o.giveUpLocked(s.number)
			}
			o.skipped = slices.Delete(o.skipped, 0, 1)
		}
		o.skipped = append(o.skipped, skip{n, repeat})
	}
}

// failLocked records n as failed. When there are too many it forgets the older half: it raises
// low, up to which no echo is ignored any more; and open numbers are given up, so that receivers
// flush. Both invalidate more than needed.
func (o *Outbox) failLocked(n uint64, f failed) {
	if n <= o.low {
		if f.open {
			o.giveUpLocked(n)
		}
		return
	}
	o.failed[n] = f
	if len(o.failed) <= maxFailed {
		return
	}
	old := slices.Sorted(maps.Keys(o.failed))[:maxFailed/2]
	for _, k := range old {
		if o.failed[k].open {
			o.giveUpLocked(k)
		}
		delete(o.failed, k)
	}
	o.low = old[len(old)-1]
}

// IsOwnEcho reports whether an echo of number n of this sender may be ignored. It may while n
// is in flight, because its outcome decides: the acknowledgement applies the write locally, and
// a failure drops the local entry; and after the acknowledgement. It may not once n has failed,
// even if it was skipped:
//
//  1. a write is sent; its caller gives up; the local entry is dropped
//  2. the key is read from Redis, and is in the local tier again
//  3. Redis executes the write and publishes its message
//
// The echo of a number that was never begun is not ignored: two instances may have drawn the
// same sender.
func (o *Outbox) IsOwnEcho(n uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, failed := o.failed[n]
	return o.low < n && n <= o.last && !failed
}

// Watermark returns the message to publish now, on a timer. due is false if the last three
// watermarks had the same number, so that three follow the last activity, and then silence. If it
// can't be published, Unpublished takes it back.
//
// With closing it is the last one. Invalidations that are still open then will never be
// retried: the watermark counts them as published, so that receivers that have not received
// them flush, and is marked as Unresolved, for receivers that do not count. Otherwise a sender
// without a new number closes in silence: receivers that do not know it would flush for nothing.
func (o *Outbox) Watermark(closing bool) (n Message, due bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	number := o.outLocked()
	if closing {
		number = o.last
	}
	if number > o.published {
		o.published, o.left = number, repeat
	}
	unresolved := closing && (o.lost || o.outLocked() < o.last)
	if o.gaveUpLast > 0 && o.gaveUpFirst <= number {
		unresolved = true
		if o.gaveUpFirst = number + 1; o.gaveUpLast <= number {
			o.gaveUpFirst, o.gaveUpLast = 0, 0
		}
	}
	if o.left == 0 && !unresolved {
		return Message{}, false
	}
	o.left = max(o.left-1, 0)
	o.skipped = slices.DeleteFunc(o.skipped, func(s skip) bool { return s.left == 0 })
	var list []uint64
	for i := range o.skipped {
		if s := &o.skipped[i]; s.number <= number {
			s.left--
			list = append(list, s.number)
		}
	}
	n = Message{Sender: o.sender, Number: number, Kind: Watermark, Skipped: list, Last: closing, Unresolved: unresolved}
	if len(o.inFlight) == 0 {
		o.base, o.baseAt = o.last, o.settled
	}
	if o.base <= number {
		n.Base, n.Quiet = o.base, o.quietLocked()
	}
	return n, true
}

// Lose records that the content of some message will never be published, whether or not its
// number is still remembered: the last watermark says so.
func (o *Outbox) Lose() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lost = true
}

// Unpublished says that a watermark could not be published: the latest one is due again.
func (o *Outbox) Unpublished(n *Message) {
	o.Again()
	if n.Unresolved {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.giveUpLocked(n.Number)
	}
}

// Again makes the latest watermark due again: a new receiver may
// need it.
func (o *Outbox) Again() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.published > 0 {
		o.left = repeat
	}
	for i := range o.skipped {
		o.skipped[i].left = repeat
	}
}

// outLocked returns the greatest number up to which none is open.
func (o *Outbox) outLocked() uint64 {
	out := o.last
	for n := range o.inFlight {
		out = min(out, n-1)
	}
	for n, f := range o.failed {
		if f.open {
			out = min(out, n-1)
		}
	}
	return out
}
