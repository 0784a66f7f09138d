package cache

import (
	"sync"
	"time"

	"github.com/delqhi/cache/internal/local"
)

// failures remembers for which keys the source is not to be asked, and why: for
// ErrorTTL the error is the answer, and for RetryAfter it is what a stale value covers.
// Other processes know by a record in Redis; this one needs no round trip for it, and
// keeps the error itself and not only its text.
type failures struct {
	mu    sync.Mutex
	byKey map[string]failure
}

type failure struct {
	err   error
	until int64 // local time
	cover bool  // it stands in the way of a load only where there is a stale value
}

// maxFailures bounds them; any one goes if there are more, and the source is asked
// sooner than it had to be.
const maxFailures = 10_000

func (f *failures) note(rk string, err error, hold time.Duration, cover bool) {
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
	f.byKey[rk] = failure{err, later(local.Now(), hold), cover}
}

// heard notes what another process left word of, unless this one knows it itself.
func (f *failures) heard(rk string, err error, hold time.Duration, cover bool) {
	f.mu.Lock()
	e, ok := f.byKey[rk]
	f.mu.Unlock()
	if !ok || local.Now() >= e.until {
		f.note(rk, err, hold, cover)
	}
}

// none reports whether there are none at all.
func (f *failures) none() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.byKey) == 0
}

// look returns the failure of a key that still holds. covered says that the caller has a
// stale value.
func (f *failures) look(rk string, now int64, covered bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.byKey[rk]
	switch {
	case !ok:
		return nil
	case now >= e.until:
		delete(f.byKey, rk)
		return nil
	case e.cover && !covered:
		return nil
	}
	return e.err
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
