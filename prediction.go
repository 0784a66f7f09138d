package cache

import (
	"context"
	"errors"
	"sync/atomic"
)

// A miss takes three round trips: the read, the lease, and the fill. Where one read after
// the other has missed lately (a cache that was just cleared, a crawl through keys that
// nobody has asked for) the next one most likely misses as well, and its read says nothing
// that the lease does not say: that is granted only where there is nothing. Then the lease
// is asked for at once.
//
// If there is something all the same, or Redis does not answer, that was all, and the read
// is carried out as ever. Of some missStreak reads one costs a round trip more then.
type missPredictor struct {
	streak int32        // so many reads in a row must have found nothing
	misses atomic.Int32 // of reads that could load, in a row
}

// missStreak is how many it must be. Where one read in ten finds something, of those that
// follow such a one every fifth comes so far.
const missStreak = 16

// errNotAcquired is why a load that was asked for by a prediction did not happen.
var errNotAcquired = errors.New("cache: Redis holds something, or does not answer")

// noted takes what Redis had for a read that could load.
func (h *missPredictor) noted(o status) {
	switch {
	case o != notFound:
		if h.misses.Load() != 0 {
			h.misses.Store(0)
		}
	case h.misses.Load() < h.streak:
		h.misses.Add(1)
	}
}

// predictsMiss reports whether a read is to go without looking. What a strategy does
// with a value that it finds, or instead of a load that fails, needs the look.
func (c *Cache[K, V]) predictsMiss(items []lookup[K, V], j *loader[K, V], o *callOptions) bool {
	return c.missPredictor.misses.Load() >= c.missPredictor.streak && j != nil && c.client != nil && len(items) == 1 && !items[0].done &&
		!o.skipLocal && !o.allowStale && !o.hasMaxAge && !o.uncounted &&
		c.policy.StaleFor() == 0 && c.policy.Sliding == 0 && c.policy.RefreshAhead == 0 && c.policy.EarlyExpiration == 0 &&
		(c.failures.none() || !c.failures.knows(items[0].rk, items[0].at))
}

// loadSpeculatively loads the one key of a read that expects a miss. It reports whether that was
// right.
func (c *Cache[K, V]) loadSpeculatively(ctx context.Context, items []lookup[K, V], j *loader[K, V], o *callOptions) bool {
	unseen := *o
	unseen.speculative = true
	c.readSource(ctx, items, j, &unseen)
	if !items[0].done {
		c.missPredictor.noted(usable)
		return false
	}
	c.countMiss(notFound, o)
	return true
}
