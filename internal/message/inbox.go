package message

import (
	"maps"
	"math"
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
}

// peer is the state of one sender.
type peer struct {
	// A sender whose first received number is not 1 has published before. If its Base does not
	// show that this was before the session, and number 1, which may have been overtaken, does
	// not arrive by syncBy, that is a gap.
	synced bool
	syncBy int64

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
	return &Inbox{peers: map[uint64]*peer{}, armed: math.MinInt64, settled: math.MinInt64}
}

// Subscribed begins a new session: from now on, every message that is published is received.
// The caller flushes after it, so earlier messages do not matter.
func (b *Inbox) Subscribed(now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.peers)
	b.armed = now
	b.settled = now + settle
}

// Receive records a message of another sender, and reports a gap.
func (b *Inbox) Receive(n *Message, now int64) (gap bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peers[n.Sender]
	if p == nil {
		p = &peer{outOfOrder: map[uint64]struct{}{}, syncBy: max(b.settled, now+grace)}
		b.peers[n.Sender] = p
	}
	if !p.synced && b.saysAll(n, now) {
		p.synced = true
		p.restart(max(p.mark, n.Base))
	}
	if gap = p.receive(n, now); gap {
		b.acceptLocked(now)
	}
	return gap
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
	for _, p := range b.peers {
		gap = p.overdue(now) || gap
	}
	if gap {
		b.acceptLocked(now)
	}
	crowded := len(b.peers) > maxPeers
	maps.DeleteFunc(b.peers, func(_ uint64, p *peer) bool {
		quiet := now - p.received
		// Its messages may still be in transit, and must not look like those of an unknown
		// sender.
		left := p.last && p.synced && quiet >= grace
		return left || crowded && quiet >= silence
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

func (p *peer) receive(n *Message, now int64) (gap bool) {
	p.received = now
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
	p.advance()
	if len(p.outOfOrder) > maxAhead {
		// The missing number is far behind. If it is open at its sender, and not lost, the next
		// missing one would be as far behind soon.
		p.restart(p.greatest())
		return p.synced || p.overdue(now)
	}
	return p.overdue(now)
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
