package engine

import (
	"errors"
	"hash/maphash"
	"math"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
)

// The local tier during an outage (strategy.LocalDuringOutage). While notifications are not
// received, and for keys that Redis can't be asked for, it goes on: for each entry, for a time d
// since the entry was last known to be true.
//
//	an entry from before       when the last heartbeat was sent that came back: every change that
//	                           Redis had acknowledged by then has been received
//	one that was read or       when the read or the write was sent
//	written meanwhile
//	a loaded one               when its load began
//
// An entry that is put while notifications are not received is marked, with a deadline. One that is
// not marked was put before; all of them end together, but for Jitter, and no timer removes them.
// So no process serves what another one replaced longer ago than d.
//
// What this process does itself has effect at once. The order of its steps is that of any write:
// what the tier had of the key is removed, and the key's fence moved, before the call returns.
// Whatever the tier has of the key from then on was requested later. So a key whose change is
// pending need not be read past the tier, as it is while notifications are received: there, what
// another process stored may have come from Redis before the change was known there.
//
//	the outage begins while a load runs
//	 1. a load has a lease; Redis goes away
//	 2. the load ends; its compare-and-set is not answered
//	 3. the value enters the local tier, with the fence from before 1 and a deadline of d from
//	    the beginning of the load
//
//	a Set fails
//	 1. Set is not answered: the caller gets an error, and Redis may or may not have the value
//	 2. the tier keeps neither the old value nor the new one: the caller was told that the new
//	    one is not stored, and which of two concurrent writes is the later one is not known
//	 3. the next read loads what the source has, and that is kept
//
//	another process writes
//	 1. a load of this process begins, and reads the source
//	 2. another process changes the source, and invalidates; this process does not hear of it
//	 3. this process serves the value of 1 until d after 1 has begun
//
//	Redis is back, as it was, empty, or as it was a while ago
//	 1. a session is subscribed
//	 2. pending invalidations are delivered, or else checked against each record that is read
//	 3. a heartbeat comes back: the tier is flushed, every fence moved, and the tier used as ever
//	 4. a load that began before ends: its fence was moved, and it fills nothing
//
//	commands are answered, and notifications are not received
//	 1. entries are served until their time d is over, whether they are marked or not, without
//	    asking Redis
//	 2. what the tier does not have is read from Redis, as ever, and marked Reached
//	 3. sessions that are subscribed, and end before a heartbeat comes back, change nothing
//
//	notifications are received, and commands are not answered
//	 1. a read that the tier does not answer asks Redis, and gets no answer
//	 2. it loads; the value is marked Apart
//	 3. the next read asks Redis too, and only if that fails, the entry marked Apart answers
//	 4. Redis answers again: entries marked Apart are not served, although no session began
//
// So while notifications are received, an entry marked Apart answers only where Redis was asked and
// did not answer. Otherwise it would hide what another process had stored in Redis before 2, and not
// in the source.
type outage struct {
	most      time.Duration // d
	coherence *coherence.Coordinator
	seed      maphash.Seed

	begun atomic.Bool  // and not over; for the log
	used  atomic.Int64 // about the local time of the last use
}

// outageQuiet is how long the tier is not used as in an outage before that counts as over, and
// usedEvery how exactly its last use is noted.
const (
	outageQuiet = time.Second
	usedEvery   = 100 * time.Millisecond
)

func newOutage(most time.Duration, co *coherence.Coordinator) *outage {
	return &outage{most: most, coherence: co, seed: maphash.MakeSeed()}
}

// unheard reports whether the local tier is used as during an outage at a local time, for a key. o may
// be nil.
func (o *outage) unheard(rk string, now int64) bool {
	return o != nil && !o.coherence.LocalValidFor(rk, now)
}

// unheardIn is unheard for the keys of a part.
func (o *outage) unheardIn(part uint8, now int64) bool {
	return o != nil && !o.coherence.Part(part).Valid(now)
}

// neverHeard is a local time before all others.
const neverHeard = math.MinInt64

// heard returns the local time up to which everything is known to have been received about a key, or
// neverHeard. The tier is flushed before that time grows by the first heartbeat of a session.
func (o *outage) heard(rk string) int64 {
	if at, ok := o.coherence.LastHeard(rk); ok {
		return at
	}
	return neverHeard
}

// holdsInOutage reports whether an entry answers during an outage. heard is what heard returned
// before the entry was looked for.
func (c *Cache) holdsInOutage(rk string, e *local.Head, heard, now int64) bool {
	m := e.Meta
	if m == nil || m.Outage == local.None {
		if heard == neverHeard || now >= e.Expires || c.policy.Sliding > 0 && now >= e.Deadline {
			return false
		}
		// The fraction is that of the key, so that the entries do not all end together.
		fraction := float64(maphash.String(c.outage.seed, rk)>>11) / (1 << 53)
		if now >= later(heard, c.policy.Spread(c.outage.most, fraction)) {
			return false
		}
	} else if now >= e.Deadline {
		return false
	}
	return m == nil || c.clockIn(m.Part).ValidateHeard(m.Epoch, m.LogicalTime, m.Began, m.Tags, now) == logicalclock.Valid
}

// readInOutage answers with an entry of the local tier, if it has one that answers during an
// outage.
func (c *Cache) readInOutage(it *Lookup, o *Options) bool {
	if c.local == nil {
		return false
	}
	heard := c.outage.heard(it.rk)
	e, ok := c.local.Use(it.key)
	if !ok || !c.holdsInOutage(it.rk, e.Head, heard, local.Now()) || !c.answerFromLocal(it, e, o) {
		return false
	}
	if !o.Uncounted {
		c.stats.outageHits.Add(1)
	}
	c.usesOutage()
	return true
}

// lookInOutage returns the tier's entry of a key, nil if there is none, and whether it is usable
// during an outage.
func (c *Cache) lookInOutage(key Key, rk string, now int64) (Held, status) {
	heard := c.outage.heard(rk)
	e, ok := c.local.Peek(key)
	if ok && c.holdsInOutage(rk, e.Head, heard, now) {
		return e, usable
	}
	return e, notFound
}

// putInOutage marks an entry that enters the local tier, if it must not be taken for one that is
// kept up to date. It was made for this, was true at the local time at, or later, and has the
// version s.
func (c *Cache) putInOutage(e Held, how local.Outage, at int64, s version) {
	if c.outage == nil || how == local.Reached && !c.outage.unheardIn(s.part, local.Now()) {
		return
	}
	if e.Meta == nil {
		e.Meta = &local.Meta{Epoch: s.epoch, LogicalTime: s.time, Part: s.part, Stale: e.Expires}
	}
	e.Meta.Outage = how
	end := later(at, c.policy.Spread(c.outage.most, c.rand()))
	if how == local.Apart { // LocalTTL is about how often Redis is asked
		e.Deadline = e.Expires
		if idle := c.policy.Sliding; idle > 0 {
			end = min(end, later(at, idle))
		}
	}
	e.Deadline = min(e.Deadline, end)
}

// endBy has an entry, of the version s, end by an invalidation that is to come. Its Expires is then not the
// end of the value's own life any more, which a write with KeepTTL would keep.
func (c *Cache) endBy(e Held, until int64, s version) {
	e.Deadline = min(e.Deadline, until)
	if c.outage == nil || until >= e.Expires {
		return
	}
	e.Expires = until // it may be served after its deadline
	if e.Meta == nil {
		e.Meta = &local.Meta{Epoch: s.epoch, LogicalTime: s.time, Part: s.part, Stale: until}
	}
	e.Meta.Ends = true
}

// keepsApart reports whether what is loaded for a key is to be kept in the local tier although Redis has not
// taken it, by the error of that.
func (c *Cache) keepsApart(rk string, err error) bool {
	if c.outage == nil {
		return false
	}
	return c.outage.unheard(rk, local.Now()) || !isReply(err) && !errors.Is(err, coherence.ErrPending)
}

// noLease notes that Redis gave no lease for a load, and why. The load goes on, and fills nothing,
// or during an outage the local tier.
func (c *remote) noLease(l *inflightLoad, why error) {
	if l.state, l.why = fillNone, why; c.keepsApart(l.rk, why) {
		c.keepInOutage(l)
	}
}

// keepInOutage has the local tier keep the result of a load, which must not have begun.
func (c *remote) keepInOutage(l *inflightLoad) {
	l.state, l.outage = fillLocal, true
	l.fence, l.version = c.fences.Token(c.encoded(l.rk)), c.lastVersion(l.rk)
}

// lastVersion returns the latest version of a key's part that is known. It may be old, which only makes an entry
// invalid sooner than necessary.
func (c *Cache) lastVersion(rk string) version {
	part := c.part(rk)
	known := c.clockIn(part).Known()
	return version{known.Epoch, known.Clock, part}
}

// usesOutage notes that the local tier is used as in an outage.
func (c *Cache) usesOutage() {
	o, now := c.outage, local.Now()
	if last := o.used.Load(); last == 0 || now-last >= int64(usedEvery) {
		o.used.Store(now)
	}
	if !o.begun.Load() && o.begun.CompareAndSwap(false, true) {
		c.reports.OutageTier(true)
	}
}

// outageOver is called from time to time while Redis is heard or reached.
func (c *Cache) outageOver() {
	o := c.outage
	if o == nil || !o.begun.Load() || local.Now()-o.used.Load() < int64(outageQuiet) {
		return
	}
	if o.begun.CompareAndSwap(true, false) {
		c.reports.OutageTier(false)
	}
}
