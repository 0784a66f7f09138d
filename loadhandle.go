package cache

import (
	"context"
	"time"

	"github.com/delqhi/cache/internal/engine"
)

// Load is the handle of a load that is running; see [CurrentLoad]. Its
// methods are safe for concurrent use and do nothing outside a load.
type Load[V any] struct{ handle engine.Handle }

// CurrentLoad returns the handle of the load that ctx belongs to, through which
// the loader can set how its result is to be kept. It is never nil: outside a
// load, or in a load of another type of value, the handle does nothing. In a
// batch, the settings apply to all of its entries.
func CurrentLoad[V any](ctx context.Context) *Load[V] {
	if l, ok := ctx.Value(engine.HandleKey{}).(*Load[V]); ok {
		return l
	}
	return new(Load[V])
}

// SetTTL sets the lifetime of the result to d, exactly. It takes precedence over every
// other way to set one. d ≤ 0 keeps the result out of the cache.
func (l *Load[V]) SetTTL(d time.Duration) { l.handle.SetTTL(d) }

// NoStore keeps the result out of the cache.
func (l *Load[V]) NoStore() { l.handle.NoStore() }

// Stale returns the value that is being replaced, if there is one: a value past its fresh
// life, in a stale window (strategy.StaleWhileRevalidate, strategy.StaleIfError), or
// one that is refreshed ahead of its expiry. In a batch there is none. Without
// [Source].Clone or [WithCloning] the value is shared and must not be modified.
func (l *Load[V]) Stale() (v V, ok bool) {
	old, ok := l.handle.Stale()
	return valueOf[V](old), ok
}

// NotModified gives the results with which a conditional load keeps the value that is being
// replaced and renews its life: return load.NotModified(). The ETag and tags stay,
// unless others are set. If there is no value to keep, the load fails.
func (l *Load[V]) NotModified() (v V, err error) { return v, l.handle.NotModified() }

// ETag returns the ETag that was stored with the value that is being replaced, "" if there
// is none.
func (l *Load[V]) ETag() string { return l.handle.ETag() }

// SetETag stores a validator with the result, by which a later load can ask the source
// whether the value is unchanged: an HTTP ETag, a version, a time of modification.
func (l *Load[V]) SetETag(tag string) { l.handle.SetETag(tag) }

// AddTags adds tags to the result; see [Tags]. The result has them as of before the
// load: an invalidation of one of them that comes while the load runs applies to it.
func (l *Load[V]) AddTags(names ...string) { l.handle.AddTags(names...) }

// RetryAfter sets for a load that fails how long the source is not to be asked again,
// by this or any other process: reads get a stale value if there is one, else the
// error. It takes precedence over strategy.RetryAfter and strategy.ErrorTTL. d ≤ 0: the
// source may be asked again at once.
func (l *Load[V]) RetryAfter(d time.Duration) { l.handle.RetryAfter(d) }

// NoStale sets for a load that fails that no stale value may be served instead: for
// example because access was invalidated.
func (l *Load[V]) NoStale() { l.handle.NoStale() }
