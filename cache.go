// Package cache is a typed cache of two tiers: an optional one inside the
// process, and Redis behind it.
//
//	users, err := cache.NewFrom(rdb, "users", cache.Source[int64, User]{Load: repo.User},
//	    cache.WithStrategy(strategy.LRU(10_000), strategy.TTL(10*time.Minute)))
//	u, err := users.Get(ctx, 42)
//
// A read falls through the tiers, local → Redis → source, and fills them on the
// way back. A write goes to Redis first, then to the local tier.
//
// Entries are invalidated by key, by pattern or by tag, in all processes; see
// [Cache.Invalidate], [Cache.InvalidatePattern] and [Cache.InvalidateTags].
//
// # What to know
//
// Values in the local tier are held decoded and are shared by all readers: do not
// modify a value that a cache returns, or give [Source].Clone or [WithCloning]. A value
// that is passed to a cache may be modified afterwards only with one of these.
//
// A cache may be used by many goroutines at once, for as long as the program runs.
// Make one for each type of value; they may share a Redis client. [Cache.Close]
// ends the cache's background work and leaves the client open.
//
// Processes notify each other of writes and invalidations. The local tier is valid only
// while this process receives these notifications, which it verifies about twice a second with a
// heartbeat: no process serves a value that another one replaced more than 2 seconds ago,
// or longer ago than a strategy.LocalDuringOutage allows. See [WithTransport].
//
// A read that can load does not fail because Redis is unreachable: it returns the loaded
// value. A read that can't load fails with an error that matches [ErrUnavailable] and
// [ErrMiss].
//
// A loader reports that a value does not exist with [ErrNotFound]; the cache
// remembers that for a while (strategy.NotFoundTTL).
//
// Errors never contain keys or values, except in an error that a loader itself returns.
package cache

import (
	"context"
	"time"

	"github.com/delqhi/cache/internal/engine"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/local"
)

// Cache is a typed cache. Make one with [New] or [NewFrom]; all methods are safe
// for concurrent use.
type Cache[K comparable, V any] struct {
	engine       *engine.Cache
	loader       engine.Loader          // of the source; nil if it doesn't load
	keys         *keys.Encoding[K]      // of keys in Redis
	local        *local.Tier[K, V]      // nil: no local tier
	clone        func(val V) (V, error) // copies values of the local tier; nil: they are shared
	dflt         func(key K) (V, bool)  // Source.Default; nil: none
	hot          hotKeys[K]
	readings     readings[K, V]
	writings     writings[K, V]
	manyWritings writingsMany[K, V]
}

// Get returns the value of key from the nearest tier that has it, otherwise
// from the source, if the cache was made with one that loads. The error matches
// [ErrMiss] if there is no value and no source, [ErrNotFound] if the source says
// that the value does not exist, or is the source's own error.
//
// A local hit does not check ctx and allocates nothing.
func (c *Cache[K, V]) Get(ctx context.Context, key K, opts ...ReadOption) (V, error) {
	start := local.Now()
	if len(opts) == 0 {
		if v, due, ok := c.hit(key, start, 0); ok {
			if due != engine.NotDue && c.loader != nil {
				c.refreshHit(ctx, key, due, c.loader)
			}
			return v, nil
		}
	}
	return c.get(ctx, start, key, opts)
}

func (c *Cache[K, V]) get(ctx context.Context, start int64, key K, opts []ReadOption) (V, error) {
	if len(opts) == 0 {
		return c.readOne(ctx, "get", start, key, c.loader, &engine.NoOptions, nil)
	}
	o, err := readOptions(c, opts)
	if err != nil {
		var zero V
		return zero, err
	}
	return c.readOne(ctx, "get", start, key, c.loader, &o.Options, o.report)
}

// Peek returns the value of key if a tier has it, else an error that matches
// [ErrMiss], or [ErrNotFound] for a remembered absence. It loads nothing, fills
// nothing and extends no life.
func (c *Cache[K, V]) Peek(ctx context.Context, key K, opts ...ReadOption) (V, error) {
	o, err := readOptions(c, opts)
	if o.with != nil && err == nil {
		o.mistake("With: Peek loads nothing")
		err = o.invalid()
	}
	if err != nil {
		var zero V
		return zero, err
	}
	o.Peek = true
	return c.readOne(ctx, "peek", local.Now(), key, nil, &o.Options, o.report)
}

// GetOrLoad is Get with the load function given by the call: load runs if no tier
// has the value, once for all concurrent callers of the key, in this process
// and in others. If several callers give different functions, the first one's
// runs, with its options; if a strategy refreshes the entry in the background, the
// function and options are those of the read that found it due. A nil load is an error.
func (c *Cache[K, V]) GetOrLoad(ctx context.Context, key K, load LoadFunc[K, V], opts ...LoadOption) (V, error) {
	start := local.Now()
	if len(opts) == 0 {
		if v, due, ok := c.hit(key, start, 0); ok {
			if due != engine.NotDue && load != nil {
				c.refreshHitBy(ctx, key, due, load)
			}
			return v, nil
		}
	}
	return c.getOrLoad(ctx, start, key, load, opts)
}

func (c *Cache[K, V]) getOrLoad(ctx context.Context, start int64, key K, load LoadFunc[K, V], opts []LoadOption) (V, error) {
	o, err := readOptions(c, opts)
	if load == nil {
		o.mistake("GetOrLoad needs a function that loads")
		err = o.invalid()
	}
	if err != nil {
		var zero V
		return zero, err
	}
	return c.readOne(ctx, "get", start, key, c.engine.QueueFirst(&loader[K, V]{one: load}), &o.Options, o.report)
}

func (c *Cache[K, V]) refreshHitBy(ctx context.Context, key K, age time.Duration, load LoadFunc[K, V]) {
	c.refreshHit(ctx, key, age, c.engine.QueueFirst(&loader[K, V]{one: load}))
}

// GetMany is Get for several keys: one lookup in the local tier, one round trip
// to each Redis node, one load for the missing keys. Keys without a value are left
// out of the map, which is never nil. All other failures are in an error of type
// *[BatchError], and the map still has the values of the keys that did not fail.
func (c *Cache[K, V]) GetMany(ctx context.Context, keys []K, opts ...ReadOption) (map[K]V, error) {
	if len(opts) == 0 {
		return c.readMany(ctx, "get", keys, c.loader, &noOptions)
	}
	o, err := readOptions(c, opts)
	if err != nil {
		return map[K]V{}, err
	}
	return c.readMany(ctx, "get", keys, c.loader, &o)
}

// GetOrLoadMany is GetMany with the load function given by the call. A nil load is
// an error.
func (c *Cache[K, V]) GetOrLoadMany(ctx context.Context, keys []K, load BatchFunc[K, V], opts ...LoadOption) (map[K]V, error) {
	o, err := readOptions(c, opts)
	if load == nil {
		o.mistake("GetOrLoadMany needs a function that loads")
		err = o.invalid()
	}
	if err != nil {
		return map[K]V{}, err
	}
	return c.readMany(ctx, "get", keys, c.engine.QueueFirst(&loader[K, V]{many: load}), &o)
}

// Inspect returns the entry of key in the nearest tier that has one, without loading,
// filling or extending anything. A remembered absence is an entry with Absent set and no
// error; the error matches [ErrMiss] if no tier has an entry.
func (c *Cache[K, V]) Inspect(ctx context.Context, key K) (Entry[V], error) {
	r := c.readings.get(1)
	r.add(key)
	c.engine.Read(ctx, &r.Scratch, nil, &engine.Options{Peek: true, Uncounted: true, AllowStale: true})
	it := r.At(0)
	if it.Absent() {
		return Entry[V]{Info: Info(it.Info())}, nil
	}
	v, err := c.engine.Deliver("inspect", it)
	if err != nil {
		return Entry[V]{}, err
	}
	return Entry[V]{Value: valueOf[V](v), Info: Info(it.Info())}, nil
}

// Set stores val, in Redis first and then in the local tier. After a nil error no
// read in this process returns an older value. The error matches [ErrUnavailable] if
// Redis did not acknowledge the write; whether it took effect is then unknown,
// and the local value is dropped. [ErrTooLarge] and encoding errors come before
// anything is sent.
func (c *Cache[K, V]) Set(ctx context.Context, key K, val V, opts ...WriteOption) error {
	o := &noOptions
	if len(opts) > 0 {
		collected, err := c.setOptions(opts)
		if err != nil {
			return err
		}
		o = &collected
	}
	w := c.writings.get(key, val)
	err := c.engine.Set(ctx, &w.Writing, &w.key, &w.val, &o.Options)
	c.writings.put(w)
	return err
}

// SetMany is Set for several keys, in one round trip to each Redis node. The
// error is a *[BatchError]; keys that are not in it were stored.
func (c *Cache[K, V]) SetMany(ctx context.Context, vals map[K]V, opts ...WriteOption) error {
	o, err := c.setOptions(opts)
	if err != nil {
		return err
	}
	w := c.manyWritings.get(vals)
	c.engine.SetMany(ctx, &w.WritingMany, &o.Options)
	err = c.batch("set", w.Changes())
	c.manyWritings.put(w)
	return err
}

// batch joins the errors of changes.
func (c *Cache[K, V]) batch(op string, changes []engine.Change) error {
	var failed map[K]error
	for i := range changes {
		if ch := &changes[i]; ch.Err != nil {
			if failed == nil {
				failed = map[K]error{}
			}
			failed[*ch.Key.(*K)] = c.engine.Explain(op, ch.Err)
		}
	}
	return batchError(failed)
}

// changesOf returns changes of keys.
func changesOf[K comparable](keys []K) []engine.Change {
	changes := make([]engine.Change, len(keys))
	for i := range keys {
		changes[i].Key = &keys[i]
	}
	return changes
}

// SetIfAbsent stores val if the key has no value, and reports whether it did. A
// remembered absence counts as no value, and so does a Redis key that holds something
// other than a value of this cache. Of several concurrent callers, in this process and
// in others, one stores.
func (c *Cache[K, V]) SetIfAbsent(ctx context.Context, key K, val V, opts ...WriteOption) (bool, error) {
	o, err := c.atomicOptions("SetIfAbsent", opts)
	if err != nil {
		return false, err
	}
	p := &pair[K, V]{key, val}
	return c.engine.SetIfAbsent(ctx, &p.key, &p.val, &o.Options)
}

// Update replaces the value of key by the result of f and returns the new value. It is
// atomic over all processes: if another write happens in between, f runs again with
// the value of that time, until ctx ends. f gets ok false if there is no value; on a
// miss the source is asked first, if the cache has one. old belongs to f: in a LocalOnly
// cache it is a copy, and the error wraps [errors.ErrUnsupported] if a value of this type
// can be copied neither by [Source].Clone nor along its exported fields nor by the codec. The
// new value keeps the deadline and tags of the old one unless an option says
// otherwise. An error of f is returned unchanged and the value stays as it was.
//
// f is passed no context by which its own writes could be distinguished from others: a write
// of the same key within f, by Update or another method, makes f run again, or waits for f,
// until ctx ends. f may read the key.
func (c *Cache[K, V]) Update(ctx context.Context, key K, f func(old V, ok bool) (V, error), opts ...WriteOption) (V, error) {
	var zero V
	o, err := c.atomicOptions("Update", opts)
	if f == nil {
		o.mistake("Update needs a function")
		err = o.invalid()
	}
	if err != nil {
		return zero, err
	}
	v, err := c.engine.Update(ctx, &key, func(old engine.Value, ok bool) (engine.Value, error) {
		v, err := f(valueOf[V](old), ok)
		return &v, err
	}, &o.Options)
	return valueOf[V](v), err
}

// Delete removes keys from both tiers. For one key the error is its own, for
// several it is a *[BatchError]. It matches [ErrUnavailable] if Redis did not
// acknowledge; the local values are dropped all the same. No keys is no error.
func (c *Cache[K, V]) Delete(ctx context.Context, keys ...K) error {
	changes := changesOf(keys)
	c.engine.Delete(ctx, changes)
	if len(changes) == 1 {
		return c.engine.Explain("delete", changes[0].Err)
	}
	return c.batch("delete", changes)
}

// Touch renews the lives of keys: each value lives as long as if it was stored now, by
// [Source].TTL or the strategy, and at least as long as it would have. The value itself is not
// loaded, and stays as old as it is: a load that is to replace it does so. Other processes are
// not notified, and need not be; with invalidate.Tracking, Redis notifies them of any change.
//
// For one key the error is its own, for several it is a *[BatchError]. It matches [ErrMiss] if
// the key has no fresh value, a remembered absence included, and [ErrUnavailable] if Redis did
// not answer. An invalidation with a delay (invalidate.Delayed) is not put off. Under
// strategy.Sliding every read does this for the idle time; Touch renews the whole life. A life of
// [TTL] that is longer than the strategy's is kept. A value of another program (codec.Legacy) is
// left as it is: the error matches [errors.ErrUnsupported]. No keys is no error.
func (c *Cache[K, V]) Touch(ctx context.Context, keys ...K) error {
	changes := changesOf(keys)
	c.engine.Touch(ctx, changes)
	if len(changes) == 1 {
		return c.engine.Explain("touch", changes[0].Err)
	}
	return c.batch("touch", changes)
}

// Close closes the cache: it cancels the loads in flight and waits for them and for
// background operations, for one second, or for five if they are held up by a function of
// the program other than a loader. It then sends the pending invalidations to Redis, if
// Redis can be reached, writes the due part of a write-behind queue to the source for
// 5 seconds at most, ends its subscription, and empties the local tier. A function of the
// source that keeps running although its context has ended is not waited for, and its
// result is not stored: so a loader may call Close, which then takes that one second. Later
// calls of other methods return [ErrClosed]. The Redis client stays open. Close may be
// called more than once, and always returns nil.
func (c *Cache[K, V]) Close() error {
	c.engine.Close()
	return nil
}

// Name returns the name that the cache was made with.
func (c *Cache[K, V]) Name() string { return c.engine.Name() }

// RedisKey returns the key in Redis that holds the value of key, "" for a key
// whose text marshaler fails.
func (c *Cache[K, V]) RedisKey(key K) string {
	rk, err := c.engine.RedisKey(&key)
	if err != nil {
		return ""
	}
	return rk
}
