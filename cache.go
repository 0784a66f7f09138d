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
// while this process receives these notifications, which it verifies twice a second with a
// heartbeat: no process serves a value that another one replaced more than 2 seconds ago.
// See [WithTransport].
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
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/topk"
	"github.com/delqhi/cache/strategy"
)

// Cache is a typed cache. Make one with [New] or [NewFrom]; all methods are safe
// for concurrent use.
type Cache[K comparable, V any] struct {
	name   string
	prefix string      // of the Redis keys of entries: the prefix option, the name, ':'
	names  store.Names // of the cache's keys and channels in Redis

	keys         *keys.Encoding[K]
	codec        codec.Codec
	codecName    string
	held         holder       // the codec if V is an interface, else nil
	sealer       codec.Sealer // the codec if it seals, else nil; see sealed.go
	fingerprint  uint64       // of the codec and V; see frame.Header.Type
	valueVersion uint32
	maxValue     int

	policy   strategy.Policy
	localTTL time.Duration // bound of a local entry's life; 0: none
	// slidesLocally: a local hit prolongs the entry's life.
	slidesLocally bool
	clone         cloner[V]
	own           cloner[V] // copies values for Update in a LocalOnly cache; nil: it can't
	src           Source[K, V]
	loader        *loader[K, V] // how src loads; nil if it doesn't

	local         *local.Tier[K, V] // nil: no local tier
	client        *client.Client    // nil: LocalOnly
	fences        *fence.Table
	coherence     *coherence.Coordinator    // nil: LocalOnly
	invalidator   *invalidation.Invalidator // nil: LocalOnly
	invalidation  invalidation.Policy       // what happens to an invalidated entry
	clock         *logicalclock.Table       // the logical clock, for tags and Clear
	localClock    *logicalclock.LocalClock  // keeps that clock in a LocalOnly cache
	flights       *flight.Group[K, beginning, result[V]]
	scratch       scratches[K, V]
	limit         *loadLimit
	missPredictor missPredictor

	recordSize atomic.Int64 // size of the last record that was encoded, in bytes

	refresher *refresher[K, V]
	given     given[V]
	queue     *queue[K, V] // nil: not WriteBehind
	failures  failures

	stats   *stats
	tagged  *topk.Table // the tags that are invalidated most often
	reports *reports
	rand    func() float64 // in [0, 1)

	closed    atomic.Bool
	closing   chan struct{} // closed by Close
	closeOnce sync.Once
}

// Get returns the value of key from the nearest tier that has it, otherwise
// from the source, if the cache was made with one that loads. The error matches
// [ErrMiss] if there is no value and no source, [ErrNotFound] if the source says
// that the value does not exist, or is the source's own error.
//
// A local hit does not check ctx and allocates nothing.
func (c *Cache[K, V]) Get(ctx context.Context, key K, opts ...ReadOption) (V, error) {
	if len(opts) == 0 {
		if v, due, ok := c.hit(key); ok {
			if due != notDue && c.loader != nil {
				c.refreshHit(ctx, key, due, c.loader)
			}
			return v, nil
		}
	}
	return c.get(ctx, key, opts)
}

func (c *Cache[K, V]) get(ctx context.Context, key K, opts []ReadOption) (V, error) {
	if len(opts) == 0 {
		return c.readOne(ctx, "get", key, c.loader, &noOptions)
	}
	o, err := collect(opts)
	if err != nil {
		var zero V
		return zero, err
	}
	return c.readOne(ctx, "get", key, c.loader, &o)
}

// Peek returns the value of key if a tier has it, else an error that matches
// [ErrMiss], or [ErrNotFound] for a remembered absence. It loads nothing, fills
// nothing and extends no life.
func (c *Cache[K, V]) Peek(ctx context.Context, key K, opts ...ReadOption) (V, error) {
	o, err := collect(opts)
	if err != nil {
		var zero V
		return zero, err
	}
	o.peek = true
	return c.readOne(ctx, "peek", key, nil, &o)
}

// GetOrLoad is Get with the load function given by the call: load runs if no tier
// has the value, once for all concurrent callers of the key, in this process
// and in others. If several callers give different functions, the first one's
// runs, with its options; if a strategy refreshes the entry in the background, the
// function and options are those of the read that found it due. A nil load is an error.
func (c *Cache[K, V]) GetOrLoad(ctx context.Context, key K, load LoadFunc[K, V], opts ...LoadOption) (V, error) {
	if len(opts) == 0 {
		if v, due, ok := c.hit(key); ok {
			if due != notDue && load != nil {
				c.refreshHitBy(ctx, key, due, load)
			}
			return v, nil
		}
	}
	return c.getOrLoad(ctx, key, load, opts)
}

func (c *Cache[K, V]) getOrLoad(ctx context.Context, key K, load LoadFunc[K, V], opts []LoadOption) (V, error) {
	o, err := collect(opts)
	if load == nil {
		o.mistake("GetOrLoad needs a function that loads")
		err = o.invalid()
	}
	if err != nil {
		var zero V
		return zero, err
	}
	return c.readOne(ctx, "get", key, c.queueFirst(&loader[K, V]{one: load}), &o)
}

func (c *Cache[K, V]) refreshHitBy(ctx context.Context, key K, age time.Duration, load LoadFunc[K, V]) {
	c.refreshHit(ctx, key, age, c.queueFirst(&loader[K, V]{one: load}))
}

// GetMany is Get for several keys: one lookup in the local tier, one round trip
// to each Redis node, one load for the missing keys. Keys without a value are left
// out of the map, which is never nil. All other failures are in an error of type
// *[BatchError], and the map still has the values of the keys that did not fail.
func (c *Cache[K, V]) GetMany(ctx context.Context, keys []K, opts ...ReadOption) (map[K]V, error) {
	o, err := collect(opts)
	if err != nil {
		return map[K]V{}, err
	}
	return c.readMany(ctx, "get", keys, c.loader, &o)
}

// GetOrLoadMany is GetMany with the load function given by the call. A nil load is
// an error.
func (c *Cache[K, V]) GetOrLoadMany(ctx context.Context, keys []K, load BatchFunc[K, V], opts ...LoadOption) (map[K]V, error) {
	o, err := collect(opts)
	if load == nil {
		o.mistake("GetOrLoadMany needs a function that loads")
		err = o.invalid()
	}
	if err != nil {
		return map[K]V{}, err
	}
	return c.readMany(ctx, "get", keys, c.queueFirst(&loader[K, V]{many: load}), &o)
}

// Inspect returns the entry of key in the nearest tier that has one, without loading,
// filling or extending anything. A remembered absence is an entry with Absent set and no
// error; the error matches [ErrMiss] if no tier has an entry.
func (c *Cache[K, V]) Inspect(ctx context.Context, key K) (Entry[V], error) {
	s := c.scratch.get(1)
	s.items = append(s.items, lookup[K, V]{key: key})
	c.read(ctx, s, nil, &callOptions{peek: true, uncounted: true, allowStale: true})
	it := &s.items[0]
	if it.err == nil && it.ans.absent != nil {
		return Entry[V]{Info: it.ans.info.own()}, nil
	}
	v, err := c.deliver("inspect", it)
	if err != nil {
		return Entry[V]{}, err
	}
	return Entry[V]{Value: v, Info: it.ans.info.own()}, nil
}

// Set stores val, in Redis first and then in the local tier. After a nil error no
// read in this process returns an older value. The error matches [ErrUnavailable] if
// Redis did not acknowledge the write; whether it took effect is then unknown,
// and the local value is dropped. [ErrTooLarge] and encoding errors come before
// anything is sent.
func (c *Cache[K, V]) Set(ctx context.Context, key K, val V, opts ...WriteOption) error {
	o, err := collect(opts)
	if err != nil {
		return err
	}
	start := local.Now()
	err = c.set(ctx, key, val, &o)
	c.stats.setHist.Record(since(start))
	return err
}

// SetMany is Set for several keys, in one round trip to each Redis node. The
// error is a *[BatchError]; keys that are not in it were stored.
func (c *Cache[K, V]) SetMany(ctx context.Context, vals map[K]V, opts ...WriteOption) error {
	o, err := collect(opts)
	if err != nil {
		return err
	}
	start := local.Now()
	err = c.setMany(ctx, vals, &o)
	c.stats.setHist.Record(since(start))
	return err
}

// SetIfAbsent stores val if the key has no value, and reports whether it did. A
// remembered absence counts as no value, and so does a Redis key that holds something
// other than a value of this cache. Of several concurrent callers, in this process and
// in others, one stores.
func (c *Cache[K, V]) SetIfAbsent(ctx context.Context, key K, val V, opts ...WriteOption) (bool, error) {
	o, err := collect(opts)
	if err != nil {
		return false, err
	}
	start := local.Now()
	stored, err := c.setIfAbsent(ctx, key, val, &o)
	if stored || err != nil {
		c.stats.wrote(&c.stats.sets, err)
	}
	c.stats.setHist.Record(since(start))
	return stored, c.explain("set if absent", err)
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
	o, err := collect(opts)
	if f == nil {
		o.mistake("Update needs a function")
		err = o.invalid()
	}
	if err != nil {
		return zero, err
	}
	start := local.Now()
	v, err := c.update(ctx, key, f, &o)
	c.stats.wrote(&c.stats.sets, err)
	c.stats.setHist.Record(since(start))
	if err != nil {
		return zero, c.explain("update", err)
	}
	return v, nil
}

// Delete removes keys from both tiers. For one key the error is its own, for
// several it is a *[BatchError]. It matches [ErrUnavailable] if Redis did not
// acknowledge; the local values are dropped all the same. No keys is no error.
func (c *Cache[K, V]) Delete(ctx context.Context, keys ...K) error {
	start := local.Now()
	err := c.delete(ctx, keys)
	c.stats.deleteHist.Record(since(start))
	return err
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
	c.closed.Store(true)
	c.closeOnce.Do(func() {
		close(c.closing)
		c.refresher.seal()
		c.flights.Cancel(ErrClosed)
		waitClosing(c.flights)
		c.refresher.close()
		if c.queue != nil {
			c.queue.Close()
		}
		if c.coherence != nil {
			c.coherence.Close()
		}
		if c.client != nil {
			c.client.Close()
		}
		if c.local != nil {
			c.local.Close()
		}
	})
	return nil
}

// Name returns the name that the cache was made with.
func (c *Cache[K, V]) Name() string { return c.name }

// RedisKey returns the key in Redis that holds the value of key, "" for a key
// whose text marshaler fails.
func (c *Cache[K, V]) RedisKey(key K) string {
	rk, err := c.redisKey(key)
	if err != nil {
		return ""
	}
	return rk
}

func (c *Cache[K, V]) redisKey(key K) (string, error) {
	buf := make([]byte, 0, 128)
	buf = append(buf, c.prefix...)
	buf, err := c.keys.Append(buf, key)
	return string(buf), err
}

// encoded returns the part of a Redis key that encodes the key itself.
func (c *Cache[K, V]) encoded(rk string) string { return rk[len(c.prefix):] }

func since(start int64) time.Duration { return time.Duration(local.Now() - start) }

func (c *Cache[K, V]) isClosed() bool { return c.closed.Load() }
