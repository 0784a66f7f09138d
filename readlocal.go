package cache

import (
	"context"
	"slices"

	"github.com/delqhi/cache/internal/ages"
	"github.com/delqhi/cache/internal/local"
)

func (c *Cache[K, V]) readLocal(ctx context.Context, items []item[K, V], o *callOptions) {
	for i := range items {
		it := &items[i]
		if it.done || !c.mayUseLocal(it.rk, it.at) {
			continue
		}
		e, ok := c.local.Get(it.key, it.at)
		if !ok || e.Meta != nil && !c.lives(e.Meta, it.at) {
			continue
		}
		ans := c.fromLocal(e, it.at)
		if o.tooOld(ans.info) {
			continue
		}
		it.answered(ans)
		c.countHit(&c.stats.localHits, ans.info, o)
		if o.peek {
			continue
		}
		c.touchLocal(it.key, it.rk, e, it.at)
		it.due = c.due(e, it.at)
	}
}

// refreshDue has those loaded anew whose local entries have answered and are due.
func (c *Cache[K, V]) refreshDue(ctx context.Context, items []item[K, V], j *job[K, V], o *callOptions) {
	if !c.refreshesAhead() || j == nil {
		return
	}
	for i := range items {
		if it := &items[i]; it.done && it.err == nil && it.due != notDue {
			c.behind.load(ctx, it.key, it.rk, it.due, j, o)
		}
	}
}

// mayUseLocal reports whether the local tier may answer for a key. It must be able to
// hear what others do, and Redis must know what this process has done.
func (c *Cache[K, V]) mayUseLocal(rk string, now int64) bool {
	return c.accord == nil || c.accord.Trusted(now) && !c.accord.Distrusted(rk)
}

// lives reports whether a local entry was neither revoked by tag nor by Clear.
func (c *Cache[K, V]) lives(m *local.Meta, now int64) bool { return c.verdictOf(m, now) == ages.Good }

// verdictOf is what the logical clock says of a local entry. What it did not say in
// time was dropped.
func (c *Cache[K, V]) verdictOf(m *local.Meta, now int64) ages.Verdict {
	if m == nil {
		return ages.Good
	}
	v, _ := c.ages.Judge(m.Era, m.Stamp, m.Began, m.Tags, now)
	if v == ages.Unknown && c.solo != nil {
		c.learnSolo(m.Tags)
		v, _ = c.ages.Judge(m.Era, m.Stamp, m.Began, m.Tags, now)
	}
	return v
}

// distrusted reports whether a value must not get into the local tier, because Redis
// may not know yet that it was replaced or invalidated.
func (c *Cache[K, V]) distrusted(rk string, tags []string) bool {
	return c.accord.AnyDistrusted() && (c.accord.Distrusted(rk) || slices.ContainsFunc(tags, c.accord.DistrustedTag))
}

// missLocal counts what the local tier did not have where there is no other.
func (c *Cache[K, V]) missLocal(ctx context.Context, items []item[K, V], j *job[K, V], o *callOptions) {
	for i := range items {
		it := &items[i]
		if it.done {
			continue
		}
		is := nothing
		if !o.skipLocal {
			_, is = c.lookLocal(it.key, it.at)
		}
		if c.localCover(it, o); !c.serveStale(ctx, it, j, o) {
			c.countMiss(is, o)
		}
	}
}

// fromLocal is the answer of a local entry.
func (c *Cache[K, V]) fromLocal(e *local.Entry[V], at int64) answer[V] {
	ans := answer[V]{val: e.Value, held: true, info: localInfo(e, at)}
	if ans.info.Absent {
		ans.absent = c.remembered(e.Meta.Reasons)
	}
	return ans
}
