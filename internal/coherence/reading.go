package coherence

import (
	"context"

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
// So a Reading notes which keys were concerned before the request, and [Coordinator.Outdated]
// takes each of their records for outdated once anything was delivered. If another goroutine has
// raised and settled a suspicion meanwhile, which may concern any key, [Coordinator.EndRead] says
// so.
type Reading struct {
	at          int64  // local time
	reasons     uint64 // suspicions
	settled     bool   // all of them are settled
	connections uint32
	delivered   uint64
	concerned   map[string]struct{}
}

// BeginRead makes sure that Redis has nothing older than this process's recent writes, as
// Reconcile does, and begins a read of the n records whose Redis keys key returns.
func (a *Coordinator) BeginRead(ctx context.Context, n int, key func(int) string) (r Reading, err error) {
	if err = a.Reconcile(ctx); err != nil {
		return r, err
	}
	r.at = now()
	reasons, open := a.suspicion.open()
	r.reasons, r.settled = reasons, !open
	r.delivered = a.deliveredAny.Load() // before the queue is looked at
	if a.AnyPending() {
		for i := range n {
			if k := key(i); a.concerned(k) {
				if r.concerned == nil {
					r.concerned = make(map[string]struct{})
				}
				r.concerned[k] = struct{}{}
			}
		}
	}
	r.connections = a.connections(r.at)
	return r, nil
}

// EndRead is called when Redis has answered. It reports whether the answers may be those of a
// server that lacks writes of this process which Redis had acknowledged; then a suspicion is
// raised, and the records are read again.
func (a *Coordinator) EndRead(r *Reading) (suspect bool) {
	if a.reconnected(r.connections, r.at) {
		return true
	}
	if a.deliveredAny.Load() == r.delivered {
		return false // a suspicion has removed nothing: what it concerns, if anything, is pending
	}
	reasons, _ := a.suspicion.open()
	return (reasons != r.reasons || !r.settled) && a.recent.Any(r.at)
}

// Overtaken reports whether a pending invalidation was delivered that may concern the record of
// a key, after the record was requested. r may be nil if that is not asked.
func (a *Coordinator) Overtaken(r *Reading, redisKey string) bool {
	if r == nil || r.concerned == nil || a.deliveredAny.Load() == r.delivered {
		return false
	}
	_, ok := r.concerned[redisKey]
	return ok
}

// concerned reports whether a pending invalidation may affect Redis's record of a key.
func (a *Coordinator) concerned(redisKey string) bool {
	return a.pending.n.Load() > 0 || a.queue.Has(redisKey)
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
// nothing is pending, it costs two atomic loads.
func (a *Coordinator) Outdated(ctx context.Context, r *Reading, redisKey string, rec store.Record, tags []string) bool {
	// In this order: what is no longer pending has been counted as delivered.
	return a.replaced(ctx, redisKey, rec, tags) || a.Overtaken(r, redisKey)
}
