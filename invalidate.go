package cache

import (
	"context"

	"github.com/delqhi/cache/internal/engine"
)

// Invalidate makes keys invalid by the invalidator's policy (see [WithInvalidator]),
// in Redis, in this process and in all others; it never reaches the source. After a
// nil error no read in this process sees a value from before the call, except as far as
// invalidate.Delayed allows. Loads in flight store nothing.
//
// Errors are those of [Cache.Delete]. An invalidation that Redis did not acknowledge is
// retried as soon as Redis can be reached, also if ctx had ended before the call; the local
// values are dropped at once.
func (c *Cache[K, V]) Invalidate(ctx context.Context, keys ...K) error {
	changes := changesOf(keys)
	c.engine.Invalidate(ctx, changes)
	if len(changes) == 1 {
		return c.engine.Explain("invalidate", changes[0].Err)
	}
	return c.batch("invalidate", changes)
}

// InvalidatePattern makes the keys of this cache that match a Redis glob invalid, as
// [Cache.Invalidate] does, and returns how many there were in Redis. The pattern is
// matched against the encoded key, without prefix and name, and can't reach outside of
// this cache; see invalidate.QuotePattern. Every master of a cluster is scanned, with
// SCAN; a master that can't be reached is reported in the error, and the others are
// scanned all the same. Keys that are first written while it runs may be left out.
//
// It takes time in proportion to the number of all keys in Redis: for groups that are
// invalidated often, use tags.
//
// Over a decorated client whose kind can't be determined (see [New]) it does nothing, and
// the error wraps [errors.ErrUnsupported].
func (c *Cache[K, V]) InvalidatePattern(ctx context.Context, pattern string) (int64, error) {
	return c.engine.InvalidatePattern(ctx, pattern)
}

// InvalidateTags makes all values invalid that were stored with one of these tags, as
// [Cache.Invalidate] does. It takes the same short time however many values there are: it
// does not search for them; a value is found to be too old when it is next read. See
// [Tags], [Source].Tags and [Load.AddTags]. A remembered absence has no tags: it ends
// with strategy.NotFoundTTL, or when its key is invalidated.
//
// The error matches [ErrUnavailable] if Redis did not acknowledge, and
// [ErrInvalidOption] for an empty tag. No tags is no error.
func (c *Cache[K, V]) InvalidateTags(ctx context.Context, tags ...string) error {
	return c.engine.InvalidateTags(ctx, tags...)
}

// Clear makes all values of this cache invalid, as [Cache.Invalidate] does, and those
// of no other cache. It takes the same short time however many values there are; their
// memory in Redis is freed when they expire.
func (c *Cache[K, V]) Clear(ctx context.Context) error { return c.engine.Clear(ctx) }

// Refresh loads keys anew, whatever the tiers hold, and returns when they are stored. If
// Redis can't be reached, the error matches [ErrUnavailable], and the record in Redis
// stays. A load that began a moment earlier may still fill first, and its value stays:
// after a change of the source, use [Cache.Invalidate].
// Without a function that loads, the error wraps [errors.ErrUnsupported]; failures of
// single keys are in a *[BatchError], or for one key the error is its own. A key that the
// source does not have is no failure: its absence is remembered.
func (c *Cache[K, V]) Refresh(ctx context.Context, keys ...K) error {
	if c.loader == nil {
		return engine.Unsupported("Refresh of a cache without Source.Load or LoadMany")
	}
	r := c.readings.get(len(keys))
	seen := make(map[K]bool, len(keys))
	for _, k := range keys {
		if !seen[k] {
			seen[k] = true
			r.add(k)
		}
	}
	if len(r.keys) == 0 {
		return nil
	}
	c.engine.Refresh(ctx, &r.Scratch)
	failed := map[K]error{}
	for i, k := range r.keys {
		if err := c.engine.Refreshed(ctx, r.At(i)); err != nil {
			failed[k] = err
		}
	}
	if len(r.keys) == 1 {
		return failed[r.keys[0]]
	}
	return batchError(failed)
}

// Sync waits until the pending invalidations of this process, those of writes and
// invalidations that returned [ErrUnavailable], have been delivered to Redis, until the
// background refreshes that were begun before the call have ended, and under
// strategy.WriteBehind until the writes that this process queued before the call have
// reached the source or become dead letters. The error is [ErrClosed], or that of ctx; if
// an attempt to deliver has failed, it matches [ErrUnavailable] as well, and says why.
func (c *Cache[K, V]) Sync(ctx context.Context) error { return c.engine.Sync(ctx) }
