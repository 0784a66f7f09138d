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
// ErrorTTL the error is the answer, and for RetryAfter it is what a stale value covers.
// Other processes know by a record in Redis; this one needs no round trip for it, and
// keeps the error itself and not only its text.
//
// What has failed before a write or an invalidation is no news after it. A failure is
// forgotten, wherever the key was changed: when this process does so, or hears that
// another one did; when Redis holds something else than it did then; and when the logical
// clock has moved since the load began, for a failure is a member of any group.
type failures struct {
	any atomic.Bool // there may be some

	mu     sync.Mutex
	byKey  map[string]failure
	latest int64 // local time when the last of them is over
}

type failure struct {
	err   error
	until int64    // local time
	cover bool     // it stands in the way of a load only where there is a stale value
	about frame.ID // of what Redis holds for as long as it counts: the record of the failure, or the stale one; zero: not known
	stamp stamp    // the logical time before the load; zero: not known
}

// maxFailures bounds them; any one goes if there are more, and the source is asked
// sooner than it had to be.
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

// knows reports whether there is a failure of a key that still holds.
func (f *failures) knows(rk string, now int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.byKey[rk]
	return ok && now < e.until
}

// none reports whether none holds any more.
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

// look returns the failure of a key that still holds. covered says that the caller has a
// stale value, clock what is known of the logical clock.
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

// seen is called when Redis holds something else, or nothing, under a key.
func (f *failures) seen(rk string, id frame.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e, ok := f.byKey[rk]; ok && e.about != (frame.ID{}) && e.about != id {
		delete(f.byKey, rk)
	}
}

// forget is called when a key was written, invalidated or loaded: what failed before is
// no news any more.
func (f *failures) forget(rk string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byKey, rk)
}

// forgetAll is called when keys were invalidated that are not known.
func (f *failures) forgetAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.byKey)
}

// before reports whether the logical clock has moved since the stamp. What is not known is
// not taken for that.
func (s stamp) before(clock logicalclock.Known) bool {
	return s.era != 0 && clock.Era != 0 && (s.era != clock.Era || s.time < clock.Clock)
}

// remember notes the failure of a load, unless the key has moved since it began. The look comes after the note, because of
//
//  1. the load fails, and nothing has moved the key
//  2. the key is invalidated: its fence moves, and its failure is forgotten
//  3. the failure is noted
func (c *Cache[K, V]) remember(rk string, e failure, moved func() bool) {
	c.failures.note(rk, e)
	if moved() {
		c.failures.forget(rk)
	}
}

// moved reports whether a key has moved since f.
func (c *Cache[K, V]) moved(rk string, f fence.Token) func() bool {
	return func() bool { return !c.fences.Valid(c.encoded(rk), f) }
}

// loadedElsewhere notes what another process left word of, unless this one knows it itself. f is
// from before Redis was asked, about what Redis holds for as long as it counts.
func (c *Cache[K, V]) loadedElsewhere(rk string, f fence.Token, fd *decoded[V], about frame.ID, cover bool) {
	if now := local.Now(); !c.failures.knows(rk, now) {
		c.remember(rk, failure{
			err: fd.err, until: later(now, fd.hold), cover: cover, about: about, stamp: stamp{fd.raw.Era, fd.raw.Stamp},
		}, c.moved(rk, f))
	}
}

// recall forgets the failure of a key if Redis says that it is over: that another process
// has written or invalidated it is not heard everywhere.
func (c *Cache[K, V]) recall(it *lookup[K, V], f *decoded[V]) {
	if f.status != unavailable && !c.failures.none() {
		c.failures.seen(it.rk, f.raw.ID)
	}
}
