package message

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// grace is how long after a watermark a number that it claims may still be in transit: the
	// connections of a pool overtake each other, and so do the nodes of a cluster.
	grace = int64(300 * time.Millisecond)
	// settle is how long after the beginning of a session a single flush covers all senders
	// whose first received message is not their first.
	settle = int64(1500 * time.Millisecond)
	// maxAhead is how many numbers of a sender may have been received beyond a missing one.
	maxAhead = 1024
	// silence is how long a sender must have been silent before it may be forgotten.
	silence = int64(10 * time.Minute)
	// maxPeers is how many senders are remembered although they are silent. A sender that is
	// forgotten and publishes again costs a flush, so one that writes once in an hour must not
	// be forgotten for that.
	maxPeers = 1024
)

// Inbox tracks the messages received from each sender, and detects lost ones.
//
// A method that reports a gap has detected a loss: everything that was cached before it
// returned has to be flushed. Times are in nanoseconds of a monotonic clock. All methods are
// safe for concurrent use.
type Inbox struct {
	mu      sync.Mutex // guards what follows
	peers   map[uint64]*peer
	armed   int64 // when the session began
	settled int64 // when the session has settled, or will have

	direct    bool  // see Direct
	disproved bool  // see Disproved
	forgotten int64 // when the last message was received of a sender that was forgotten
}

// peer is the state of one sender.
type peer struct {
	// A sender whose first received number is not 1 has published before. If its Base does not
	// show that this was before the session, and number 1, which may have been overtaken, does
	// not arrive by syncBy, that is a gap.
	synced bool
	syncBy int64

	// Numbers up to before may have been published before the session; nothing is known of that unless
	// placed is set. See place.
	placed bool
	before uint64

	mark       uint64              // all up to it were received, or need not be
	outOfOrder map[uint64]struct{} // received beyond mark+1
	// The claims of watermarks beyond mark: the first one, and the latest one after it.
	claim, next claim
	received    int64 // when the last message was received
	last        bool
}

type claim struct {
	number uint64 // 0: none
	at     int64
}

// NewInbox returns an inbox that has received nothing.
func NewInbox() *Inbox {
	return &Inbox{peers: map[uint64]*peer{}, armed: math.MinInt64, settled: math.MinInt64, forgotten: math.MinInt64}
}

// Subscribed begins a new session: from now on, every message that is published is received.
// The caller flushes after it, so earlier messages do not matter.
func (b *Inbox) Subscribed(now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.peers)
	b.armed = now
	b.settled = now + settle
	b.direct, b.disproved, b.forgotten = false, false, math.MinInt64
}

// Direct says that no message of the session is lost alone, as far as is known. From now on the
// numbers only check that, until the next session: a sender that is not known costs no flush,
// because it counts as in step at the numbers that it has when it becomes known. A gap of one that
// is in step disproves it; see Disproved.
//
// It reports a gap if there may be one already.
func (b *Inbox) Direct(now int64) (gap bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.direct = true
	for _, p := range b.peers {
		// What was in flight when the session began may have been published before, out of order.
		gap = gap || p.synced && p.claim.number != 0
		p.synced, p.syncBy = false, max(b.settled, now+grace)
	}
	return gap
}

// Disproved reports, once, that a message was lost alone though Direct was called. The session is
// then as without Direct.
func (b *Inbox) Disproved() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	is := b.disproved
	b.disproved = false
	return is
}

// Receive records a message of another sender, and reports a gap.
func (b *Inbox) Receive(n *Message, now int64) (gap bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peers[n.Sender]
	if p == nil {
		gap = b.direct && b.missedEarlier(n, now)
		p = &peer{outOfOrder: map[uint64]struct{}{}, syncBy: max(b.settled, now+grace)}
		b.peers[n.Sender] = p
	}
	b.place(p, n, now)
	switch {
	case b.direct:
		p.join(now)
	case !p.synced && b.saysAll(n, now):
		p.synced = true
		p.restart(max(p.mark, n.Base))
	}
	lost := p.receive(n, now, b.direct)
	if n.Unresolved {
		// The sender says itself that something is missing: that is no loss. Its numbers are
		// published, or never will be, and are covered by the flush.
		gap = true
		p.restart(max(p.mark, n.Number))
	}
	b.disproveLocked(lost && p.missesOwn())
	if gap = gap || lost || p.crowded(); gap {
		b.acceptLocked(now)
	}
	return gap
}

// disproveLocked takes the loss of a message that was published during the session: it is not direct.
func (b *Inbox) disproveLocked(lost bool) {
	if lost && b.direct {
		b.direct, b.disproved = false, true
	}
}

// place notes which numbers of a sender were begun during the session: those after its Base, if nothing was
// in flight at some time of the session, and those after one that is received when it has settled. Where a
// sender joins does not say so:
//
//  1. Redis does not answer to number 1 of a sender, which stays open; 2 is published
//  2. the session begins; a watermark, if any, says 0
//  3. 1 is published again as 3, and a watermark says 3: 2 is missing, and was not lost
func (b *Inbox) place(p *peer, n *Message, now int64) {
	switch {
	case p.placed:
	case n.Base > 0 && now-int64(n.Quiet) >= b.settled:
		p.placed, p.before = true, n.Base
	case n.Kind != Watermark && now >= b.settled:
		p.placed, p.before = true, n.Number
	}
}

// missedEarlier reports whether the first message of a sender shows that earlier ones were published
// during the session. That is not certain: they may have been skipped. What was in flight when the
// session began may have left flight later, and a sender that is not known may have been forgotten.
func (b *Inbox) missedEarlier(n *Message, now int64) bool {
	if b.armed == math.MinInt64 || n.Base == 0 || slices.Contains(n.Skipped, n.Base) {
		return false
	}
	return now-int64(n.Quiet) >= max(b.armed, b.forgotten)+settle
}

// saysAll reports whether everything up to n's Base was published before the session began, and
// does not matter. One machine's clock runs a little faster than another's.
func (b *Inbox) saysAll(n *Message, now int64) bool {
	quiet := int64(n.Quiet)
	return n.Base > 0 && b.armed != math.MinInt64 && quiet-quiet/1000 >= now-b.armed
}

// Tick handles timeouts, and reports a gap. It must be called every few hundred milliseconds.
func (b *Inbox) Tick(now int64) (gap bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	proof := false
	for _, p := range b.peers {
		if b.direct {
			p.join(now)
		}
		if p.overdue(now) {
			gap, proof = true, proof || p.missesOwn()
		}
	}
	b.disproveLocked(proof)
	if gap {
		b.acceptLocked(now)
	}
	crowded := len(b.peers) > maxPeers
	maps.DeleteFunc(b.peers, func(_ uint64, p *peer) bool {
		quiet := now - p.received
		// Its messages may still be in transit, and must not look like those of an unknown
		// sender.
		left := p.last && p.synced && quiet >= grace
		if !left && (!crowded || quiet < silence) {
			return false
		}
		b.forgotten = max(b.forgotten, p.received)
		return true
	})
	return gap
}

// acceptLocked counts all claimed numbers as received, because everything is flushed: they were
// published before now. Numbers that are not claimed may arrive, or be lost, later, and stay
// missing.
func (b *Inbox) acceptLocked(now int64) {
	for _, p := range b.peers {
		n := max(p.claim.number, p.next.number)
		if !p.synced && now >= p.syncBy {
			p.synced = true
			n = max(n, p.greatest())
		}
		if n > p.mark {
			p.restart(n)
		}
	}
}

// join makes a sender of a session that is direct one that is in step.
func (p *peer) join(now int64) {
	if !p.synced && now >= p.syncBy {
		p.synced = true
		p.restart(max(p.greatest(), p.claim.number, p.next.number))
	}
}

// receive counts a message, and reports a gap. A sender of a session that is direct is not in step
// because its first number was received: the second may have been published before, and before the
// session.
func (p *peer) receive(n *Message, now int64, direct bool) (gap bool) {
	p.received = now
	synced := p.synced
	if n.Kind != Watermark {
		p.count(n.Number)
	} else {
		p.last = p.last || n.Last
		for _, k := range n.Skipped {
			p.count(k)
		}
		p.claimed(claim{n.Number, now})
		p.synced = p.synced || n.Number == 0
	}
	if direct {
		p.synced = synced
	}
	p.advance()
	return p.overdue(now)
}

// crowded counts all numbers as received if one is missing too far behind, and reports whether it
// does, which is a gap. If that one is open at its sender, and not lost, the next missing one would be
// as far behind soon.
func (p *peer) crowded() bool {
	if len(p.outOfOrder) <= maxAhead {
		return false
	}
	p.restart(p.greatest())
	return p.synced
}

func (p *peer) count(n uint64) {
	p.synced = p.synced || n == 1
	if n > p.mark {
		p.outOfOrder[n] = struct{}{}
	}
}

// claimed adds a claim, which [peer.advance] drops when it is met. Only the first one and the
// latest are kept: when the first is settled one way or the other, the latest stands for all in
// between.
func (p *peer) claimed(c claim) {
	switch {
	case p.claim.number == 0:
		p.claim = c
	case c.number > max(p.claim.number, p.next.number):
		p.next = c
	}
}

// advance moves the mark over the received numbers, and drops the claims that are met.
func (p *peer) advance() {
	for {
		if _, ok := p.outOfOrder[p.mark+1]; !ok {
			break
		}
		p.mark++
		delete(p.outOfOrder, p.mark)
	}
	for p.claim.number != 0 && p.claim.number <= p.mark {
		p.claim, p.next = p.next, claim{}
	}
}

func (p *peer) overdue(now int64) bool {
	if !p.synced {
		return now >= p.syncBy
	}
	return p.claim.number != 0 && now-p.claim.at >= grace
}

// missesOwn reports whether a number that is missing, of those claimed first, was published during the session.
func (p *peer) missesOwn() bool {
	from, to := max(p.mark, p.before), p.claim.number
	if !p.placed || to <= from {
		return false
	}
	received := uint64(0)
	for k := range p.outOfOrder {
		if from < k && k <= to {
			received++
		}
	}
	return received < to-from
}

// greatest returns the greatest number received.
func (p *peer) greatest() uint64 {
	n := p.mark
	for k := range p.outOfOrder {
		n = max(n, k)
	}
	return n
}

// restart counts all numbers up to n as received.
func (p *peer) restart(n uint64) {
	p.mark = n
	maps.DeleteFunc(p.outOfOrder, func(k uint64, _ struct{}) bool { return k <= n })
	p.advance()
}
