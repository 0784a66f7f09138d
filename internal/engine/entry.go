package engine

import (
	"math"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/metrics"
)

// freshness is the age and the lifetime of a value.
type freshness struct {
	age       time.Duration
	remaining time.Duration // of the fresh life; forever if it does not expire
	fresh     time.Duration // the whole fresh life, 0 if it does not expire
	cost      time.Duration // of loading the value, 0 if not known
	etag      string
	size      int   // of the record, 0 if there is none
	began     int64 // as in decoded
}

// aging returns the freshness of a record that is timed.
func (f *decoded) aging() freshness {
	cost := f.raw.Cost
	if f.raw.Older() { // then it is not the cost of a load
		cost = 0
	}
	return freshness{f.age, f.left, microseconds(f.raw.Fresh), time.Duration(cost) * time.Microsecond, f.raw.ETag, f.size, f.began}
}

func microseconds(n uint64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/1000)) * time.Microsecond
}

// localEntry makes the local tier's entry of a result, with head. at is the local time
// before the value was requested or sent, so that the entry ends no later than
// the record does.
func (c *Cache) localEntry(key Key, head *local.Head, ans *result, at int64, g freshness, s version) Held {
	*head = local.Head{Stored: at - int64(g.age), Deadline: math.MaxInt64, Expires: math.MaxInt64}
	e := Held{Head: head, Value: ans.val}
	if g.remaining != forever {
		e.Expires = later(at, g.remaining)
	}
	e.Deadline = e.Expires
	idle := c.policy.Sliding
	switch {
	case idle == 0 || c.slidesLocally && ans.absent != nil:
	case c.slidesLocally:
		e.Deadline = min(e.Deadline, later(at, idle))
	default:
		e.Deadline = min(e.Deadline, later(at, idle/touches)) // see touch
	}
	if limit := c.localTTL; limit > 0 {
		e.Deadline = min(e.Deadline, later(at, c.policy.Spread(limit, c.rand())))
	}
	if c.clone != nil && ans.absent == nil {
		var err error
		if e.Value, err = c.clone(ans.val); err != nil {
			e.Deadline, e.Expires = math.MinInt64, math.MinInt64 // expired from the start: no read returns it
		}
	}
	window := c.policy.StaleFor()
	if ans.absent != nil || len(ans.info.Tags) > 0 || window > 0 || c.refreshesAhead() || g.etag != "" || c.policy.LocalBytes > 0 {
		e.Meta = &local.Meta{Tags: ans.info.Tags, ETag: g.etag, Epoch: s.epoch, LogicalTime: s.time, Part: s.part, Began: g.began, Stale: e.Expires}
		if window > 0 && e.Expires != math.MaxInt64 {
			e.Meta.Stale = c.staleUntil(e.Expires, at)
		}
		if c.policy.LocalBytes > 0 {
			e.Meta.Size = c.entrySize(key, ans, g.size)
		}
		if ans.absent == nil && c.refreshesAhead() {
			e.Meta.Fresh, e.Meta.Cost = g.fresh, g.cost
		}
		if ans.absent != nil {
			e.Meta.Absent = true
			e.Meta.Reasons = ans.absent.texts()
		}
	}
	return e
}

// staleUntil returns when a local entry that was stored or read at the local time at can no
// longer be served stale: without Redis, its idle time ends it as well.
func (c *Cache) staleUntil(expires, at int64) int64 {
	until := later(expires, c.policy.StaleFor())
	if c.slidesLocally {
		until = min(until, later(at, c.policy.Sliding))
	}
	return until
}

// later adds a positive d without overflow.
func later(at int64, d time.Duration) int64 {
	if at > 0 && int64(d) > math.MaxInt64-at {
		return math.MaxInt64
	}
	return at + int64(d)
}

// localInfo returns the Info of a local entry.
func localInfo(e Held, at int64) Info {
	info := Info{Tier: metrics.Local, Age: max(time.Duration(at-e.Stored), 0)}
	if e.Expires != math.MaxInt64 {
		info.TTL = time.Duration(e.Expires - at)
	}
	if e.Meta != nil {
		info.Absent, info.Tags = e.Meta.Absent, e.Meta.Tags
	}
	return info
}
