package engine

import (
	"context"
	"errors"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/metrics"
)

// A value past its fresh life is used in two ways: it is served at once, in the window
// of StaleWhileRevalidate or if the caller allows it, or it is served when a load fails
// or is slow, in the window of StaleIfError. The lookup holds it until that is decided.

// errSoftTimeout is the failure with which a stale value is served while the load goes on.
var errSoftTimeout = errors.New("cache: the load exceeded the soft timeout")

// staleValue is a stale value that a lookup may be answered with.
type staleValue struct {
	ok   bool
	ans  result
	past time.Duration // since its fresh life ended
	own  bool          // ans.val belongs to this caller alone
}

// answerStale answers with the stale value; failure is the failure of the load that it is
// served instead of, nil if there is none.
func (it *Lookup) answerStale(failure error) {
	if t, ok := failure.(*theirError); ok {
		failure = t.err
	}
	it.answered(it.stale.ans)
	it.own = it.stale.own
	it.ans.info.Stale, it.ans.info.LoadErr = true, failure
	it.ans.info.TTL = 0
}

// allowsStale reports whether a lookup has a stale value that may be served for a failure.
func (c *Cache) allowsStale(it *Lookup, failure error, o *Options) bool {
	return it.stale.ok && allowsStaleValue(failure) && c.policyOf(o).AllowsStale(it.stale.past, true)
}

// localStale finds a stale value in the local tier. It is used if Redis can't be asked for the
// current record: a local entry was dropped if this process has received a message that it was
// replaced or invalidated.
func (c *Cache) localStale(it *Lookup, o *Options) {
	if c.local == nil || c.policy.StaleFor() == 0 || o.SkipLocal {
		return
	}
	e, ok := c.local.Peek(it.key)
	if !ok || e.Meta == nil || e.Meta.Absent || it.at >= e.Meta.Stale || c.localValidity(e.Meta, it.at) == logicalclock.Invalid {
		return
	}
	info := localInfo(e, it.at)
	if o.tooOld(&info) {
		return
	}
	it.stale = staleValue{ok: true, ans: result{val: e.Value, info: info}, past: time.Duration(it.at - e.Expires)}
}

// remoteStale notes the stale value of a record.
func (it *Lookup) remoteStale(f *decoded, o *Options) {
	if !o.tooOld(&f.ans.info) {
		it.stale = staleValue{ok: true, ans: f.ans, past: f.past(), own: true}
	}
}

// serveStale answers with the stale value if it may be served at once, and refreshes it in
// the background, with the caller's loader.
func (c *Cache) serveStale(ctx context.Context, it *Lookup, j Loader, o *Options) bool {
	if !it.stale.ok {
		return false
	}
	behind := !o.Peek && c.policyOf(o).AllowsStale(it.stale.past, false)
	if !behind && !o.AllowStale {
		return false
	}
	it.answerStale(nil)
	tier := &c.stats.remoteHits
	if it.ans.info.Tier == metrics.Local {
		tier = &c.stats.localHits
	}
	c.countHit(tier, it.ans.info, o)
	if behind && !o.AllowStale {
		c.refresher.load(ctx, it.key, it.rk, it.ans.info.Age, j, o)
	}
	return true
}

// NotDue stands for the age of an entry that is not due for a refresh.
const NotDue = time.Duration(-1)

// Due returns the age of a local entry that is due for a refresh before it expires, else
// NotDue.
func (c *Cache) Due(e *local.Head, at int64) time.Duration {
	if e.Meta == nil || e.Meta.Fresh == 0 {
		return NotDue
	}
	age := max(time.Duration(at-e.Stored), 0)
	if !c.policy.ShouldRefresh(age, e.Meta.Fresh, e.Meta.Cost, c.random()) {
		return NotDue
	}
	return age
}

// random returns a random number if a strategy needs one, else 0.
func (c *Cache) random() float64 {
	if c.policy.EarlyExpiration == 0 {
		return 0
	}
	return c.rand()
}

// refreshesAhead reports whether entries are refreshed before they expire.
func (c *Cache) refreshesAhead() bool {
	return c.policy.RefreshAhead > 0 || c.policy.EarlyExpiration > 0
}
