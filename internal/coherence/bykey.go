package coherence

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// With TrackingKeys, the server reports changes of the keys that this process has read, and other
// processes' messages about keys are not received: only those of patterns, of tags and of everything,
// on a channel of their own. Each node publishes the latter itself to every process that is
// connected to it, and these are connected to each: none is lost without its connection, and they are
// not counted.
//
// What the local tier has must therefore have been read from Redis, or stored there. An invalidation
// of a key that Redis does not have is no change of it:
//
//  1. process A keeps a value that Redis does not have: of a call with SkipRemote, say
//  2. process B invalidates the key. Its DEL removes nothing, and the server reports nothing; the
//     message of B is on the channel of all messages
//
// So when a cache keeps such a value for the first time, it goes over to Tracking, for as long as it
// lives: see ReceiveAll.
type byKey struct {
	over atomic.Bool   // given up
	in   atomic.Bool   // the session is one by key
	all  chan struct{} // closed when a session receives all, and the tier is valid, or none is about to

	mu     sync.Mutex // guards what follows
	closed bool       // all is
	now    *session   // by key, in progress or ended; nil: none
	cancel context.CancelFunc
}

// wanted reports whether a session may be by key. The transport is one of tracking.
func (b *byKey) wanted() bool { return !b.over.Load() }

func (b *byKey) giveUp() { b.over.Store(true) }

// receivesAll is called when a session that receives all makes the tier valid, and when there is none to
// wait for: none is by key, the tier was not valid before, or the next session has failed.
func (b *byKey) receivesAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.receivesAllLocked()
}

func (b *byKey) receivesAllLocked() {
	if !b.closed {
		b.closed = true
		close(b.all)
	}
}

func (b *byKey) begin(s *session, cancel context.CancelFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now, b.cancel = s, cancel
	if b.over.Load() {
		cancel()
	}
}

// ReceiveAll has this process receive from now on also what concerns keys that Redis does not have. It
// is called when such a value enters the local tier: until that is so the tier is not valid, and it is
// flushed before it is.
func (a *Coordinator) ReceiveAll() {
	b := &a.byKey
	if b.over.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over.Store(true)
	if !a.LocalValid(now()) {
		b.receivesAllLocked()
	}
	if b.now == nil {
		return
	}
	b.now.mu.Lock()
	b.now.over = true
	a.localValid.Store(never)
	b.now.mu.Unlock()
	b.cancel()
}

// AwaitAll is ReceiveAll for a value that is to stay in the local tier. If that was valid, it waits until it
// is valid again: for the first session, for [Config.StartTimeout] at most, and no longer than ctx. In
// an outage there is nothing to wait for.
func (a *Coordinator) AwaitAll(ctx context.Context) {
	select {
	case <-a.byKey.all:
		return
	default:
	}
	a.ReceiveAll()
	t := time.NewTimer(a.cfg.StartTimeout)
	defer t.Stop()
	select {
	case <-a.byKey.all:
	case <-t.C:
		a.byKey.receivesAll() // no later call waits
	case <-ctx.Done():
	case <-a.ctx.Done():
	}
}

// copies remembers the last messages of a session by key. Each node of a cluster publishes what any of
// them does, and the session is connected to all: all copies but the first have no effect.
type copies struct {
	mu   sync.Mutex // guards what follows
	of   map[string]struct{}
	last []string // a ring
	next int
}

// copiesMost is how many messages are remembered. The copies of one arrive within what its way over the
// bus takes longer than another one.
const copiesMost = 256

// isCopy reports whether a message has come already.
func (c *copies) isCopy(payload string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.of[payload]; ok {
		return true
	}
	if c.of == nil {
		c.of = map[string]struct{}{}
	}
	c.of[payload] = struct{}{}
	if len(c.last) < copiesMost {
		c.last = append(c.last, payload)
		return false
	}
	delete(c.of, c.last[c.next])
	c.last[c.next] = payload
	c.next = (c.next + 1) % copiesMost
	return false
}
