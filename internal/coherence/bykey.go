package coherence

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// With TrackingKeys, the server reports changes of the keys that this process has read, and other
// processes' messages about keys are not received: only those of patterns, of tags and of everything,
// on a channel of their own. The node that publishes one of the latter sends it to every process itself,
// since each is connected to it: none is lost without its connection, and they are not counted.
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
	none atomic.Bool   // no session by key makes a part of the tier valid, nor will
	all  chan struct{} // closed when sessions of all parts receive all, and the tier is valid, or none is about to

	mu        sync.Mutex                      // guards what follows
	closed    bool                            // all is
	receiving []bool                          // by part
	sessions  map[*session]context.CancelFunc // by key, in progress
}

func (b *byKey) init(parts int) {
	b.all, b.receiving, b.sessions = make(chan struct{}), make([]bool, parts), map[*session]context.CancelFunc{}
}

// wanted reports whether a session may be by key. The transport is one of tracking.
func (b *byKey) wanted() bool { return !b.over.Load() }

// giveUp ends the sessions by key of all parts: those of Tracking follow.
func (b *byKey) giveUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over.Store(true)
	for _, cancel := range b.sessions {
		cancel()
	}
}

// receives is called when a session of a part that receives all makes the tier valid, and when there is
// none to wait for: the tier was not valid before, or the next session has failed.
func (b *byKey) receives(part uint8) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.receivesLocked(part)
}

func (b *byKey) receivesLocked(part uint8) {
	b.receiving[part] = true
	if !b.closed && !slices.Contains(b.receiving, false) {
		b.closed = true
		close(b.all)
	}
}

// allReceive is receives for all parts.
func (b *byKey) allReceive() {
	for part := range b.receiving {
		b.receives(uint8(part))
	}
}

func (b *byKey) begin(s *session, cancel context.CancelFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sessions[s] = cancel
	if b.over.Load() {
		cancel()
	}
}

func (b *byKey) end(s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sessions, s)
}

// ReceiveAll has this process receive from now on also what concerns keys that Redis does not have. It
// is called when such a value enters the local tier: until that is so the tier is not valid, and it is
// flushed before it is.
func (a *Coordinator) ReceiveAll() {
	b := &a.byKey
	if b.none.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over.Store(true)
	defer b.none.Store(true) // last: who finds it need not wait for b.mu
	for _, p := range a.parts {
		if !p.Valid(now()) {
			b.receivesLocked(p.of)
		}
	}
	for s, cancel := range b.sessions {
		s.mu.Lock()
		s.over = true
		s.p.extend(never)
		s.mu.Unlock()
		cancel()
	}
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
		a.byKey.allReceive() // no later call waits
	case <-ctx.Done():
	case <-a.ctx.Done():
	}
}
