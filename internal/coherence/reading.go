package coherence

import (
	"cmp"
	"context"

	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

// Reading is a read of records from Redis in flight: what was known before the request. A
// record counts only if it still holds when the record is used.
//
// A pending invalidation may be delivered while a record that it concerns is on its way:
//
//  1. the invalidation of a key is pending, and a read requests the record
//  2. Redis returns the old record
//  3. the invalidation is delivered: the record is gone, and nothing is pending any more
//  4. the read finds nothing that is pending for the key, and takes the old record for valid
//
// So a Reading notes what was pending for each key before the request, and once anything was
// delivered, [Coordinator.Outdated] compares the record with that. If another goroutine has
// raised and settled a suspicion meanwhile, which may concern any key, [Coordinator.EndRead] says
// so.
type Reading struct {
	// At is the local time when the read began, after whatever it had to wait for.
	At int64
	// Ended is the local time when Redis had answered. It is the caller's, as of the last answer.
	Ended       int64
	connections uint32
	begin, end  moment                // before the request, and when Redis had answered
	pending     map[string]pendingFor // by Redis key; nil if there is none
	parts       partSet               // of the records
	failed      map[uint8]error       // parts of which it is not certain what Redis may lack
}

// partSet is a set of parts: the bits of their numbers.
type partSet uint16

func (s partSet) has(part uint8) bool { return s>>part&1 != 0 }

func (s partSet) with(part uint8) partSet { return s | 1<<part }

// moment is how many suspicions had been raised, and how much had been delivered.
type moment struct {
	reasons   uint64
	settled   partSet // the parts of which no suspicion is open
	delivered uint64
}

func (a *Coordinator) moment() moment {
	m := moment{reasons: a.suspicions.Load()}
	for _, p := range a.parts {
		if p.suspicion.isSettled(m.reasons) {
			m.settled = m.settled.with(p.of)
		}
	}
	m.delivered = a.deliveredAny.Load()
	return m
}

// settledSince reports whether a suspicion of a part may have been settled since m that was raised or
// open since then, which has removed something from Redis. Until one has removed something, what it
// concerns is pending, or the read is like one that ended before the suspicion was raised.
func (a *Coordinator) settledSince(m moment, part uint8) bool {
	if a.deliveredAny.Load() == m.delivered {
		return false
	}
	return a.suspicions.Load() != m.reasons || !m.settled.has(part)
}

// pendingFor is what is pending for a key.
type pendingFor struct {
	item  retryqueue.Item
	ok    bool  // there is an item
	since int64 // of patterns and of everything, or of tags as well; never if there are none
}

func (a *Coordinator) pendingFor(redisKey string, tags []string) (p pendingFor) {
	p.item, p.ok = a.queue.Find(redisKey)
	p.since = a.pendingSince(redisKey, tags)
	return p
}

func (p *pendingFor) any() bool { return p.ok || p.since != never }

// affects reports whether one of the invalidations affects a record that Redis holds.
func (a *Coordinator) affects(ctx context.Context, p *pendingFor, redisKey string, rec store.Record) bool {
	if p.ok && (p.item.Token == "" || rec.CASToken().Token != p.item.Token) && !a.newer(ctx, &p.item, rec) {
		return true
	}
	if p.since == never {
		return false
	}
	it := retryqueue.Item{Key: redisKey, At: a.date(ctx, redisKey, retryqueue.Past{Since: p.since})}
	return !a.newer(ctx, &it, rec)
}

// BeginRead makes sure that Redis has nothing older than this process's recent writes, as
// Reconcile does, and begins a read of the n records whose Redis keys key returns, at the local
// time at unless there is something to wait for. The error is that of all of them; where it is one
// of some, [Reading.Failed] has it.
func (a *Coordinator) BeginRead(ctx context.Context, at int64, n int, key func(int) string) (r Reading, err error) {
	waits := false
	if len(a.parts) == 1 {
		r.parts = 1
		if _, waits = a.parts[0].suspicion.open(); waits {
			err = a.parts[0].Reconcile(ctx)
		}
	} else {
		waits, err = a.reconcileParts(ctx, &r, n, key)
	}
	if err != nil {
		return r, err
	}
	if r.At = at; waits {
		r.At = now()
	}
	r.begin = a.moment() // before the queue is looked at
	if a.AnyPending() {
		for i := range n {
			k := key(i)
			if len(k) < len(a.cfg.Names.Data) {
				continue // not of this cache's data
			}
			// Tags are not known yet. Once they are delivered, the logical clock has them.
			if p := a.pendingFor(k, nil); p.any() {
				if r.pending == nil {
					r.pending = make(map[string]pendingFor)
				}
				r.pending[k] = p
			}
		}
	}
	r.connections = a.connections(r.At)
	return r, nil
}

// reconcileParts reconciles the parts of the keys of a read, and reports whether there was any to wait
// for.
func (a *Coordinator) reconcileParts(ctx context.Context, r *Reading, n int, key func(int) string) (waits bool, _ error) {
	for i := range n {
		r.parts = r.parts.with(a.Of(key(i)).of)
	}
	if waits = a.beginReconcilings(r.parts); !waits {
		return false, nil
	}
	var first error
	some := false
	for _, p := range a.parts {
		if !r.parts.has(p.of) {
			continue
		}
		err := p.Reconcile(ctx)
		if err == nil {
			some = true
			continue
		}
		if first = cmp.Or(first, err); r.failed == nil {
			r.failed = make(map[uint8]error)
		}
		r.failed[p.of] = err
	}
	if some {
		return waits, nil
	}
	return waits, first
}

// beginReconcilings has the parts of a read that are in doubt be reconciled before one is waited for,
// and reports whether there are any. If so, so are the others that this process uses, whose keys are likely to be read next: a
// process that reads one key after the other waits once for what all of them wait for, such as the
// identity of a server that does not answer.
func (a *Coordinator) beginReconcilings(of partSet) (inDoubt bool) {
	for _, p := range a.parts {
		if _, suspect := p.suspicion.open(); suspect && of.has(p.of) {
			inDoubt = true
		}
	}
	if !inDoubt {
		return false
	}
	for _, p := range a.parts {
		if _, suspect := p.suspicion.open(); suspect && (of.has(p.of) || p.Clock.Known().Epoch != 0) {
			p.beginReconciling()
		}
	}
	return true
}

// Failed returns why the record of a key is not to be asked for; nil if it may be.
func (a *Coordinator) Failed(r *Reading, redisKey string) error {
	if r.failed == nil {
		return nil
	}
	return r.failed[a.Of(redisKey).of]
}

// EndRead is called when Redis has answered. It reports whether the answers may be those of a
// server that lacks writes of this process which Redis had acknowledged; then a suspicion is
// raised, and the records are read again.
//
// A suspicion may be settled before what it concerns is removed from Redis, if another goroutine is
// about to do that:
//
//  1. a read has requested a record; Redis has lost a write of this process, and returns the old one
//  2. a suspicion arises; a reconciliation queues the key, and another goroutine takes it from the queue
//  3. the reconciliation has nothing to deliver, and settles the suspicion
//  4. the read ends: nothing was removed since it began
//  5. the other goroutine removes the record: from now on nothing is pending
//  6. the read uses the old record
//
// So as long as nothing is removed, the moment that counts for [Coordinator.Overtaken] is the one when
// the read began.
func (a *Coordinator) EndRead(r *Reading) (suspect bool) {
	if r.end = a.moment(); r.end.delivered == r.begin.delivered {
		r.end = r.begin
	}
	if a.reconnected(r.connections, r.At) {
		return true
	}
	for _, p := range a.parts {
		if r.parts.has(p.of) && a.settledSince(r.begin, p.of) {
			return a.recent.Any(r.At)
		}
	}
	return false
}

// Overtaken reports whether an invalidation that affects a record was pending when it was
// requested, and anything was delivered since, or whether a suspicion that may concern it was
// settled after EndRead. r may be nil if the record is no answer.
func (a *Coordinator) Overtaken(ctx context.Context, r *Reading, redisKey string, rec store.Record) bool {
	if r == nil || rec.State != store.Found {
		return false
	}
	if r.pending != nil && a.deliveredAny.Load() != r.begin.delivered {
		if p, ok := r.pending[redisKey]; ok && a.affects(ctx, &p, redisKey, rec) {
			return true
		}
	}
	return a.settledSince(r.end, a.Of(redisKey).of) && a.recent.Any(r.At)
}

// connections returns the number of connections to Redis, for reconnected, if that needs the
// number from before an operation that begins now; 0 if it does not.
func (a *Coordinator) connections(now int64) uint32 {
	if a.serverID.known() || !a.recent.Any(now) {
		return 0
	}
	return a.cfg.Client.Connections()
}

// reconnected reports whether new connections to Redis were made, and then raises a suspicion:
// nothing else shows that a server was restarted or replaced between two operations. If this
// process has no recent writes to lose, it reports false.
//
// A suspicion is soon settled where Redis tells its server identity. There, every connection
// since the last call counts, whatever operation made it. Elsewhere all recent writes and
// invalidations have to be replayed, which may remove what other processes have stored since:
// only connections count that were made since before, the result of connections, which was
// called when a read began, at the local time at.
func (a *Coordinator) reconnected(before uint32, at int64) bool {
	if !a.recent.Any(at) {
		return false
	}
	n := a.cfg.Client.Connections()
	if (before == 0 || n == before) && (n == a.dialed.Load() || !a.serverID.known()) {
		return false
	}
	// In this order: a goroutine that sees the new number must see the suspicion as well.
	a.Suspect()
	a.dialed.Store(n)
	return true
}

// Outdated reports whether a record that Redis holds was replaced or invalidated by this
// process, as far as is known: the invalidation has not been delivered, or Redis may have lost
// it, or it was delivered after the record was requested; r is the read of the record. While
// nothing is pending, it costs an atomic load.
func (a *Coordinator) Outdated(ctx context.Context, r *Reading, redisKey string, rec store.Record, tags []string) bool {
	if rec.State != store.Found || len(redisKey) < len(a.cfg.Names.Data) {
		return false
	}
	if a.AnyPending() {
		if p := a.pendingFor(redisKey, tags); a.affects(ctx, &p, redisKey, rec) {
			return true
		}
	}
	// Last: what is no longer pending has been counted as delivered.
	return a.Overtaken(ctx, r, redisKey, rec)
}
