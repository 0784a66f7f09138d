package engine

import (
	"context"

	"github.com/delqhi/cache/internal/glob"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
)

// A LocalOnly cache has no records in Redis: the entries of the local tier are its only data.
// It follows the same steps as a cache on Redis, with the same outcomes, by these means:
//
//	on Redis                                          here
//	compare-and-set of a record                       of the tier's entry, under its shard's lock
//	SET                                               Tier.Set: the last one is the newer one
//	lease, lock, intent                               fence.Claim: exact for its key
//	waiting for the message of a fill                 fence.Waiter
//	tombstones of tags and of Clear                   the same, in memory

// lookLocal returns the tier's entry of a key, nil if there is none, and its status: usable,
// stale, expired, or notFound.
func (c *Cache) lookLocal(key Key, at int64) (e Held, is status) {
	e, ok := c.local.Peek(key)
	if !ok {
		return Held{}, notFound
	}
	v := c.localValidity(e.Meta, at)
	switch {
	case v == logicalclock.Valid && at < e.Deadline:
		return e, usable
	case v != logicalclock.Invalid && e.Meta != nil && !e.Meta.Absent && at < e.Meta.Stale && c.policy.StaleFor() > 0:
		return e, stale
	}
	return e, expired
}

// acquireLocal claims the keys of ls, as acquire does on Redis: it resolves the loads of keys
// that have a value by now, and those that have waited for a load that has failed. A key that
// another load or a write to the source has claimed stays waiting.
func (c *Cache) acquireLocal(ctx context.Context, o *Options, ls []*inflightLoad) {
	s, _ := c.stamp(ctx) // can't fail: the clock is in this process
	for _, l := range ls {
		if c.answerLocal(o, l) {
			continue
		}
		if err := l.failedMeanwhile(); err != nil {
			c.coalesced(o)
			c.resolve(l, result{}, err)
			continue
		}
		force := o.SkipLocal || o.anew()
		if l.claim, l.awaits = c.fences.ClaimLoad(c.encoded(l.rk), s.time, force); l.claim == nil {
			if o.background {
				c.resolve(l, result{}, errBusy)
			}
			for _, other := range l.awaits {
				if c.taken(o, l, other) {
					break
				}
			}
			continue
		}
		l.state, l.stamp = fillLocal, s
		if c.answerLocal(o, l) { // again: a value that was stored before the claim does not end it
			l.claim.End(nil)
		}
	}
}

// failedMeanwhile returns the failure of a load that l has waited for, nil if there is none.
func (l *inflightLoad) failedMeanwhile() error {
	for _, other := range l.awaits {
		if err := other.Failed(); err != nil {
			return err
		}
	}
	return nil
}

// answerLocal resolves a load with the tier's entry, if that may be used, and otherwise notes
// the entry that is to be replaced.
func (c *Cache) answerLocal(o *Options, l *inflightLoad) bool {
	l.old, l.entry = nil, Held{}
	if o.SkipLocal {
		return false
	}
	at := local.Now()
	e, is := c.lookLocal(l.key, at)
	l.entry = e
	if is != usable && is != stale {
		return false
	}
	ans := c.fromLocal(e, at)
	if is == usable && !o.tooOld(&ans.info) && !(o.background && ans.info.Age >= o.backgroundAge) {
		c.coalesced(o)
		c.resolve(l, ans, nil)
		return true
	}
	if ans.absent == nil {
		l.old = &decoded{ans: ans}
		if e.Meta != nil {
			l.old.raw.ETag = e.Meta.ETag
		}
	}
	return false
}

func (c *Cache) coalesced(o *Options) {
	if !o.refresh {
		c.stats.coalesced.Add(1)
	}
}

// fillLocalOnly stores the loaded value, unless the key was written or invalidated since it
// was claimed. If the value is not to be stored, the tier's entry stays, unless the source
// says that it is over.
func (c *Cache) fillLocalOnly(l *inflightLoad, r *fillResult, at int64) {
	enc := c.encoded(l.rk)
	switch {
	case r.keep:
		if c.local.Fill(l.key, enc, c.localEntry(&r.ans, at, l.aging(r), l.stamp), l.claim) == local.Refused {
			c.stats.outdated.Add(1)
		} else if l.late {
			c.failures.forget(l.rk)
		}
	case r.over && l.entry.Head != nil:
		c.local.CompareAndSwap(l.key, enc, l.entry, Held{})
	}
}

// endClaims ends the claims of ls, whatever their outcome, except those of loads that go on
// without their callers: see fillLate.
func endClaims(ls []*inflightLoad) {
	for _, l := range ls {
		if l.left == nil {
			l.claim.End(nil)
		}
	}
}

// invalidateLocal makes one key invalid by the invalidator's policy. marked: all keys are, by a
// tombstone, which does not show in an entry's own dates.
func (c *Cache) invalidateLocal(key Key, enc string, marked bool) {
	lazy := c.invalidation.Mode == invalidation.Lazy && c.policy.StaleFor() > 0
	if rk, err := c.RedisKey(key); c.invalidation.Mode != invalidation.Delayed && !lazy || err != nil || c.encoded(rk) != enc {
		c.local.Remove(enc)
		return
	}
	if lazy {
		c.shorten(key, enc, local.Now(), true, true)
	} else {
		c.shorten(key, enc, later(local.Now(), c.invalidation.Delay), marked, false)
	}
}

// shorten makes an entry unusable from the local time end on, also as a stale value unless
// keepStale is set. With keepLife, its Expires stays, from which its Info and the time that
// it has been stale are computed; else that ends as well. The fills of loads in flight fail.
func (c *Cache) shorten(key Key, enc string, end int64, keepLife, keepStale bool) {
	for {
		f := c.fences.Move(enc)
		e, ok := c.local.Peek(key)
		if !ok {
			// A load may be storing an entry at this moment, checked before the fence moved.
			c.local.Remove(enc)
			return
		}
		head := *e.Head
		short := Held{Head: &head, Value: e.Value}
		if short.Deadline = min(e.Deadline, end); !keepLife {
			short.Expires = min(e.Expires, end)
		}
		if e.Meta != nil && !keepStale {
			m := *e.Meta
			m.Stale = min(m.Stale, end)
			short.Meta = &m
		}
		if c.local.Swap(key, enc, short, f) {
			return
		}
	}
}

// invalidateMatching makes the keys that match a pattern invalid, and returns how many it was.
func (c *Cache) invalidateMatching(pattern string) (n int64) {
	match := glob.Compile(pattern).Match
	c.fences.LoseMatching(match)
	at := local.Now()
	c.local.Range(func(k Key, e Held) bool {
		rk, err := c.RedisKey(k)
		if err != nil || !match(c.encoded(rk)) {
			return true
		}
		if at < e.Deadline || e.Meta != nil && at < e.Meta.Stale {
			n++
		}
		c.invalidateLocal(k, c.encoded(rk), false)
		return true
	})
	return n
}

// invalidateAllLocal makes everything invalid.
func (c *Cache) invalidateAllLocal() {
	if c.invalidation.Mode == invalidation.Immediate {
		c.local.Flush()
		return
	}
	c.local.Range(func(k Key, _ Held) bool {
		if rk, err := c.RedisKey(k); err == nil {
			c.invalidateLocal(k, c.encoded(rk), true)
		}
		return true
	})
}

// markLocal sets the tombstones of tags, or of everything: the logical clock is this process's
// own. Loads in flight still fill, since the entries that they store are validated by their
// tags; later callers do not join these loads.
func (c *Cache) markLocal(tags []string) error {
	if len(tags) == 0 {
		c.fences.MoveAll()
	} else {
		c.fences.Turn()
	}
	c.failures.forgetAll()
	asked, at := c.clock.ReadVersion(), local.Now()
	marks, err := c.localClock.AddTombstones(c.clock.Known(), c.invalidation.NewTombstone(tags))
	if err != nil {
		return err
	}
	c.clock.LearnTombstones(tags, &marks, asked, at)
	if len(tags) == 0 {
		c.invalidateAllLocal()
	}
	return nil
}
