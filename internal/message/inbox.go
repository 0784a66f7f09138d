package message

import (
	"maps"
	"math"
	"sync"
	"time"
)

const (
	// grace is how long a number that a watermark claims may still be on its way: the
	// connections of a pool overtake each other, and so do the nodes of a cluster.
	grace = int64(300 * time.Millisecond)
	// settle is how long after the beginning of a session one flush is to do for
	// all senders that are met in the middle of what they tell.
	settle = int64(1500 * time.Millisecond)
	// maxAhead is how many numbers a sender may be ahead of one that is missing.
	maxAhead = 1024
	// silence is how long a sender that may be forgotten has said nothing.
	silence = int64(10 * time.Minute)
	// maxPeers is how many senders are remembered although they are silent. One
	// that is forgotten and speaks again costs a flush, so one that writes once in
	// an hour must not be forgotten for that.
	maxPeers = 1024
)

// Inbox knows what this process has heard, of each sender, and messages what it has
// missed.
//
// A method that reports a gap has found that something was missed: everything that
// was remembered before it returned has to be flushed. Times are in nanoseconds of a
// monotonic clock. All methods are safe for concurrent use.
type Inbox struct {
	mu      sync.Mutex // guards what follows
	peers   map[uint64]*peer
	armed   int64 // when the session began
	settled int64 // when the session has, or will have
}

// peer is what was heard of one sender.
type peer struct {
	// A sender that is not met with its first number has told something before. If its
	// Base does not show that this was before the session, and the first number does not
	// come by syncBy, because it was overtaken, that is a gap.
	synced bool
	syncBy int64

	mark       uint64              // all up to it were heard, or need not be
	outOfOrder map[uint64]struct{} // heard beyond mark+1
	// What watermarks have claimed beyond mark: the first such claim, and the latest
	// one after it.
	claim, next claim
	heard       int64 // when
	last        bool
}

type claim struct {
	number uint64 // 0: none
	at     int64
}

// NewInbox returns an inbox that has heard nothing.
func NewInbox() *Inbox {
	return &Inbox{peers: map[uint64]*peer{}, armed: math.MinInt64, settled: math.MinInt64}
}

// Subscribed says that a new session has begun: from now on, everything that is
// published is heard. Its caller flushes after it, so nothing from before matters.
func (b *Inbox) Subscribed(now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.peers)
	b.armed = now
	b.settled = now + settle
}

// Hear takes in a message of another sender, and reports a gap.
func (b *Inbox) Hear(n *Message, now int64) (gap bool) {
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
	if gap = p.hear(n, now); gap {
		b.acceptLocked(now)
	}
	return gap
}

// saysAll reports whether all that n does not say was published, up to its Base, was
// published before the session began, and does not matter. Time passes a little faster on
// one machine than on another.
func (b *Inbox) saysAll(n *Message, now int64) bool {
	quiet := int64(n.Quiet)
	return n.Base > 0 && b.armed != math.MinInt64 && quiet-quiet/1000 >= now-b.armed
}

// Tick does what is due, and reports a gap. It is called every few hundred
// milliseconds.
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
		quiet := now - p.heard
		// What it told may still be on its way, and must not look like a sender
		// never met.
		left := p.last && p.synced && quiet >= grace
		return left || crowded && quiet >= silence
	})
	return gap
}

// acceptLocked takes all that is claimed for heard, because everything is flushed:
// what was claimed was published before now. What was not may come, or be lost, later,
// and stays missing.
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

func (p *peer) hear(n *Message, now int64) (gap bool) {
	p.heard = now
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
		// What is missing is far behind. If it is open at its sender, and not
		// lost, the next one to be missed would be as far behind soon.
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

// claimed notes a claim, of which [peer.advance] drops what is met. Only the first one and the latest are kept: when the first
// is settled one way or the other, the latest speaks for all in between.
func (p *peer) claimed(c claim) {
	switch {
	case p.claim.number == 0:
		p.claim = c
	case c.number > max(p.claim.number, p.next.number):
		p.next = c
	}
}

// advance moves the mark over what was heard, and drops the claims that are met.
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

// greatest returns the greatest number that was heard.
func (p *peer) greatest() uint64 {
	n := p.mark
	for k := range p.outOfOrder {
		n = max(n, k)
	}
	return n
}

// restart takes all numbers up to n for heard.
func (p *peer) restart(n uint64) {
	p.mark = n
	maps.DeleteFunc(p.outOfOrder, func(k uint64, _ struct{}) bool { return k <= n })
	p.advance()
}
