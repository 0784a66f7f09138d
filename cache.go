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
// What is no longer true is taken out by key, by pattern or by tag, in all processes;
// see [Cache.Invalidate], [Cache.InvalidatePattern] and [Cache.InvalidateTags].
//
// # What to know
//
// Values in the local tier are held decoded and are shared by everyone who reads
// them: do not modify what a cache returns, or give [Source].Clone or [WithCloning]. What is
// given to a cache stays the caller's only with one of these.
//
// A cache is used by many goroutines at once, for as long as the program runs.
// Make one for each type of value; they may share a Redis client. [Cache.Close]
// ends what the cache runs in the background and leaves the client open.
//
// Processes tell each other what they write and invalidate. The local tier is used only
// while this process can hear that, which it proves twice a second: no process serves
// what another one replaced more than 2 seconds ago. See [WithTransport].
//
// Redis being unreachable is no failure of a read that can load: the load's value
// is the answer. A read that can't load fails with an error that matches
// [ErrUnavailable] and [ErrMiss].
//
// A loader reports that there is no such thing with [ErrNotFound]; the cache
// remembers the answer for a while (strategy.NotFoundTTL).
//
// Errors never contain keys or values, except in what a loader itself returns.
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
	prefix string      // of every key of data: the prefix option, the name, ':'
	names  store.Names // of everything in Redis that belongs to the cache

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
	own           cloner[V] // what Update copies with where there is no Redis; nil: it can't
	src           Source[K, V]
	loader        *loader[K, V] // how src loads; nil if it doesn't

	local         *local.Tier[K, V] // nil: no local tier
	client        *client.Client    // nil: LocalOnly
	fences        *fence.Table
	coherence     *coherence.Coordinator    // nil: LocalOnly
	invalidator   *invalidation.Invalidator // nil: LocalOnly
	invalidation  invalidation.Policy       // what an invalidated entry becomes
	clock         *logicalclock.Table       // the logical clock, for tags and Clear
	localClock    *logicalclock.LocalClock  // keeps that clock where there is no Redis
	flights       *flight.Group[K, beginning, result[V]]
	scratch       scratches[K, V]
	limit         *loadLimit
	missPredictor missPredictor

	recordSize atomic.Int64 // of the last one that was made, in bytes

	refresher *refresher[K, V]
	given     given[V]
	queue     *queue[K, V] // nil: not WriteBehind
	failures  failures

	stats   *stats
	tagged  *topk.Table // the tags that were invalidated most
	reports *reports
	rand    func() float64 // in [0, 1)

	closed    atomic.Bool
	closing   chan struct{} // closed by Close
	closeOnce sync.Once
}

// Get returns the value of key from the nearest tier that has it; failing that
// from the source, if the cache was made with one that loads. The error matches
// [ErrMiss] if there is no value and no source, [ErrNotFound] if the source says
// that there is no such thing, or is what the source returned.
//
// A local hit does not look at ctx and allocates nothing.
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

// GetOrLoad is Get with the way to load given by the call: load runs if no tier
// has the value, once for all who ask for the key at the time, in this process
// and in others. If several callers give different functions, the first one's
// runs, with its options; where a strategy refreshes the entry behind the reader's back,
// with those of the read that found it due. A nil load is an error.
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

// GetMany is Get for several keys: one look into the local tier, one round trip
// to each Redis node, one load for what is missing. Keys without a value are left
// out of the map, which is never nil. Whatever else went wrong is in an error of
// type *[BatchError], and the values that could be had are in the map all the
// same.
func (c *Cache[K, V]) GetMany(ctx context.Context, keys []K, opts ...ReadOption) (map[K]V, error) {
	o, err := collect(opts)
	if err != nil {
		return map[K]V{}, err
	}
	return c.readMany(ctx, "get", keys, c.loader, &o)
}

// GetOrLoadMany is GetMany with the way to load given by the call. A nil load is
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

// Inspect returns what the nearest tier knows of key, without loading, filling
// or extending anything. A remembered absence is an entry with Absent set and no
// error; the error matches [ErrMiss] if no tier knows the key.
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
// read in this process sees anything older. The error matches [ErrUnavailable] if
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
// remembered absence counts as none, and so does what is not a value of this
// cache. Of several callers, in this process and in others, one stores.
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

// Update replaces the value of key by f of it and returns the new one. It is
// atomic over all processes: if anybody else writes in between, f runs again with
// what is there then, until ctx ends. f gets ok false if there is no value; on a
// miss the source is asked first, if the cache has one. old belongs to f: in a LocalOnly
// cache it is a copy, and the error wraps [errors.ErrUnsupported] if a value of this type
// can be copied neither by [Source].Clone nor along its exported fields nor by the codec. The
// new value keeps the deadline and tags of the old one unless an option says
// otherwise. An error of f is returned as it is and changes nothing.
//
// f has no context that would tell its own changes from those of others: one of the same key,
// by Update or another write, makes f run again, or waits for it, until ctx ends. It may
// read the key.
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

// Close ends the cache: it cancels the loads under way, waits for them and for
// operations in the background, for a second or, where another function of the program than
// a loader holds them up, five, tells Redis what it could not be told yet, if it can
// be told now, brings what is due of a write-behind queue to the source for 5 seconds at
// most, ends its subscription, and empties the local tier. A function of the source that
// then goes on although its context has ended is not waited for, and what it returns is not
// stored: so a loader may call Close, which takes that second then. Later calls return
// [ErrClosed]. The Redis client stays open. Close may be called more than once, and
// always returns nil.
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

// encoded is the part of a Redis key that the key itself is encoded in.
func (c *Cache[K, V]) encoded(rk string) string { return rk[len(c.prefix):] }

func since(start int64) time.Duration { return time.Duration(local.Now() - start) }

func (c *Cache[K, V]) isClosed() bool { return c.closed.Load() }
