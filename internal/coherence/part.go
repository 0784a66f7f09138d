package coherence

import (
	"sync"
	"sync/atomic"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
)

// Part is what this process knows of a part of the keys, its logical clock above all: of all keys on one
// server, and on a cluster of a range of slots; see [store.Names.Parted]. Parts have nothing to do
// with each other: where the node of one part does not answer, the keys of the others are read and
// written, tags invalidate them, and the local tier is valid for them, as ever. So each has a session of
// its own; those of one node share its connection.
//
// What concerns keys of all parts is there once for each: an invalidation of a tag makes a
// tombstone in each clock, and what one of them could not be told is queued for that one alone. A
// doubt about Redis is raised for all of them, since a server has no parts, and is settled for each
// by itself, before a key of that part is read.
//
// All methods are safe for concurrent use.
type Part struct {
	Clock *logicalclock.Table

	a     *Coordinator
	of    uint8
	names store.Names // of this part

	learned atomic.Int64 // local time when the last read of the logical clock was sent
	latest  atomic.Int64 // logicalclock.Latest of the last reading of Redis's clock; 0: none yet
	used    atomic.Bool  // Redis may lose something since the clock was last touched; see rest
	rest    rest

	touching atomic.Bool // in touchByNode; then its goroutine uses seen, otherwise maintain does
	seen     int64       // the tick that was read after what was noted by then, and is to move on; 0: none

	localValid atomic.Int64 // local time up to which the local tier is valid for keys of this part
	heard      atomic.Int64 // local time when the heartbeat was sent by which it was last valid; never: it was not
	tracking   atomic.Bool  // the session is one of Tracking, or of TrackingKeys
	byKey      atomic.Bool  // of TrackingKeys
	firstOnce  sync.Once    // see firstSession

	suspicion    suspicion    // Redis may have lost what this process wrote; see Reconcile
	rollbackSeen suspicion    // Redis has gone back in time
	reconciling  *reconciling // in flight; nil: none; guarded by the mu of a
}

func (a *Coordinator) newPart(i, of int, names store.Names) *Part {
	p := &Part{Clock: logicalclock.NewTable(), a: a, of: uint8(i), names: names}
	p.suspicion.raised, p.rollbackSeen.raised = &a.suspicions, &a.rollbacks
	p.learned.Store(never)
	p.localValid.Store(never)
	p.heard.Store(never)
	p.rest.init(of)
	return p
}

// Part returns the part of that number.
func (a *Coordinator) Part(i uint8) *Part { return a.parts[i] }

// Names returns the names of the part of that number.
func (a *Coordinator) Names(i uint8) store.Names { return a.parts[i].names }

// Parts returns the names by part.
func (a *Coordinator) Parts() []store.Names {
	all := make([]store.Names, len(a.parts))
	for i, p := range a.parts {
		all[i] = p.names
	}
	return all
}

// Of returns the part of a Redis key.
func (a *Coordinator) Of(redisKey string) *Part {
	if len(a.parts) == 1 {
		return a.parts[0]
	}
	return a.parts[store.PartOf(redisKey)]
}

// eachPart calls f for the parts, at once if there are several, and reports whether all calls have
// returned nil.
func (a *Coordinator) eachPart(parts []*Part, f func(*Part) error) (ok bool) {
	if len(parts) == 1 {
		return f(parts[0]) == nil
	}
	var failed atomic.Bool
	var wg sync.WaitGroup
	for _, p := range parts {
		wg.Go(func() {
			if f(p) != nil {
				failed.Store(true)
			}
		})
	}
	wg.Wait()
	return !failed.Load()
}

// extend sets the local time up to which the local tier is valid for keys of this part; never: it is
// not.
func (p *Part) extend(until int64) {
	a := p.a
	a.validMu.Lock()
	defer a.validMu.Unlock()
	p.localValid.Store(until)
	for _, o := range a.parts {
		until = min(until, o.localValid.Load())
	}
	a.localValid.Store(until)
}

// Valid reports whether the local tier is valid at a local time for keys of this part.
func (p *Part) Valid(now int64) bool { return now < p.localValid.Load() }

// Connected reports whether a session of this part is connected at this time, so that the copy of its
// logical clock is up to date.
func (p *Part) Connected(now int64) bool { return p.a.cfg.Transport != None && p.Valid(now) }

// flush removes the keys of this part from the local tier.
func (p *Part) flush() {
	a := p.a
	if len(a.parts) == 1 || a.cfg.Local == nil {
		a.flush()
		return
	}
	a.sweep(p.of, allKeys)
}

// flushed is flush because the local tier may be out of date.
func (p *Part) flushed() {
	p.flush()
	p.a.cfg.Events.Flushed()
}

// missed is called when messages about keys of this part may have been lost during a session. One of
// them may have been about tombstones: the copy of the logical clock is not complete any more.
func (p *Part) missed() {
	p.use()
	p.Clock.Subscribed()
	p.flushed()
}

// isClock reports whether a key is that of a logical clock.
func (a *Coordinator) isClock(key string) bool {
	for _, p := range a.parts {
		if p.names.Epoch == key {
			return true
		}
	}
	return false
}
