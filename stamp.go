package cache

import (
	"context"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
)

// stamp is the logical time that a record carries: what was known before the write or
// load began that it comes from. It may be old, which only makes the record go sooner
// than it had to.
type stamp struct {
	era  uint64
	time int64
}

// stamp returns the logical time for what begins now.
func (c *Cache[K, V]) stamp(ctx context.Context) (s stamp, err error) {
	if c.coherence != nil {
		s.era, s.time, err = c.coherence.Stamp(ctx)
		return s, err
	}
	var ok bool
	if s.era, s.time, ok = c.clock.Stamp(); !ok {
		c.learnLocal(nil)
		s.era, s.time, _ = c.clock.Stamp()
	}
	return s, err
}

// stampWrite is stamp for a write.
func (c *Cache[K, V]) stampWrite(ctx context.Context) (s stamp, err error) {
	if c.coherence == nil {
		return c.stamp(ctx)
	}
	s.era, s.time, err = c.coherence.StampWrite(ctx)
	return s, err
}

// judge takes out of use what was revoked by tag or by Clear. Records are judged
// together, so that what has to be asked is asked at once.
func (c *Cache[K, V]) judge(ctx context.Context, fs []*decoded[V]) {
	var tags []string
	var unknown []*decoded[V]
	var asked map[string]bool
	now := local.Now()
	for _, f := range fs {
		if f.status != usable && f.status != stale || c.verdict(ctx, f, now) {
			continue
		}
		unknown = append(unknown, f)
		for _, t := range f.raw.Tags {
			if !asked[t] {
				if asked == nil {
					asked = map[string]bool{}
				}
				asked[t] = true
				tags = append(tags, t)
			}
		}
	}
	if len(unknown) == 0 {
		return
	}
	err := c.coherence.FetchTombstones(ctx, tags)
	now = local.Now()
	for _, f := range unknown {
		if err != nil {
			f.status, f.err = unavailable, err
		} else if !c.verdict(ctx, f, now) {
			// What was learned was overtaken already.
			c.findBegan(ctx, f)
			v, until, err := c.coherence.JudgeNow(ctx, f.raw.Era, f.raw.Stamp, f.began, f.raw.Tags)
			f.err = err
			c.judged(f, v, until)
		}
	}
}

// verdict judges one record, and reports whether it could.
func (c *Cache[K, V]) verdict(ctx context.Context, f *decoded[V], now int64) bool {
	v, until := c.clock.Judge(f.raw.Era, f.raw.Stamp, f.began, f.raw.Tags, now)
	if v == logicalclock.Invalid && c.clock.AnyDated() && c.findBegan(ctx, f) {
		v, until = c.clock.Judge(f.raw.Era, f.raw.Stamp, f.began, f.raw.Tags, now)
	}
	if v == logicalclock.Unknown {
		return false
	}
	c.judged(f, v, until)
	return true
}

// findBegan finds out when a value began, if that is not known yet. Of several nodes, each
// has a clock of its own; that of the logical one may have to be asked for.
func (c *Cache[K, V]) findBegan(ctx context.Context, f *decoded[V]) bool {
	if f.began != 0 || f.before <= 0 {
		return false
	}
	now, err := c.client.Now(ctx, c.names.Epoch)
	if err == nil {
		f.began = max(now-f.before, 0)
	}
	return f.began != 0
}

func (c *Cache[K, V]) judged(f *decoded[V], v logicalclock.Validity, until int64) {
	switch v {
	case logicalclock.Unknown:
		f.status = unavailable
	case logicalclock.Invalid:
		f.status, f.gone = expired, true
	case logicalclock.Stale:
		// A mark says that it is stale, and not since when: as of now.
		if f.status == usable {
			f.status, f.left = stale, min(f.left, 0)
		}
		if f.ans.absent != nil || !f.timed || f.retention <= 0 || c.policy.StaleFor() == 0 {
			f.status = expired
		}
	case logicalclock.Valid:
		f.until = until
	}
}

func (c *Cache[K, V]) learnLocal(tags []string) {
	asked, at := c.clock.ReadVersion(), local.Now()
	m := c.localClock.Marks(c.clock.Known(), tags)
	c.clock.LearnMarks(tags, &m, asked, at)
}
