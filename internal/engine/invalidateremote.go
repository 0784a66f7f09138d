package engine

import (
	"context"

	"github.com/delqhi/cache/internal/glob"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/retryqueue"
)

func (c *remote) invalidate(ctx context.Context, changes []*Change) {
	encoded := make([]string, len(changes))
	for i, ch := range changes {
		encoded[i] = c.encoded(ch.rk)
	}
	at := local.Now()
	for i, out := range c.invalidator.Keys(ctx, encoded) {
		ch := changes[i]
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

func (c *remote) invalidateLater(ch *Change) {
	c.scheduleRetry(ch, nil)
	c.completeLocal(ch)
}

func (c *remote) invalidatePattern(ctx context.Context, pattern string) (int64, error) {
	if err := c.client.Unknown(); err != nil {
		return 0, &opError{cache: c.name, op: "invalidate pattern", err: err}
	}
	at := local.Now()
	m, err := c.invalidator.Pattern(ctx, pattern, keys.QuotePattern)
	c.dropMatching(pattern)
	if err != nil {
		c.coherence.SchedulePattern(pattern, m.Open, at)
		return m.Keys, c.writeFailed(ctx, err)
	}
	c.coherence.NotedPattern(pattern, at)
	c.stats.sent.Add(1)
	return m.Keys, nil
}

func (c *remote) invalidatePatternLater(pattern string) {
	c.fences.MoveAll()
	c.failures.forgetAll()
	c.coherence.SchedulePattern(pattern, nil, local.Now())
	c.dropMatching(pattern)
}

// dropMatching drops the local entries that match a pattern, and forgets failures after the
// fences have moved; see remember.
func (c *remote) dropMatching(pattern string) {
	defer c.failures.forgetAll()
	if c.local == nil {
		c.fences.MoveAll()
		return
	}
	(&localInvalidator{c.local, c.types, c.fences}).RemoveMatching(glob.Compile(pattern).Match)
}

func (c *remote) mark(ctx context.Context, tags []string) error {
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

func (c *remote) markLater(tags []string) error {
	c.failures.forgetAll()
	c.coherence.ScheduleTombstones(tags, nil, local.Now())
	return nil
}

func (c *remote) sync(ctx context.Context) (why, err error) { return c.coherence.Sync(ctx) }
