package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/local"
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
	var open []*Change
	for i := range changes {
		if ch := &changes[i]; !ch.done {
			open = append(open, ch)
		} else if c.invalidatesLater(ctx, ch) {
			c.backend.invalidateLater(ch)
		}
	}
	c.backend.invalidate(ctx, open)
}

// invalidatesLater reports whether a key is invalidated although the caller's context had ended
// before, as that of an HTTP request does when its client disconnects: the caller's earlier
// write to the source has happened all the same. The invalidation is retried like one that
// failed.
func (c *Cache) invalidatesLater(ctx context.Context, ch *Change) bool {
	if ctx.Err() == nil || c.Closed() {
		return false
	}
	rk, err := c.keyOf(ch.Key)
	ch.rk = rk
	return err == nil
}

// InvalidatePattern makes the keys that match a Redis glob invalid, and returns how many there
// were in Redis.
func (c *Cache) InvalidatePattern(ctx context.Context, pattern string) (n int64, err error) {
	if err = c.Usable(ctx); err == nil {
		n, err = c.backend.invalidatePattern(ctx, pattern)
	} else if !c.Closed() {
		c.backend.invalidatePatternLater(pattern)
	}
	return n, c.Explain("invalidate pattern", err)
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
	err := c.Usable(ctx)
	switch {
	case err == nil:
		return c.backend.mark(ctx, tags)
	case c.Closed():
		return err
	}
	return cmp.Or(c.backend.markLater(tags), err)
}

// Refresh loads the keys of s anew, whatever the tiers hold; Refreshed returns the outcome of each.
func (c *Cache) Refresh(ctx context.Context, s *Scratch) {
	c.prepare(ctx, s.items, &s.encoded, local.Now())
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
	if err == nil {
		why, err = c.backend.sync(ctx)
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
	c.backend.ready(ctx)
	return nil
}
