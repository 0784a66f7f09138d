package engine

import (
	"context"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
)

// LocalUsable reports whether the local tier may answer, whatever the key is.
func (c *Cache) LocalUsable(now int64) bool {
	return c.validity == nil || c.validity.LocalValid(now) && !c.validity.AnyPending()
}

// Answers reports whether a local entry that has not expired answers a read with its value, and
// the entry is not to be prolonged.
func (c *Cache) Answers(e *local.Head, now int64) bool {
	return (e.Meta == nil || !e.Meta.Absent && c.lives(e.Meta, now)) && !(c.slidesLocally && c.slid(e, now))
}

// CountLocalHits counts hits.
func (c *Cache) CountLocalHits(n int) { c.stats.localHits.Add(uint64(n)) }

// Sample reports what a hit is to be looked at for, and measures it. The clock was read at start: for
// this hit, or for several, of which it is the nth.
func (c *Cache) Sample(start int64, nth int) Sampled { return c.stats.sampled(start, nth) }

// CountMany measures a batch that began at start and that the local tier has answered.
func (c *Cache) CountMany(start int64) { c.stats.getManyHist.Record(since(start)) }

func (c *Cache) readLocal(ctx context.Context, items []Lookup, o *Options) {
	for i := range items {
		it := &items[i]
		switch {
		case it.done:
			continue
		case c.outage.unheard(it.rk, it.at):
			c.readInOutage(it, o)
			continue
		case !c.backend.mayUseLocal(it.rk, it.at):
			continue
		}
		e, ok := c.local.Get(it.key, it.at)
		if it.nowhere = e.Head == nil; !ok || e.Meta != nil && !c.lives(e.Meta, it.at) {
			continue
		}
		if c.answerFromLocal(it, e, o) && c.auditor != nil && !o.Uncounted && it.ans.absent == nil && c.rand() < c.policy.Audit {
			keys := []Key{it.key}
			c.types.KeepKeys(keys)
			c.auditor.offer(auditJob{key: keys[0], rk: it.rk, entry: e, at: it.at})
		}
	}
}

// answerFromLocal answers with an entry of the local tier, unless it is too old for the caller.
func (c *Cache) answerFromLocal(it *Lookup, e Held, o *Options) (ok bool) {
	ans := c.fromLocal(e, it.at)
	if o.tooOld(&ans.info) {
		return false
	}
	it.answered(ans)
	c.countHit(&c.stats.localHits, ans.info, o)
	if !o.Peek {
		c.touchLocal(it.key, it.rk, e, it.at)
		it.due = c.Due(e.Head, it.at)
	}
	return true
}

// refreshDue refreshes the keys whose local entries have answered and are due.
func (c *Cache) refreshDue(ctx context.Context, items []Lookup, j Loader, o *Options) {
	if !c.refreshesAhead() || j == nil {
		return
	}
	for i := range items {
		if it := &items[i]; it.done && it.err == nil && it.due != NotDue {
			c.refresher.load(ctx, it.key, it.rk, it.due, j, o)
			it.due = NotDue
		}
	}
}

// lives reports whether a local entry was not invalidated by tag or by Clear, and was not kept for
// an outage only.
func (c *Cache) lives(m *local.Meta, now int64) bool {
	return c.localValidity(m, now) == logicalclock.Valid && (m == nil || m.Outage != local.Apart)
}

// localValidity returns the validity of a local entry by the logical clock. Entries are dropped
// when the clock's tombstones have not been received in time.
func (c *Cache) localValidity(m *local.Meta, now int64) logicalclock.Validity {
	if m == nil {
		return logicalclock.Valid
	}
	v, _ := c.clockIn(m.Part).Validate(m.Epoch, m.LogicalTime, m.Began, m.Tags, now)
	if v == logicalclock.Unknown && c.backend.learn(m.Tags) {
		v, _ = c.clockIn(m.Part).Validate(m.Epoch, m.LogicalTime, m.Began, m.Tags, now)
	}
	return v
}

// fromLocal returns the result of a local entry.
func (c *Cache) fromLocal(e Held, at int64) result {
	ans := result{val: e.Value, held: true, info: localInfo(e, at)}
	if ans.info.Absent {
		ans.absent = c.remembered(e.Meta.Reasons)
	}
	return ans
}
