package cache

import (
	"sync"
	"sync/atomic"

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

	mu     sync.Mutex
	byKey  map[string]failure
	latest int64 // local time when the last of them ends
}

type failure struct {
	err   error
	until int64    // local time
	cover bool     // it prevents a load only for callers that have a stale value
	about frame.ID // of the record in Redis while the failure counts: the failure's own, or the stale one; zero: not known
	stamp stamp    // the logical time before the load; zero: not known
}

// maxFailures bounds their number; beyond it an arbitrary one is dropped, and the source is
// asked sooner than necessary.
const maxFailures = 10_000

func (f *failures) note(rk string, e failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byKey == nil {
		f.byKey = map[string]failure{}
	}
	if _, ok := f.byKey[rk]; !ok && len(f.byKey) >= maxFailures {
		for k := range f.byKey {
			delete(f.byKey, k)
			break
		}
	}
	if len(f.byKey) == 0 || e.until > f.latest {
		f.latest = e.until
	}
	f.byKey[rk] = e
	f.any.Store(true)
}

// knows reports whether there is a failure of a key that still counts.
func (f *failures) knows(rk string, now int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.byKey[rk]
	return ok && now < e.until
}

// none reports whether no failure counts any more.
func (f *failures) none() bool {
	if !f.any.Load() {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.byKey) > 0 && local.Now() >= f.latest {
		clear(f.byKey)
	}
	if len(f.byKey) == 0 {
		f.any.Store(false)
	}
	return len(f.byKey) == 0
}

// look returns the failure of a key that still counts, nil if there is none. covered says
// whether the caller has a stale value; clock returns the known state of the logical clock.
func (f *failures) look(rk string, now int64, covered bool, clock func() logicalclock.Known) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.byKey[rk]
	switch {
	case !ok:
		return nil
	case now >= e.until || e.stamp.before(clock()):
		delete(f.byKey, rk)
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
	if e, ok := f.byKey[rk]; ok && e.about != (frame.ID{}) && e.about != id {
		delete(f.byKey, rk)
	}
}

// forget is called when a key was written, invalidated or loaded: an earlier failure no
// longer counts.
func (f *failures) forget(rk string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byKey, rk)
}

// forgetAll is called when it is not known which keys were invalidated.
func (f *failures) forgetAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.byKey)
}

// before reports whether the logical clock has moved since the stamp. It is false if either
// of them is not known.
func (s stamp) before(clock logicalclock.Known) bool {
	return s.era != 0 && clock.Era != 0 && (s.era != clock.Era || s.time < clock.Clock)
}

// remember notes the failure of a load, unless the key's fence has moved since the load
// began. The check comes after the note, because of this interleaving:
//
//  1. the load fails, and the key's fence has not moved
//  2. the key is invalidated: its fence moves, and its failures are forgotten
//  3. the failure is noted
func (c *Cache[K, V]) remember(rk string, e failure, moved func() bool) {
	c.failures.note(rk, e)
	if moved() {
		c.failures.forget(rk)
	}
}

// moved returns a function that reports whether a key's fence has moved since f.
func (c *Cache[K, V]) moved(rk string, f fence.Token) func() bool {
	return func() bool { return !c.fences.Valid(c.encoded(rk), f) }
}

// loadedElsewhere notes a failure that another process has recorded in Redis, unless this
// process has noted one itself. f is from before Redis was asked; about is the id of the record
// that Redis holds while the failure counts.
func (c *Cache[K, V]) loadedElsewhere(rk string, f fence.Token, fd *decoded[V], about frame.ID, cover bool) {
	if now := local.Now(); !c.failures.knows(rk, now) {
		c.remember(rk, failure{
			err: fd.err, until: later(now, fd.hold), cover: cover, about: about, stamp: stamp{fd.raw.Era, fd.raw.Stamp},
		}, c.moved(rk, f))
	}
}

// recall forgets the failure of a key if the record in Redis has changed: not every process
// receives a message that another one has written or invalidated the key.
func (c *Cache[K, V]) recall(it *lookup[K, V], f *decoded[V]) {
	if f.status != unavailable && !c.failures.none() {
		c.failures.seen(it.rk, f.raw.ID)
	}
}
