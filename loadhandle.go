package cache

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Load is the handle of a load that is running; see [CurrentLoad]. Its
// methods are safe for concurrent use and do nothing outside a load.
type Load[V any] struct {
	old   *decoded[V] // the value that is to be replaced; nil: none
	clone cloner[V]   // may be nil

	mu     sync.Mutex // guards what follows
	active bool
	asked  loadDirectives
}

type handleKey struct{}

// errNotModified is the error that NotModified returns to the loader.
var errNotModified = errors.New("cache: not modified")

// CurrentLoad returns the handle of the load that ctx belongs to, through which
// the loader can set how its result is to be kept. It is never nil: outside a
// load, or in a load of another type of value, the handle does nothing. In a
// batch, the settings apply to all of its entries.
func CurrentLoad[V any](ctx context.Context) *Load[V] {
	if l, ok := ctx.Value(handleKey{}).(*Load[V]); ok {
		return l
	}
	return new(Load[V])
}

func withHandle[V any](ctx context.Context, old *decoded[V], clone cloner[V]) (context.Context, *Load[V]) {
	l := &Load[V]{old: old, clone: clone, active: true}
	return context.WithValue(ctx, handleKey{}, l), l
}

// SetTTL sets the lifetime of the result to d, exactly. It takes precedence over every
// other way to set one. d ≤ 0 keeps the result out of the cache.
func (l *Load[V]) SetTTL(d time.Duration) {
	l.set(func(w *loadDirectives) { w.ttl, w.hasTTL = d, true })
}

// NoStore keeps the result out of the cache.
func (l *Load[V]) NoStore() { l.set(func(w *loadDirectives) { w.skip = true }) }

// Stale returns the value that is being replaced, if there is one: a value past its fresh
// life, in a stale window (strategy.StaleWhileRevalidate, strategy.StaleIfError), or
// one that is refreshed ahead of its expiry. In a batch there is none. Without
// [Source].Clone or [WithCloning] the value is shared and must not be modified.
func (l *Load[V]) Stale() (v V, ok bool) {
	if l.old == nil || !l.isActive() {
		return v, false
	}
	if v = l.old.ans.val; l.clone != nil {
		copied, err := l.clone(v)
		return copied, err == nil
	}
	return v, true
}

// NotModified gives the results with which a conditional load keeps the value that is being
// replaced and renews its life: return load.NotModified(). The ETag and tags stay,
// unless others are set. If there is no value to keep, the load fails.
func (l *Load[V]) NotModified() (v V, err error) {
	if l.old == nil || !l.isActive() {
		return v, errNothingToKeep
	}
	return v, errNotModified
}

var errNothingToKeep = errors.New("cache: not modified, but there is no value to keep")

// ETag returns the ETag that was stored with the value that is being replaced, "" if there
// is none.
func (l *Load[V]) ETag() string {
	if l.old == nil || !l.isActive() {
		return ""
	}
	return l.old.raw.ETag
}

// SetETag stores a validator with the result, by which a later load can ask the source
// whether the value is unchanged: an HTTP ETag, a version, a time of modification.
func (l *Load[V]) SetETag(tag string) { l.set(func(w *loadDirectives) { w.etag = tag }) }

// AddTags adds tags to the result; see [Tags]. The result has them as of before the
// load: an invalidation of one of them that comes while the load runs applies to it.
func (l *Load[V]) AddTags(names ...string) {
	l.set(func(w *loadDirectives) { w.tags = append(w.tags, names...) })
}

// RetryAfter sets for a load that fails how long the source is not to be asked again,
// by this or any other process: reads get a stale value if there is one, else the
// error. It takes precedence over strategy.RetryAfter and strategy.ErrorTTL. d ≤ 0: the
// source may be asked again at once.
func (l *Load[V]) RetryAfter(d time.Duration) {
	l.set(func(w *loadDirectives) { w.retry, w.hasRetry = max(d.Truncate(time.Millisecond), 0), true })
}

// NoStale sets for a load that fails that no stale value may be served instead: for
// example because access was invalidated.
func (l *Load[V]) NoStale() { l.set(func(w *loadDirectives) { w.noStale = true }) }

func (l *Load[V]) set(f func(*loadDirectives)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active {
		f(&l.asked)
	}
}

func (l *Load[V]) isActive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active
}

// loadDirectives is what a loader has set through its handle.
type loadDirectives struct {
	ttl      time.Duration
	hasTTL   bool
	skip     bool
	tags     []string
	etag     string
	retry    time.Duration
	hasRetry bool
	noStale  bool
}

// soFar returns the directives that the loader has set up to now.
func (l *Load[V]) soFar() loadDirectives {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.asked
	w.tags = slices.Clone(w.tags)
	return w
}

// end closes the handle and returns its directives: later calls do nothing.
func (l *Load[V]) end() loadDirectives {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active = false
	return l.asked
}
