package cache

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/engine"
	"github.com/delqhi/cache/internal/local"
)

// reading is the memory of a read: the engine's, and the keys and values that it points to.
type reading[K comparable, V any] struct {
	engine.Scratch
	keys []K
	vals []V
	key  [1]K // of a read of one key, which is most of them
	val  [1]V
}

// maxReading bounds the number of keys of a read whose memory is kept: for a larger batch the
// allocation does not matter.
const maxReading = 512

type readings[K comparable, V any] struct{ pool sync.Pool }

// get returns the memory for a read of at most n keys.
func (p *readings[K, V]) get(n int) *reading[K, V] {
	n = max(n, 1)
	r, ok := p.pool.Get().(*reading[K, V])
	if !ok {
		r = new(reading[K, V])
	}
	r.Grow(n)
	switch {
	case cap(r.keys) >= n:
	case n == 1:
		r.keys, r.vals = r.key[:0], r.val[:0]
	default:
		r.keys, r.vals = make([]K, 0, n), make([]V, 0, n)
	}
	return r
}

func (r *reading[K, V]) add(key K) {
	n := len(r.keys)
	r.keys, r.vals = r.keys[:n+1], r.vals[:n+1]
	r.keys[n] = key
	r.Add(&r.keys[n], &r.vals[n])
}

// put returns r to the pool, unless another goroutine may still refer to it.
func (p *readings[K, V]) put(r *reading[K, V]) {
	if len(r.keys) > maxReading || !r.Reset() {
		return
	}
	clear(r.keys)
	clear(r.vals)
	r.keys, r.vals = r.keys[:0], r.vals[:0]
	p.pool.Put(r)
}

// readOne reads one key, for a call that began at the local time start; load is nil if nothing may be
// loaded.
func (c *Cache[K, V]) readOne(ctx context.Context, op string, start int64, key K, load engine.Loader, o *engine.Options, report *Info) (v V, err error) {
	r := c.readings.get(1)
	r.add(key)
	c.engine.ReadOne(ctx, &r.Scratch, load, o, start)
	c.hot.add(key, 1)
	it := r.At(0)
	if report != nil {
		*report = Info(it.Info())
	}
	val, err := c.engine.Deliver(op, it)
	if err == nil {
		v = valueOf[V](val)
	} else if c.dflt != nil && load != nil {
		if d, ok := c.lastResort(ctx, key, it); ok {
			if report != nil {
				*report = Info{LoadErr: err}
			}
			v, err = d, nil
		}
	}
	c.readings.put(r)
	return v, err
}

// readMany reads several keys: each tier is asked once for all that are open.
func (c *Cache[K, V]) readMany(ctx context.Context, op string, keys []K, load engine.Loader, o *callOptions) (map[K]V, error) {
	vals := make(map[K]V, len(keys))
	if o.report != nil {
		return vals, fmt.Errorf("%w: Report holds for one key, and this is a batch", ErrInvalidOption)
	}
	if o.IsZero() {
		if keys = c.hits(ctx, keys, vals, load); len(keys) == 0 {
			return vals, nil
		}
	}
	r := c.readings.get(len(keys))
	var zero V
	hits := len(vals) > 0
	for _, k := range keys {
		if hits {
			if _, again := vals[k]; again {
				continue
			}
		}
		if k == k { // not NaN, which could not be deleted from the map again
			n := len(vals)
			if vals[k] = zero; len(vals) == n {
				continue
			}
		}
		r.add(k)
	}
	c.engine.ReadMany(ctx, &r.Scratch, load, &o.Options)

	var failed map[K]error
	for i, key := range r.keys {
		c.hot.add(key, 1)
		it := r.At(i)
		if it.None() {
			delete(vals, key)
			continue
		}
		v, err := c.engine.Deliver(op, it)
		if err == nil {
			vals[key] = valueOf[V](v)
			continue
		}
		if c.dflt != nil && load != nil {
			if d, ok := c.lastResort(ctx, key, it); ok {
				vals[key] = d
				continue
			}
		}
		delete(vals, key)
		if failed == nil {
			failed = map[K]error{}
		}
		failed[key] = err
	}
	c.readings.put(r)
	return vals, batchError(failed)
}

// hits answers a batch from the local tier as far as it can, without a Redis key for each, and
// returns the keys that are left: from the first one that is not there, those that vals lacks.
func (c *Cache[K, V]) hits(ctx context.Context, keys []K, vals map[K]V, load engine.Loader) (left []K) {
	if c.local == nil || c.engine.Closed() || ctx.Err() != nil {
		return keys
	}
	start := local.Now()
	now, nth, found := start, 0, 0
	for i, k := range keys {
		if _, again := vals[k]; again {
			continue
		}
		if nth == keysAtATime || nth > 0 && c.clone != nil { // which may take long
			now, nth = local.Now(), 0
		}
		nth++
		v, due, ok := c.hit(k, now, nth)
		switch {
		case ok:
			found++
			if vals[k] = v; due != engine.NotDue && load != nil {
				c.refreshHit(ctx, k, due, load)
			}
		case left == nil:
			left = make([]K, 0, len(keys)-i)
			fallthrough
		default:
			left = append(left, k)
		}
	}
	c.engine.CountLocalHits(found)
	if left == nil {
		c.engine.CountMany(start)
	}
	return left
}

// keysAtATime is how many keys of a batch are looked up at one time: to read the clock takes a quarter
// of what a hit does. It is little enough for that time to be the present.
const keysAtATime = 16

// refreshHit starts a refresh of a key whose local entry has answered and is due.
func (c *Cache[K, V]) refreshHit(ctx context.Context, key K, age time.Duration, load engine.Loader) {
	c.engine.RefreshDue(ctx, &key, age, load)
}
