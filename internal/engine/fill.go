package engine

import (
	"context"
	"slices"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/metrics"
)

// fillResult is the plan and the outcome of the fill of one loaded key.
type fillResult struct {
	ans  result
	err  error   // of the load
	life life    // of the answer
	etag string  // of the answer
	cmd  command // stores or releases
	lock command // frees the lock, if the load holds one
	now  int64   // the time of the key's node when the record was made
	keep bool    // the answer goes into the local tier, if cmd succeeds
	over bool    // the source says that the stored value is over

	failure     failure
	failedUntil int64    // local time until which the failure is remembered; 0: it is not
	notify      *command // stores the failure in Redis; nil: none does
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
	cause := context.Cause(ctx)
	ctx = context.WithoutCancel(ctx)
	at := local.Now()
	results := make([]fillResult, len(ls))
	var cmds []store.Command
	var owners []*command
	add := func(l *inflightLoad, cmd *command, kind message.Kind) {
		if cmd.Key == "" {
			return
		}
		cmd.Notify, cmd.sent = c.invalidator.NotifyOf(kind, c.encoded(l.rk))
		cmds, owners = append(cmds, cmd.Command), append(owners, cmd)
	}
	plan := func(i int) { c.plan(ctx, o, ls[i], &results[i]) }
	// A panic of user code on one value affects only that value.
	apart := c.client != nil || c.src.TTL != nil || c.src.Tags != nil || slices.ContainsFunc(ls, (*inflightLoad).failed)
	usercode.EachIf(apart, len(ls), plan, func(i int, err error) { c.planless(ls[i], &results[i], err) })
	for i, l := range ls {
		r := &results[i]
		c.unlock(ctx, l, r, shared(cause) && !l.res.refused)
		add(l, &r.cmd, kindOf(o, l, r))
		add(l, &r.lock, message.Loaded)
		l.settled = true
	}
	if len(cmds) > 0 {
		for i, reply := range c.exec(ctx, cmds) {
			owners[i].reply = reply
		}
	}
	for i, l := range ls {
		r := &results[i]
		r.ans.unkept = l.why
		c.filled(l, r)
	}
	if c.local != nil {
		put := func(i int) { c.fillTier(ls[i], &results[i], at) }
		usercode.EachIf(c.clone != nil, len(ls), put, func(_ int, err error) { c.notKept(err) })
	}
	for i, l := range ls {
		failure := results[i].err
		if !shared(cause) || l.res.refused {
			failure = nil
		}
		if l.left == nil {
			l.claim.End(failure)
		} else {
			l.claim.Leave(failure)
		}
		c.resolve(l, results[i].ans, results[i].err)
		if l.left != nil {
			c.leave(l, &results[i])
		}
	}
}

func (l *inflightLoad) failed() bool { return l.res.err != nil }

// planless handles a key whose plan was ended by user code, as by a panic: its value can't be
// kept, and an error can't be inspected.
func (c *Cache) planless(l *inflightLoad, r *fillResult, err error) {
	*r = fillResult{ans: result{val: l.res.val, info: Info{Tier: metrics.Source}}}
	if l.res.err != nil {
		r.ans, r.err = result{}, err
	}
	c.notKept(err)
	c.release(l, r)
}

// kindOf is the kind of message that a fill publishes. A fill over a lease matters only to
// loads that wait. A fill over a value replaces that value, and so does one that was requested
// although there was a value: Redis may have evicted a record that other processes still hold.
func kindOf(o *Options, l *inflightLoad, r *fillResult) message.Kind {
	if l.lease && (r.err != nil || !o.refresh && !o.HasMaxAge) {
		return message.Loaded
	}
	return message.Invalidated
}

// fillTier brings the local tier in line with a fill.
func (c *Cache) fillTier(l *inflightLoad, r *fillResult, at int64) {
	enc := c.encoded(l.rk)
	switch {
	case c.client == nil:
		c.fillLocalOnly(l, r, at)
	case r.keep:
		g := l.aging(r)
		g.size = len(r.cmd.Frame)
		c.local.Put(l.key, enc, c.localEntry(&r.ans, at, g, l.stamp), l.fence)
	case r.over && r.cmd.reply.OK && c.fences.Valid(enc, l.fence):
		c.local.Remove(enc)
	}
}

// aging returns the freshness of the loaded value.
func (l *inflightLoad) aging(r *fillResult) freshness {
	g := freshness{age: l.age(), remaining: r.life.timeLeft(), fresh: r.life.fresh, cost: l.res.cost(), etag: r.etag}
	if g.remaining != forever {
		g.remaining -= g.age
	}
	return g
}

// giveBack releases the leases and locks of loads that did not finish, as by a panic.
func (c *Cache) giveBack(ls []*inflightLoad) {
	var cmds []store.Command
	for _, l := range ls {
		if l.left != nil && l.left.release(nil, nil) {
			l.claim.End(nil)
		}
		switch {
		case l.settled:
		case l.lease:
			cmds = append(cmds, store.Command{Op: store.CompareAndDelete, Key: l.rk, Seen: l.token})
		case l.lock:
			cmds = append(cmds, store.Command{Op: store.CompareAndDelete, Key: c.lockKey(l.rk), Seen: l.token})
		}
		l.settled = true
	}
	if len(cmds) > 0 {
		c.exec(context.Background(), cmds)
	}
}

// filled handles the outcome of a key's commands.
func (c *Cache) filled(l *inflightLoad, r *fillResult) {
	c.failed(l, r)
	c.resolveMessage(&r.lock, true, 0)
	if r.cmd.Key == "" {
		return
	}
	c.resolveMessage(&r.cmd, l.lease, r.now)
	if r.cmd.reply.OK && r.cmd.reply.Err == nil {
		if l.late {
			c.failures.forget(l.rk)
		}
		return
	}
	r.keep = false
	switch {
	case r.cmd.Op != store.CompareAndSet || r.err != nil:
	case r.cmd.reply.Err != nil:
		c.stats.notKept.Add(1)
		r.ans.unkept = r.cmd.reply.Err
	default:
		c.stats.outdated.Add(1)
	}
}

// failed remembers that a load has failed, unless its key has been written or invalidated
// meanwhile: then another record has replaced the lease in Redis, or the fence has moved.
func (c *Cache) failed(l *inflightLoad, r *fillResult) {
	if r.failedUntil == 0 {
		return
	}
	if t := r.notify; t != nil {
		switch {
		case t.reply.Err != nil:
			r.failure.about = frame.ID{} // the failure may or may not be stored in Redis
		case !t.reply.OK && l.lease:
			return
		}
	}
	moved := c.moved(l.rk, l.fence)
	switch {
	case l.claim != nil:
		moved = l.claim.Lost
	case l.state == fillNone:
		moved = c.moved(l.rk, l.call.Fence.fence)
	}
	c.remember(l.rk, r.failure, r.failedUntil, moved)
}

// resolveMessage resolves the message of a command. If it is not known whether the command took
// effect, that matters only if it replaced a value, which other processes may hold: replacing a
// lease or a lock invalidates nothing.
func (c *Cache) resolveMessage(cmd *command, harmless bool, now int64) {
	err := cmd.reply.Err
	took := err == nil && cmd.reply.OK
	if harmless {
		err = nil
	}
	if open := cmd.sent.Resolve(took, err); len(open) > 0 {
		c.coherence.ScheduleRetry(retryqueue.Item{Key: cmd.Key, At: now, Numbers: open})
	}
}

// plan decides how the result of one key is stored.
func (c *Cache) plan(ctx context.Context, o *Options, l *inflightLoad, r *fillResult) {
	var record func(now int64) ([]byte, error)
	var err error // why the answer can't be kept
	switch absent := c.absence(l.res.err); {
	case l.res.err == nil:
		r.ans, r.etag = result{val: l.res.val, info: Info{Tier: metrics.Source}}, l.res.wishes.etag
		if r.life, r.keep, err = c.lifetime(l.key, l.res.val, o, l.res.wishes); err == nil {
			r.ans.info.Tags, err = c.tagsOf(l.key, l.res.val, o, l.res.wishes)
		}
		r.over = o.HasTTL && o.TTL <= 0 && !l.res.wishes.hasTTL && !l.res.wishes.skip
		record = func(now int64) ([]byte, error) {
			return c.encode(l.rk, l.res.val, r.life, now, l.stamp, r.ans.info.Tags, r.etag, c.costOf(l.rk, l.res.cost()-l.age()))
		}
	case absent != nil:
		r.ans = result{absent: absent, info: Info{Tier: metrics.Source, Absent: true}}
		r.life, r.keep = life{fresh: c.policy.Spread(c.policy.NotFoundTTL, c.rand())}, c.policy.NotFoundTTL > 0 && !l.res.wishes.skip
		r.over = !l.res.wishes.skip
		record = func(now int64) ([]byte, error) {
			return c.encodeAbsence(l.rk, absent.reasons, r.life, now, l.stamp, l.res.cost()-l.age())
		}
	default:
		r.err = l.res.err
		if l.res.wishes.noStale {
			r.err = &noStaleError{r.err}
		}
	}
	r.keep = r.keep && err == nil
	age := l.age()
	if l.late {
		r.over = false
		r.keep = r.keep && (r.life.fresh == 0 || r.life.fresh+r.life.stale > age+time.Millisecond)
	}
	if l.state == fillNone && r.keep {
		c.stats.notKept.Add(1)
		r.keep = false
	}
	if r.keep && l.state == fillBoth {
		var frm []byte
		older := func(now int64) ([]byte, error) { return record(now - age.Microseconds()) }
		if frm, r.now, err = c.now(ctx, l.rk, older); err == nil {
			life := r.life.physical()
			if r.life.fresh > 0 {
				life = min(life, (r.life.fresh + r.life.stale - age).Truncate(time.Millisecond))
			}
			r.cmd.Command = store.Command{Op: store.CompareAndSet, Key: l.rk, Frame: frm, TTL: life, Seen: l.seen}
		}
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
		return
	}
	c.release(l, r)
}

// release deletes a lease if no value is stored in its place. A record that stayed in place
// is kept: others rely on it, for example by a stale window of their own. It is deleted if
// the source says that it is over.
func (c *Cache) release(l *inflightLoad, r *fillResult) {
	if l.state == fillBoth && (l.lease || r.over) {
		r.cmd.Command = store.Command{Op: store.CompareAndDelete, Key: l.rk, Seen: l.seen}
	}
}

// unlock decides what happens to the lock of a load, and to its lease if the load has failed:
// if others may wait for it, a failure record replaces it. The failure is kept, in this
// process and in Redis, for as long as the source is not to be asked again.
func (c *Cache) unlock(ctx context.Context, l *inflightLoad, r *fillResult, shared bool) {
	failed := r.err != nil && shared
	hold := c.hold(l)
	r.failure = failure{err: r.err, cover: c.policy.ErrorTTL == 0 && !l.res.wishes.hasRetry, stamp: l.stamp}
	if failed && hold > 0 {
		r.failedUntil = later(local.Now(), hold)
	}
	key, release, replaces := l.rk, &r.cmd, ""
	switch {
	case l.lock:
		key, release, replaces = c.lockKey(l.rk), &r.lock, string(l.stays[:])
		r.failure.about = l.stays
		release.Command = store.Command{Op: store.CompareAndDelete, Key: key, Seen: l.token}
	case !l.lease:
		return
	}
	if !failed {
		return
	}
	now, err := c.client.Now(ctx, key)
	if err != nil {
		return
	}
	if frm, err := c.encodeFailure(key, l.id, r.failure, hold, replaces, now); err == nil {
		release.Command = store.Command{Op: store.CompareAndSet, Key: key, Frame: frm, TTL: max(hold, failureLife), Seen: l.token}
		if r.notify = release; l.lease {
			h, _ := frame.ReadHead(frm)
			r.failure.about = h.ID
		}
	}
}

// hold is how long the source is not to be asked again after a failed load: as the load
// says, or ErrorTTL, or, if a stale value can be served instead, at least RetryAfter.
func (c *Cache) hold(l *inflightLoad) time.Duration {
	switch {
	case l.res.wishes.hasRetry:
		return l.res.wishes.retry
	case l.old != nil && c.policy.StaleIfError > 0:
		return max(c.errorTTL(), c.policy.RetryAfter)
	}
	return c.errorTTL()
}

func (c *Cache) errorTTL() time.Duration { return c.policy.Spread(c.policy.ErrorTTL, c.rand()) }

// shared reports whether the failure of a load whose context ended for this cause, or
// did not end, applies to all waiting loads, in any process. It does not if the cache was
// closed, or if no caller in this process waits any more.
func shared(cause error) bool { return cause != errs.ErrClosed && cause != flight.ErrAbandoned }

// now encodes a record that is dated by the clock of its key's node.
func (c *Cache) now(ctx context.Context, rk string, record func(now int64) ([]byte, error)) ([]byte, int64, error) {
	now, err := c.client.Now(ctx, rk)
	if err != nil {
		return nil, 0, c.unavailable(err)
	}
	frm, err := record(now)
	return frm, now, err
}
