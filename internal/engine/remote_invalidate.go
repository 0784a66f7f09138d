package engine

import (
	"cmp"
	"context"

	"github.com/delqhi/cache/internal/glob"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
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
		c.coherence.EndWrite(retryqueue.Item{Key: ch.rk, At: out.At, Token: out.Token, Since: at, Numbers: out.Open}, at, out.Err)
		if out.Err != nil {
			ch.Err = c.writeFailed(ctx, out.Err)
		} else {
			c.stats.sent.Add(1)
		}
		c.completeLocal(ch) // has no entry: drops the local one
	}
}

func (c *remote) invalidateLater(ch *Change) {
	c.coherence.EndWrite(retryqueue.Item{Key: ch.rk}, 0, context.Canceled)
	c.completeLocal(ch)
}

func (c *remote) invalidatePattern(ctx context.Context, pattern string) (int64, error) {
	if err := c.client.Unknown(); err != nil {
		return 0, &opError{cache: c.name, op: "invalidate pattern", err: err}
	}
	at := local.Now()
	m, err := c.invalidator.Pattern(ctx, pattern, keys.QuotePattern)
	if err != nil {
		// It is pending first: what is read from Redis before that may be old, and is dropped.
		c.coherence.EndPattern(pattern, m.Open, at, err)
		c.dropMatching(pattern)
		return m.Keys, c.writeFailed(ctx, err)
	}
	c.dropMatching(pattern)
	c.coherence.EndPattern(pattern, m.Open, at, nil)
	c.stats.sent.Add(1)
	return m.Keys, nil
}

func (c *remote) invalidatePatternLater(pattern string) {
	c.fences.MoveAll()
	c.failures.forgetAll()
	c.coherence.EndPattern(pattern, nil, local.Now(), context.Canceled)
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
	if len(tags) == 0 {
		c.fences.MoveAll()
	} else {
		c.fences.Turn() // entries that loads in flight store are validated by their tags
	}
	c.failures.forgetAll()
	errs := make([]error, len(c.clocks))
	c.invalidator.EachPart(func(part uint8) {
		look := c.coherence.Part(part).BeginEpochRead(local.Now())
		marks, open, err := c.invalidator.InvalidateTags(ctx, part, tags)
		errs[part] = c.coherence.EndTombstones(ctx, tags, marks, open, look, err)
	})
	if err := cmp.Or(errs...); err != nil {
		return c.writeFailed(ctx, err)
	}
	c.stats.sent.Add(uint64(max(len(tags), 1)))
	return nil
}

func (c *remote) markLater(tags []string) error {
	c.failures.forgetAll()
	for i := range c.clocks {
		look := c.coherence.Part(uint8(i)).BeginEpochRead(local.Now())
		_ = c.coherence.EndTombstones(context.Background(), tags, logicalclock.Reading{}, nil, look, context.Canceled)
	}
	return nil
}

func (c *remote) sync(ctx context.Context) (why, err error) { return c.coherence.Sync(ctx) }
