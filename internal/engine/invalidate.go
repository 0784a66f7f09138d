package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/glob"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/metrics"
)

// Invalidate makes the keys of changes invalid; the outcome is in each.
func (c *Cache) Invalidate(ctx context.Context, changes []Change) {
	start := local.Now()
	c.validateAll(ctx, pointers(changes))
	c.invalidate(ctx, changes)
	c.stats.deleteHist.Record(since(start))
}

func (c *Cache) invalidate(ctx context.Context, changes []Change) {
	var sent []*Change
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
			c.invalidateLocal(ch.Key, c.encoded(ch.rk), false)
			c.failures.forget(ch.rk) // after the fence has moved; see remember
		}
		return
	}
	at := local.Now()
	for i, out := range c.invalidator.Keys(ctx, encoded) {
		ch := sent[i]
		ch.now = out.At
		if out.Err != nil {
			ch.Err = c.writeFailed(ctx, out.Err)
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
func (c *Cache) dropKey(ctx context.Context, ch *Change) {
	if ctx.Err() == nil || c.Closed() {
		return
	}
	rk, err := c.RedisKey(ch.Key)
	if err != nil {
		return
	}
	if ch.rk = rk; c.client == nil {
		c.invalidateLocal(ch.Key, c.encoded(rk), false)
		c.failures.forget(rk)
		return
	}
	c.scheduleRetry(ch, nil)
	c.completeLocal(ch)
}

// InvalidatePattern makes the keys that match a Redis glob invalid, and returns how many there
// were in Redis.
func (c *Cache) InvalidatePattern(ctx context.Context, pattern string) (int64, error) {
	if err := c.Usable(ctx); err != nil {
		if !c.Closed() {
			c.dropPattern(pattern)
		}
		return 0, c.Explain("invalidate pattern", err)
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
		return m.Keys, c.Explain("invalidate pattern", c.writeFailed(ctx, err))
	}
	c.coherence.NotedPattern(pattern, at)
	c.stats.sent.Add(1)
	return m.Keys, nil
}

// dropPattern is dropKey for a pattern.
func (c *Cache) dropPattern(pattern string) {
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

func (c *Cache) dropMatching(pattern string) {
	if c.local == nil {
		c.fences.MoveAll()
		return
	}
	(&localInvalidator{c.local, c.types, c.fences}).RemoveMatching(glob.Compile(pattern).Match)
}

// InvalidateTags makes all values invalid that have one of the tags.
func (c *Cache) InvalidateTags(ctx context.Context, tags ...string) error {
	for _, t := range tags {
		if t == "" {
			return c.Explain("invalidate tags", errEmptyTag)
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
	return c.Explain("invalidate tags", first)
}

const tagsAtOnce = 1000

// Clear makes all values invalid.
func (c *Cache) Clear(ctx context.Context) error {
	return c.Explain("clear", c.mark(ctx, nil))
}

// mark invalidates tags, or everything if there are none.
//
// The fences are moved, although no key is named, because of this interleaving:
//
//  1. a load asks the source
//  2. the source changes; its tag is invalidated
//  3. a read misses: it must not join that load, whose value is not known to have the
//     tag until the load has ended
func (c *Cache) mark(ctx context.Context, tags []string) error {
	if err := c.Usable(ctx); err != nil {
		switch {
		case c.Closed():
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

// Refresh loads the keys of s anew, whatever the tiers hold; Refreshed returns the outcome of each.
func (c *Cache) Refresh(ctx context.Context, s *Scratch) {
	c.prepare(ctx, s.items, &s.encoded)
	c.readSource(ctx, s, c.loader, &Options{HasMaxAge: true, refresh: true, Uncounted: true})
}

// Refreshed returns the error of a Refresh for one key.
func (c *Cache) Refreshed(ctx context.Context, it *Lookup) error {
	switch {
	case it.err != nil:
		return c.Explain("refresh", it.err)
	case it.ans.unkept != nil:
		return c.Explain("refresh", c.writeFailed(ctx, it.ans.unkept))
	}
	return nil
}

// Sync waits for background work: pending invalidations, refreshes, queued writes.
func (c *Cache) Sync(ctx context.Context) error {
	err := c.Usable(ctx)
	if err == nil && !c.withinAny(ctx) { // a refresh that calls it would wait for itself
		err = c.refresher.sync(ctx) // first: a refresh may leave a pending invalidation
	}
	if err == nil && c.Closed() {
		err = errs.ErrClosed // the wait ended because of Close
	}
	var why error
	if err == nil && c.coherence != nil {
		why, err = c.coherence.Sync(ctx)
	}
	if err == nil && c.queue != nil {
		err = c.queue.Sync(ctx)
	}
	switch {
	case err != nil && c.Closed():
		err = errs.ErrClosed
	case err != nil && why != nil:
		return &opError{cache: c.name, op: "sync", tier: metrics.Remote, err: fmt.Errorf("%w: %w", err, c.unavailable(why))}
	}
	return c.Explain("sync", err)
}

// Usable checks the preconditions of every operation without keys.
func (c *Cache) Usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Closed() {
		return errs.ErrClosed
	}
	if c.coherence != nil {
		c.coherence.Ready(ctx)
	}
	return nil
}
