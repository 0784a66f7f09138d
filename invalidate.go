package cache

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/delqhi/cache/internal/glob"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/metrics"
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
	start := local.Now()
	changes := make([]change[K, V], len(keys))
	for i, k := range keys {
		changes[i].key = k
	}
	c.validateAll(ctx, pointers(changes))
	c.invalidate(ctx, changes)
	c.stats.deleteHist.Record(since(start))
	if len(changes) == 1 {
		return c.explain("invalidate", changes[0].err)
	}
	return c.batch("invalidate", changes)
}

func (c *Cache[K, V]) invalidate(ctx context.Context, changes []change[K, V]) {
	var sent []*change[K, V]
	var encoded []string
	for i := range changes {
		ch := &changes[i]
		if ch.done {
			c.dropKey(ctx, ch)
			continue
		}
		sent, encoded = append(sent, ch), append(encoded, c.encoded(ch.rk))
	}
	if c.client == nil {
		for _, ch := range sent {
			c.invalidateLocal(ch.key, c.encoded(ch.rk), false)
			c.failures.forget(ch.rk) // after the fence has moved; see remember
		}
		return
	}
	at := local.Now()
	for i, out := range c.invalidator.Keys(ctx, encoded) {
		ch := sent[i]
		ch.now = out.At
		if out.Err != nil {
			ch.err = c.writeFailed(ctx, out.Err)
			c.scheduleRetry(ch, out.Open)
		} else {
			c.stats.sent.Add(1)
			c.coherence.Noted(retryqueue.Item{Key: ch.rk, At: out.At, Token: out.Token}, at)
		}
		c.completeLocal(ch) // has no entry: drops the local one
	}
}

// dropKey handles a key whose invalidation was not begun because its caller's context had
// ended, as that of an HTTP request does when its client disconnects: the caller's earlier
// write to the source has happened all the same. The invalidation is retried like one that
// failed.
func (c *Cache[K, V]) dropKey(ctx context.Context, ch *change[K, V]) {
	if ctx.Err() == nil || c.isClosed() {
		return
	}
	rk, err := c.redisKey(ch.key)
	if err != nil {
		return
	}
	if ch.rk = rk; c.client == nil {
		c.invalidateLocal(ch.key, c.encoded(rk), false)
		c.failures.forget(rk)
		return
	}
	c.scheduleRetry(ch, nil)
	c.completeLocal(ch)
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
	if err := c.usable(ctx); err != nil {
		if !c.isClosed() {
			c.dropPattern(pattern)
		}
		return 0, c.explain("invalidate pattern", err)
	}
	if c.client != nil {
		if err := c.client.Unknown(); err != nil {
			return 0, &opError{cache: c.name, op: "invalidate pattern", err: err}
		}
	}
	if c.client == nil {
		n := c.invalidateMatching(pattern)
		c.failures.forgetAll()
		return n, nil
	}
	at := local.Now()
	m, err := c.invalidator.Pattern(ctx, pattern, keys.QuotePattern)
	c.dropMatching(pattern)
	c.failures.forgetAll() // after the fences have moved; see remember
	if err != nil {
		c.coherence.SchedulePattern(pattern, m.Open, at)
		return m.Keys, c.explain("invalidate pattern", c.writeFailed(ctx, err))
	}
	c.coherence.NotedPattern(pattern, at)
	c.stats.sent.Add(1)
	return m.Keys, nil
}

// dropPattern is dropKey for a pattern.
func (c *Cache[K, V]) dropPattern(pattern string) {
	if c.client == nil {
		c.invalidateMatching(pattern)
		c.failures.forgetAll()
		return
	}
	c.fences.MoveAll()
	c.failures.forgetAll()
	c.coherence.SchedulePattern(pattern, nil, local.Now())
	c.dropMatching(pattern)
}

func (c *Cache[K, V]) dropMatching(pattern string) {
	if c.local == nil {
		c.fences.MoveAll()
		return
	}
	(&localInvalidator[K, V]{c.local, c.keys, c.fences}).RemoveMatching(glob.Compile(pattern).Match)
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
	for _, t := range tags {
		if t == "" {
			return c.explain("invalidate tags", errEmptyTag)
		}
	}
	if len(tags) == 0 {
		return nil
	}
	// Many tags are invalidated in several steps, each of which is short for Redis.
	var first error
	for some := range slices.Chunk(tags, tagsAtOnce) {
		if err := c.mark(ctx, some); err != nil {
			// The others are tried all the same: those that fail are retried later, too.
			first = cmp.Or(first, err)
			continue
		}
		c.tagged.Add(shortened(some)...)
	}
	return c.explain("invalidate tags", first)
}

const tagsAtOnce = 1000

// Clear makes all values of this cache invalid, as [Cache.Invalidate] does, and those
// of no other cache. It takes the same short time however many values there are; their
// memory in Redis is freed when they expire.
func (c *Cache[K, V]) Clear(ctx context.Context) error {
	return c.explain("clear", c.mark(ctx, nil))
}

// mark invalidates tags, or everything if there are none.
//
// The fences are moved, although no key is named, because of this interleaving:
//
//  1. a load asks the source
//  2. the source changes; its tag is invalidated
//  3. a read misses: it must not join that load, whose value is not known to have the
//     tag until the load has ended
func (c *Cache[K, V]) mark(ctx context.Context, tags []string) error {
	if err := c.usable(ctx); err != nil {
		switch {
		case c.isClosed():
		case c.client == nil: // the context had ended: see dropKey
			return cmp.Or(c.markLocal(tags), err)
		default:
			c.failures.forgetAll()
			c.coherence.ScheduleTombstones(tags, nil, local.Now())
		}
		return err
	}
	if c.client == nil {
		return c.markLocal(tags)
	}
	c.fences.MoveAll()
	c.failures.forgetAll()
	look, at := c.coherence.BeginEpochRead(), local.Now()
	marks, open, err := c.invalidator.InvalidateTags(ctx, tags)
	if err != nil {
		c.coherence.ScheduleTombstones(tags, open, at)
		return c.writeFailed(ctx, err)
	}
	if err := c.coherence.ApplyOwnTombstones(ctx, tags, marks, look); err != nil {
		return c.writeFailed(ctx, err)
	}
	c.stats.sent.Add(uint64(max(len(tags), 1)))
	return nil
}

// Refresh loads keys anew, whatever the tiers hold, and returns when they are stored. If
// Redis can't be reached, the error matches [ErrUnavailable], and the record in Redis
// stays. A load that began a moment earlier may still fill first, and its value stays:
// after a change of the source, use [Cache.Invalidate].
// Without a function that loads, the error wraps [errors.ErrUnsupported]; failures of
// single keys are in a *[BatchError], or for one key the error is its own. A key that the
// source does not have is no failure: its absence is remembered.
func (c *Cache[K, V]) Refresh(ctx context.Context, keys ...K) error {
	if c.loader == nil {
		return unsupported("Refresh of a cache without Source.Load or LoadMany")
	}
	items := make([]lookup[K, V], 0, len(keys))
	seen := make(map[K]bool, len(keys))
	for _, k := range keys {
		if !seen[k] {
			seen[k] = true
			items = append(items, lookup[K, V]{key: k})
		}
	}
	if len(items) == 0 {
		return nil
	}
	c.prepare(ctx, items, new([]byte))
	c.readSource(ctx, items, c.loader, &callOptions{hasMaxAge: true, refresh: true, uncounted: true})
	failed := map[K]error{}
	for i := range items {
		switch it := &items[i]; {
		case it.err != nil:
			failed[it.key] = c.explain("refresh", it.err)
		case it.ans.unkept != nil:
			failed[it.key] = c.explain("refresh", c.writeFailed(ctx, it.ans.unkept))
		}
	}
	if len(items) == 1 {
		return failed[items[0].key]
	}
	return batchError(failed)
}

// Sync waits until the pending invalidations of this process, those of writes and
// invalidations that returned [ErrUnavailable], have been delivered to Redis, until the
// background refreshes that were begun before the call have ended, and under
// strategy.WriteBehind until the writes that this process queued before the call have
// reached the source or become dead letters. The error is [ErrClosed], or that of ctx; if
// an attempt to deliver has failed, it matches [ErrUnavailable] as well, and says why.
func (c *Cache[K, V]) Sync(ctx context.Context) error {
	err := c.usable(ctx)
	if err == nil && !c.withinAny(ctx) { // a refresh that calls it would wait for itself
		err = c.refresher.sync(ctx) // first: a refresh may leave a pending invalidation
	}
	if err == nil && c.isClosed() {
		err = ErrClosed // the wait ended because of Close
	}
	var why error
	if err == nil && c.coherence != nil {
		why, err = c.coherence.Sync(ctx)
	}
	if err == nil && c.queue != nil {
		err = c.queue.Sync(ctx)
	}
	switch {
	case err != nil && c.isClosed():
		err = ErrClosed
	case err != nil && why != nil:
		return &opError{cache: c.name, op: "sync", tier: metrics.Remote, err: fmt.Errorf("%w: %w", err, c.unavailable(why))}
	}
	return c.explain("sync", err)
}

// usable checks the preconditions of every operation without keys.
func (c *Cache[K, V]) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.isClosed() {
		return ErrClosed
	}
	if c.coherence != nil {
		c.coherence.Ready(ctx)
	}
	return nil
}
