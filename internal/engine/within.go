package engine

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// A function that a cache has called, such as Load or Store, may use caches in turn, with the
// context that it was given, which identifies the call. It must not wait for an operation that
// only its own return ends.

type underWayKey struct{}

// underWay is a running load, or write to the source, that a context belongs to.
type underWay struct {
	outer *underWay // the one that this one was called from; nil: none
	cache *Cache
	key   string  // Redis key
	batch *keySet // the keys instead, if there may be several; else nil
	over  atomic.Bool
}

// keySet is the Redis keys of a batch.
type keySet struct {
	keys []string
	once sync.Once
	set  map[string]struct{} // of many keys, made when it is first needed
}

// fewKeys is the largest number of keys that are searched linearly.
const fewKeys = 8

func (u *underWay) has(rk string) bool {
	if u.batch == nil {
		return u.key == rk
	}
	return u.batch.has(rk)
}

func (b *keySet) has(rk string) bool {
	if len(b.keys) <= fewKeys {
		return slices.Contains(b.keys, rk)
	}
	b.once.Do(func() {
		b.set = make(map[string]struct{}, len(b.keys))
		for _, k := range b.keys {
			b.set[k] = struct{}{}
		}
	})
	_, ok := b.set[rk]
	return ok
}

// entering returns the context for a call of user code for these keys.
func (c *Cache) entering(ctx context.Context, rks ...string) *callContext {
	in := c.enteringOne(ctx, "")
	in.call.batch = &keySet{keys: rks}
	return in
}

// enteringOne is entering for one key.
func (c *Cache) enteringOne(ctx context.Context, rk string) *callContext {
	in := new(callContext)
	in.begin(c, ctx, rk)
	return in
}

// begin makes it the context of a call for one key.
func (c *callContext) begin(of *Cache, ctx context.Context, rk string) {
	c.Context = ctx
	c.call.outer, _ = ctx.Value(underWayKey{}).(*underWay)
	c.call.cache, c.call.key = of, rk
}

// leaving notes that the call is over: goroutines that it has left running may wait.
func leaving(ctx context.Context) {
	if u, ok := ctx.Value(underWayKey{}).(*underWay); ok {
		u.over.Store(true)
	}
}

// within reports whether ctx belongs to a call for the key that is still running.
func (c *Cache) within(ctx context.Context, rk string) bool {
	u, _ := ctx.Value(underWayKey{}).(*underWay)
	for ; u != nil; u = u.outer {
		if u.cache == c && !u.over.Load() && u.has(rk) {
			return true
		}
	}
	return false
}

// withinAny is within for any key of the cache.
func (c *Cache) withinAny(ctx context.Context) bool {
	u, _ := ctx.Value(underWayKey{}).(*underWay)
	for ; u != nil; u = u.outer {
		if u.cache == c && !u.over.Load() {
			return true
		}
	}
	return false
}
