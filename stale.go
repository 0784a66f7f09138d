package cache

import (
	"context"
	"errors"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/metrics"
)

// A value past its fresh life is of use in two ways: as an answer at once, in the
// window of StaleWhileRevalidate or where the caller allows it, and as a cover for a
// load that failed or is slow, in that of StaleIfError. Until one or the other is
// decided it is kept at hand.

// errSoftTimeout is the failure that a cover stands for while the load goes on.
var errSoftTimeout = errors.New("cache: the load exceeded the soft timeout")

// stale is a stale value.
type staleValue[V any] struct {
	ok   bool
	ans  result[V]
	past time.Duration // since its fresh life ended
	own  bool          // ans.val belongs to this caller alone
}

// answerStale answers with a stale value; failure is what it covers, nil if nothing.
func (it *lookup[K, V]) answerStale(failure error) {
	if t, ok := failure.(*theirError); ok {
		failure = t.err
	}
	it.answered(it.stale.ans)
	it.own = it.stale.own
	it.ans.info.Stale, it.ans.info.LoadErr = true, failure
	it.ans.info.TTL = 0
}

// allowsStale reports whether an item has a stale value for a failure.
func (c *Cache[K, V]) allowsStale(it *lookup[K, V], failure error) bool {
	return it.stale.ok && allowsStaleValue(failure) && c.policy.AllowsStale(it.stale.past, true)
}

// localStale finds a stale value in the local tier. It is used where Redis can't say
// what became of it: what was replaced or invalidated was dropped, as far as this
// process has heard.
func (c *Cache[K, V]) localStale(it *lookup[K, V], o *callOptions) {
	if c.local == nil || c.policy.StaleFor() == 0 || o.skipLocal {
		return
	}
	e, ok := c.local.Peek(it.key)
	if !ok || e.Meta == nil || e.Meta.Absent || it.at >= e.Meta.Stale || c.verdictOf(e.Meta, it.at) == logicalclock.Invalid {
		return
	}
	info := localInfo(e, it.at)
	if o.tooOld(info) {
		return
	}
	it.stale = staleValue[V]{ok: true, ans: result[V]{val: e.Value, info: info}, past: time.Duration(it.at - e.Expires)}
}

// remoteStale keeps a stale record.
func (it *lookup[K, V]) remoteStale(f *decoded[V], o *callOptions) {
	if !o.tooOld(f.ans.info) {
		it.stale = staleValue[V]{ok: true, ans: f.ans, past: f.past(), own: true}
	}
}

// serveStale answers with the stale value where it may be the answer at once, and has
// it loaded anew behind the caller's back, with the caller's loader.
func (c *Cache[K, V]) serveStale(ctx context.Context, it *lookup[K, V], j *loader[K, V], o *callOptions) bool {
	if !it.stale.ok {
		return false
	}
	behind := !o.peek && c.policy.AllowsStale(it.stale.past, false)
	if !behind && !o.allowStale {
		return false
	}
	it.answerStale(nil)
	tier := &c.stats.remoteHits
	if it.ans.info.Tier == metrics.Local {
		tier = &c.stats.localHits
	}
	c.countHit(tier, it.ans.info, o)
	if behind && !o.allowStale {
		c.refresher.load(ctx, it.key, it.rk, it.ans.info.Age, j, o)
	}
	return true
}

// notDue is the age of an entry that is not to be loaded anew.
const notDue = time.Duration(-1)

// due returns the age of a local entry that is to be loaded anew ahead of its end, else
// notDue.
func (c *Cache[K, V]) due(e *local.Entry[V], at int64) time.Duration {
	if e.Meta == nil || e.Meta.Fresh == 0 {
		return notDue
	}
	age := max(time.Duration(at-e.Stored), 0)
	if !c.policy.ShouldRefresh(age, e.Meta.Fresh, e.Meta.Cost, c.random()) {
		return notDue
	}
	return age
}

// random returns a random number where a strategy wants one.
func (c *Cache[K, V]) random() float64 {
	if c.policy.EarlyExpiration == 0 {
		return 0
	}
	return c.rand()
}

// refreshesAhead reports whether entries are loaded anew ahead of their ends.
func (c *Cache[K, V]) refreshesAhead() bool {
	return c.policy.RefreshAhead > 0 || c.policy.EarlyExpiration > 0
}
