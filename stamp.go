package cache

import (
	"context"

	"github.com/delqhi/cache/internal/ages"
	"github.com/delqhi/cache/internal/local"
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
	if c.accord != nil {
		s.era, s.time, err = c.accord.Stamp(ctx)
		return s, err
	}
	var ok bool
	if s.era, s.time, ok = c.ages.Stamp(); !ok {
		c.learnSolo(nil)
		s.era, s.time, _ = c.ages.Stamp()
	}
	return s, err
}

// stampWrite is stamp for a write.
func (c *Cache[K, V]) stampWrite(ctx context.Context) (s stamp, err error) {
	if c.accord == nil {
		return c.stamp(ctx)
	}
	s.era, s.time, err = c.accord.StampWrite(ctx)
	return s, err
}

// judge takes out of use what was revoked by tag or by Clear. Records are judged
// together, so that what has to be asked is asked at once.
func (c *Cache[K, V]) judge(ctx context.Context, fs []*found[V]) {
	var tags []string
	var unknown []*found[V]
	var asked map[string]bool
	now := local.Now()
	for _, f := range fs {
		if f.outcome != usable && f.outcome != stale || c.verdict(ctx, f, now) {
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
	err := c.accord.AskMarks(ctx, tags)
	now = local.Now()
	for _, f := range unknown {
		if err != nil {
			f.outcome, f.err = unasked, err
		} else if !c.verdict(ctx, f, now) {
			// What was learned was overtaken already.
			c.findBegan(ctx, f)
			v, until, err := c.accord.JudgeNow(ctx, f.raw.Era, f.raw.Stamp, f.began, f.raw.Tags)
			f.err = err
			c.judged(f, v, until)
		}
	}
}

// verdict judges one record, and reports whether it could.
func (c *Cache[K, V]) verdict(ctx context.Context, f *found[V], now int64) bool {
	v, until := c.ages.Judge(f.raw.Era, f.raw.Stamp, f.began, f.raw.Tags, now)
	if v == ages.Gone && c.ages.AnyDated() && c.findBegan(ctx, f) {
		v, until = c.ages.Judge(f.raw.Era, f.raw.Stamp, f.began, f.raw.Tags, now)
	}
	if v == ages.Unknown {
		return false
	}
	c.judged(f, v, until)
	return true
}

// findBegan finds out when a value began, if that is not known yet. Of several nodes, each
// has a clock of its own; that of the logical one may have to be asked for.
func (c *Cache[K, V]) findBegan(ctx context.Context, f *found[V]) bool {
	if f.began != 0 || f.before <= 0 {
		return false
	}
	now, err := c.remote.Now(ctx, c.names.Epoch)
	if err == nil {
		f.began = max(now-f.before, 0)
	}
	return f.began != 0
}

func (c *Cache[K, V]) judged(f *found[V], v ages.Verdict, until int64) {
	switch v {
	case ages.Unknown:
		f.outcome = unasked
	case ages.Gone:
		f.outcome, f.gone = expired, true
	case ages.Stale:
		// A mark says that it is stale, and not since when: as of now.
		if f.outcome == usable {
			f.outcome, f.left = stale, min(f.left, 0)
		}
		if f.ans.absent != nil || !f.timed || f.keep <= 0 || c.policy.StaleFor() == 0 {
			f.outcome = expired
		}
	case ages.Good:
		f.until = until
	}
}

func (c *Cache[K, V]) learnSolo(tags []string) {
	asked, at := c.ages.Asked(), local.Now()
	m := c.solo.Marks(c.ages.Known(), tags)
	c.ages.LearnMarks(tags, &m, asked, at)
}
