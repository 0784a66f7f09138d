package engine

import (
	"context"
	"slices"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/metrics"
)

// fillResult is the plan and the outcome of the fill of one loaded key.
type fillResult struct {
	ans  result
	err  error  // of the load
	life life   // of the answer
	etag string // of the answer
	keep bool   // the answer goes into the local tier, if redisLoad.stores succeeds
	over bool   // the source says that the stored value is over

	shared      bool          // the load has failed, for all that wait for it
	hold        time.Duration // how long the source is not to be asked again then
	failure     failure
	failedUntil int64 // local time until which the failure is remembered; 0: it is not
}

// command is one of the commands of a fill; none if its Key is "".
type command struct {
	store.Command
	sent  message.Sent
	reply store.Reply
}

// fill stores the loaded values and resolves the calls. It runs to its end even if
// all callers are gone: the load was done, and a lease must not be left behind.
func (c *Cache) fill(ctx context.Context, o *Options, ls []*inflightLoad) {
	cause := causeOf(ctx)
	ctx = withoutCancel(ctx)
	at := local.Now() // before anything is encoded, which may take long
	// A panic of user code on one value affects only that value.
	if c.runsUserCode || slices.ContainsFunc(ls, (*inflightLoad).failed) {
		usercode.Each(len(ls), func(i int) { c.plan(ctx, o, ls[i]) }, func(i int, err error) { c.planless(ls[i], err) })
	} else {
		for _, l := range ls {
			c.plan(ctx, o, l)
		}
	}
	c.storePlanned(ctx, o, ls, at, cause)
}

// fillSingle is fill of one load on a goroutine of the cache that has nothing else to do: user
// code that ends it ends no more than the plan. The local time at is from before.
func (c *Cache) fillSingle(ctx context.Context, o *Options, ls []*inflightLoad, at int64) {
	l, cause := ls[0], causeBy(ctx, at)
	if c.inRedis {
		ctx = withoutCancel(ctx)
	} else {
		ctx = context.Background() // it is not used
	}
	if !c.runsUserCode && !l.failed() {
		c.plan(ctx, o, l)
		c.storePlanned(ctx, o, ls, at, cause)
		return
	}
	err := usercode.ErrGoexit // unless plan returns, or panics
	defer func() {
		if err != nil {
			c.planless(l, err)
		}
		c.storePlanned(ctx, o, ls, at, cause)
	}()
	err = usercode.Call(func() error {
		c.plan(ctx, o, l)
		return nil
	})
}

// storePlanned stores as planned, and resolves the calls. cause is that of the end of the load's
// context.
func (c *Cache) storePlanned(ctx context.Context, o *Options, ls []*inflightLoad, at int64, cause error) {
	for _, l := range ls {
		if shared(cause) && !l.res.refused {
			c.planFailure(o, l)
		}
		l.filled.ans.unkept = l.why
	}
	c.backend.store(ctx, o, ls, at)
	for _, l := range ls {
		c.resolve(l, &l.filled.ans, l.filled.err)
		if l.left != nil {
			c.leave(l)
		}
	}
}

func (l *inflightLoad) failed() bool { return l.res.err != nil }

// planless handles a key whose plan was ended by user code, as by a panic: its value can't be
// kept, and an error can't be inspected.
func (c *Cache) planless(l *inflightLoad, err error) {
	r := &l.filled
	*r = fillResult{ans: result{val: l.res.val, info: Info{Tier: metrics.Source}}}
	if l.redisLoad != nil {
		l.stores, l.unlocks, l.notify, l.now = command{}, command{}, nil, 0
	}
	if l.res.err != nil {
		r.ans, r.err = result{}, err
	}
	c.notKept(err)
}

// aging returns the freshness of the loaded value, which is stored as of the local time at.
func (l *inflightLoad) aging(at int64) freshness {
	r := &l.filled
	g := freshness{remaining: r.life.timeLeft(), fresh: r.life.fresh, cost: time.Duration(at - l.res.began), etag: r.etag}
	if l.late {
		g.age = g.cost
	}
	if g.remaining != forever {
		g.remaining -= g.age
	}
	return g
}

// plan decides how the result of one key is stored.
func (c *Cache) plan(ctx context.Context, o *Options, l *inflightLoad) {
	r, w := &l.filled, l.res.asked()
	var err error // why the answer can't be kept
	switch absent := c.absence(l.res.err); {
	case l.res.err == nil:
		r.ans, r.etag = result{val: l.res.val, info: Info{Tier: metrics.Source}}, w.etag
		if r.life, r.keep, err = c.lifetime(l.key, l.res.val, o, w); err == nil {
			c.keepLoadedLife(ctx, o, l)
			r.ans.info.Tags, err = c.tagsOf(l.key, l.res.val, o, w)
		}
		r.over = o.HasTTL && o.TTL <= 0 && !w.hasTTL && !w.skip
	case absent != nil:
		r.ans = result{absent: absent, info: Info{Tier: metrics.Source, Absent: true}}
		r.life, r.keep = life{fresh: c.policyOf(o).Spread(c.policyOf(o).NotFoundTTL, c.rand())}, c.policyOf(o).NotFoundTTL > 0 && !w.skip
		r.over = !w.skip
	default:
		r.err = l.res.err
		if w.noStale {
			r.err = &noStaleError{r.err}
		}
	}
	r.keep = r.keep && err == nil
	if l.late {
		r.over = false
		r.keep = r.keep && (r.life.fresh == 0 || r.life.fresh+r.life.stale > l.age()+time.Millisecond)
	}
	if l.state == fillNone && r.keep {
		c.stats.notKept.Add(1)
		r.keep = false
	}
	if r.keep {
		err = c.backend.encodeLoaded(ctx, l)
		r.keep = err == nil
	}
	if err != nil {
		// The value is valid, and the caller gets it; it just can't be kept.
		c.notKept(err)
	}
	if r.err == nil && !l.late {
		c.failures.forget(l.rk)
	}
	if r.keep {
		r.ans.info.TTL = r.life.fresh
	}
}

// planFailure decides for how long a failure is kept that applies to other loads as well: for as
// long as the source is not to be asked again, in this process and where the records are.
func (c *Cache) planFailure(o *Options, l *inflightLoad) {
	r := &l.filled
	if r.err == nil {
		return
	}
	r.shared, r.hold = true, c.hold(o, l)
	r.failure = failure{err: r.err, cover: c.policyOf(o).ErrorTTL == 0 && !l.res.asked().hasRetry, version: l.version}
	if r.hold > 0 {
		r.failedUntil = later(local.Now(), r.hold)
	}
}

// hold is how long the source is not to be asked again after a failed load: as the load
// says, or ErrorTTL, or, if a stale value can be served instead, at least RetryAfter.
func (c *Cache) hold(o *Options, l *inflightLoad) time.Duration {
	p := c.policyOf(o)
	errorTTL := p.Spread(p.ErrorTTL, c.rand())
	switch {
	case l.res.asked().hasRetry:
		return l.res.asked().retry
	case l.old != nil && p.StaleIfError > 0:
		return max(errorTTL, p.RetryAfter)
	}
	return errorTTL
}

// shared reports whether the failure of a load whose context ended for this cause, or
// did not end, applies to all waiting loads, in any process. It does not if the cache was
// closed, or if no caller in this process waits any more.
func shared(cause error) bool { return cause != errs.ErrClosed && cause != flight.ErrAbandoned }
