package engine

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/delqhi/cache/internal/expiring"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
)

// failures remembers for which keys the source is not to be asked, and why: for
// ErrorTTL reads return the error, and for RetryAfter they return a stale value instead.
// Other processes learn of a failure by a record in Redis; this one needs no round trip for
// it, and keeps the error itself and not only its text.
//
// A failure from before a write or an invalidation does not count after it. It is
// forgotten, wherever the key was changed: when this process changes it, or receives a
// message that another one did; when Redis holds another record than it did then; and when
// the logical clock has moved since the load began, since a failure counts as having every
// tag.
type failures struct {
	any atomic.Bool // false: there are none

	mu    sync.Mutex // guards byKey
	byKey expiring.Map[failure]
}

type failure struct {
	err     error
	cover   bool     // it prevents a load only for callers that have a stale value
	about   frame.ID // of the record in Redis while the failure counts: the failure's own, or the stale one; zero: not known
	version version  // the logical time before the load; zero: not known
}

// maxFailures bounds their number; if one is dropped, the source is asked sooner than
// necessary.
const maxFailures = 10_000

func (f *failures) note(rk string, e failure, until int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byKey.Put(strings.Clone(rk), e, until) // rk may share the memory of a batch
	f.any.Store(true)
}

// knows reports whether there is a failure of a key that still counts.
func (f *failures) knows(rk string, now int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.byKey.Get(rk, now)
	return ok
}

// none reports whether no failure counts any more.
func (f *failures) none() bool {
	if f.any.Load() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.any.Store(!f.byKey.Empty(local.Now()))
	}
	return !f.any.Load()
}

// readClock returns the failure of a key that still counts, nil if there is none. covered says
// whether the caller has a stale value; clock returns the known state of the logical clock.
func (f *failures) look(rk string, now int64, covered bool, clock func() logicalclock.Known) error {
	if !f.any.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.byKey.Get(rk, now)
	switch {
	case !ok:
		return nil
	case e.version.before(clock()):
		f.byKey.Remove(rk)
		return nil
	case e.cover && !covered:
		return nil
	}
	return e.err
}

// seen is called with the id of the record that Redis holds under a key, zero if none. It
// forgets a failure that is about another record.
func (f *failures) seen(rk string, id frame.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e, _ := f.byKey.Get(rk, local.Now()); e.about != (frame.ID{}) && e.about != id {
		f.byKey.Remove(rk)
	}
}

// forget is called when a key was written, invalidated or loaded: an earlier failure no
// longer counts.
//
// Where none was noted, nothing is locked, because of this interleaving:
//
//  1. a failure is put into the map
//  2. its key is written: the fence moves, and there seems to be nothing to forget
//  3. any is set, and the caller that has noted the failure finds that the fence has moved; see remember
func (f *failures) forget(rk string) {
	if !f.any.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byKey.Remove(rk)
}

// forgetAll is called when it is not known which keys were invalidated.
func (f *failures) forgetAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byKey.Clear()
}

// before reports whether the logical clock has moved since the stamp. It is false if either
// of them is not known.
func (s version) before(clock logicalclock.Known) bool {
	return s.epoch != 0 && clock.Epoch != 0 && (s.epoch != clock.Epoch || s.time < clock.Clock)
}

// remember notes the failure of a load, unless the key's fence has moved since the load
// began. The check comes after the note, because of this interleaving:
//
//  1. the load fails, and the key's fence has not moved
//  2. the key is invalidated: its fence moves, and its failures are forgotten
//  3. the failure is noted
func (c *Cache) remember(rk string, e failure, until int64, moved func() bool) {
	c.failures.note(rk, e, until)
	if moved() {
		c.failures.forget(rk)
	}
}

// moved returns a function that reports whether a key's fence has moved since f.
func (c *Cache) moved(rk string, f fence.Token) func() bool {
	return func() bool { return !c.fences.Valid(c.encoded(rk), f) }
}

// loadedElsewhere notes a failure that another process has recorded in Redis, unless this
// process has noted one itself. f is from before Redis was asked; about is the id of the record
// that Redis holds while the failure counts.
func (c *remote) loadedElsewhere(rk string, f fence.Token, fd *decoded, about frame.ID, cover bool) {
	if now := local.Now(); !c.failures.knows(rk, now) {
		e := failure{err: fd.err, cover: cover, about: about, version: version{fd.raw.Epoch, fd.raw.LogicalTime, fd.part}}
		c.remember(rk, e, later(now, fd.hold), c.moved(rk, f))
	}
}

// recall forgets the failure of a key if the record in Redis has changed: not every process
// receives a message that another one has written or invalidated the key.
func (c *remote) recall(it *Lookup, f *decoded) {
	if f.status != unavailable && !c.failures.none() {
		c.failures.seen(it.rk, f.raw.ID)
	}
}
