package cache

import (
	"context"
	"slices"
	"time"

	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/notice"
	"github.com/delqhi/cache/internal/remote"
	"github.com/delqhi/cache/internal/revoke"
	"github.com/delqhi/cache/internal/untold"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/metrics"
)

// result is what becomes of one loaded key.
type result[V any] struct {
	ans  answer[V]
	err  error   // of the load
	life life    // of the answer
	etag string  // of the answer
	cmd  command // stores or releases
	lock command // frees the lock, if the load holds one
	now  int64   // the time of the key's node when the record was made
	keep bool    // the answer goes into the local tier, if cmd succeeds
}

// command is one of those of a fill; none if its Key is "".
type command struct {
	remote.Command
	told  uint64 // the number of its notice
	reply remote.Reply
}

// fill stores what was loaded and answers the calls. It runs to its end even if
// everyone has left: the load was done, and a lease must not be left behind.
func (c *Cache[K, V]) fill(ctx context.Context, o *callOptions, ls []*loading[K, V]) {
	cause := context.Cause(ctx)
	ctx = context.WithoutCancel(ctx)
	at := local.Now()
	results := make([]result[V], len(ls))
	var cmds []remote.Command
	var owners []*command
	add := func(l *loading[K, V], cmd *command, kind notice.Kind) {
		if cmd.Key == "" {
			return
		}
		cmd.Tell, cmd.told = revoke.Tell(c.accord.Outbox, c.names, kind, c.encoded(l.rk))
		cmds, owners = append(cmds, cmd.Command), append(owners, cmd)
	}
	plan := func(i int) { c.plan(ctx, o, ls[i], &results[i]) }
	// Whatever the program's code does with one value, it does to that alone.
	apart := c.remote != nil || c.src.TTL != nil || c.src.Tags != nil || slices.ContainsFunc(ls, (*loading[K, V]).failed)
	usercode.EachIf(apart, len(ls), plan, func(i int, err error) { c.planless(ls[i], &results[i], err) })
	for i, l := range ls {
		r := &results[i]
		c.unlock(ctx, l, r, shared(cause) && !l.res.refused)
		// A fill over a lease is news only to those who wait. One over a value is a
		// newer value.
		kind := notice.Dropped
		if l.lease {
			kind = notice.Filled
		}
		add(l, &r.cmd, kind)
		add(l, &r.lock, notice.Filled)
	}
	if len(cmds) > 0 {
		for i, reply := range c.carryOut(ctx, cmds) {
			owners[i].reply = reply
		}
	}
	for i, l := range ls {
		r := &results[i]
		r.ans.unkept = l.why
		c.filled(l, r)
	}
	if c.local != nil {
		put := func(i int) { c.putFilled(ls[i], &results[i], at) }
		usercode.EachIf(c.clone != nil, len(ls), put, func(_ int, err error) { c.notKept(err) })
	}
	for i, l := range ls {
		c.resolve(l, results[i].ans, results[i].err)
	}
}

// putFilled takes what was loaded into the local tier.
func (c *Cache[K, V]) putFilled(l *loading[K, V], r *result[V], at int64) {
	switch {
	case c.remote == nil:
		c.fillLocalOnly(l, r, at)
	case r.keep:
		g := aging{left: r.life.left(), fresh: r.life.fresh, cost: l.res.cost(), etag: r.etag, size: len(r.cmd.Frame)}
		c.local.Put(l.call.Key, c.encoded(l.rk), c.localEntry(&r.ans, at, g, l.stamp), l.fence)
	}
}

func (l *loading[K, V]) failed() bool { return l.res.err != nil }

// planless takes a key whose plan the program's code has ended: its value can't be kept, and
// an error can't be looked at.
func (c *Cache[K, V]) planless(l *loading[K, V], r *result[V], err error) {
	*r = result[V]{ans: answer[V]{val: l.res.val, info: Info{Tier: metrics.Source}}}
	if l.res.err != nil {
		r.ans, r.err = answer[V]{}, err
	}
	c.notKept(err)
	if l.state == fillBoth && l.lease {
		r.cmd.Command = remote.Command{Op: remote.Release, Key: l.rk, Seen: l.seen}
	}
}

// filled takes the outcome of a key's commands.
func (c *Cache[K, V]) filled(l *loading[K, V], r *result[V]) {
	c.settleNotice(&r.lock, true, 0)
	if r.cmd.Key == "" {
		return
	}
	c.settleNotice(&r.cmd, l.lease, r.now)
	if r.cmd.reply.OK && r.cmd.reply.Err == nil {
		return
	}
	r.keep = false
	switch {
	case r.cmd.Op != remote.Swap || r.err != nil:
	case r.cmd.reply.Err != nil:
		c.stats.notKept.Add(1)
		r.ans.unkept = r.cmd.reply.Err
	default:
		c.stats.outdated.Add(1)
	}
}

// settleNotice settles the notice of a command. Where it is not known whether the
// command took effect, that matters only if it replaced a value, which others may
// have: a lease or a lock is no news.
func (c *Cache[K, V]) settleNotice(cmd *command, harmless bool, now int64) {
	switch {
	case cmd.Key == "":
	case cmd.reply.Err == nil && cmd.reply.OK:
		c.accord.Outbox.Done(cmd.told)
	case cmd.reply.Err == nil || harmless:
		c.accord.Outbox.GiveUp(cmd.told)
	default:
		c.accord.Outbox.Failed(cmd.told)
		c.accord.Untold(untold.Item{Key: cmd.Key, At: now, Numbers: []uint64{cmd.told}})
	}
}

// plan decides what becomes of one key.
func (c *Cache[K, V]) plan(ctx context.Context, o *callOptions, l *loading[K, V], r *result[V]) {
	var record func(now int64) ([]byte, error)
	var err error // why the answer can't be kept
	switch absent := c.absence(l.res.err); {
	case l.res.err == nil:
		r.ans, r.etag = answer[V]{val: l.res.val, info: Info{Tier: metrics.Source}}, l.res.wishes.etag
		if r.life, r.keep, err = c.lifetime(l.call.Key, l.res.val, o, l.res.wishes); err == nil {
			r.ans.info.Tags, err = c.tagsOf(l.call.Key, l.res.val, o, l.res.wishes)
		}
		record = func(now int64) ([]byte, error) {
			return c.encode(l.rk, l.res.val, r.life, now, l.stamp, r.ans.info.Tags, r.etag, l.res.cost())
		}
	case absent != nil:
		r.ans = answer[V]{absent: absent, info: Info{Tier: metrics.Source, Absent: true}}
		r.life, r.keep = life{fresh: c.policy.NotFoundTTL}, c.policy.NotFoundTTL > 0 && !l.res.wishes.skip
		record = func(now int64) ([]byte, error) {
			return c.encodeAbsence(l.rk, absent.reasons, r.life, now, l.stamp, l.res.cost())
		}
	default:
		r.err = l.res.err
		if l.res.wishes.noStale {
			r.err = &uncoverableError{r.err}
		}
	}
	r.keep = r.keep && err == nil
	if l.state == fillNone && r.keep {
		c.stats.notKept.Add(1)
		r.keep = false
	}
	if r.keep && l.state == fillBoth {
		var frm []byte
		if frm, r.now, err = c.now(ctx, l.rk, record); err == nil {
			r.cmd.Command = remote.Command{Op: remote.Swap, Key: l.rk, Frame: frm, TTL: r.life.physical(), Seen: l.seen}
		}
		r.keep = err == nil
	}
	if err != nil {
		// The value is good, and the caller gets it; it only can't be kept.
		c.notKept(err)
	}
	if r.err == nil {
		c.failures.forget(l.rk)
	}
	if r.keep {
		r.ans.info.TTL = r.life.fresh
		return
	}
	// Nothing is stored in the place of what was seen: a lease goes, and so does a
	// value that the source says is over. A failure takes no value away.
	if l.state == fillBoth && (l.lease || r.err == nil) {
		r.cmd.Command = remote.Command{Op: remote.Release, Key: l.rk, Seen: l.seen}
	}
}

// unlock decides what becomes of a load's lease or lock, if the load has failed, or of
// its lock: where others may wait for it, word of the failure is left in its place, in
// this process and in Redis for as long as the source is not to be asked again.
func (c *Cache[K, V]) unlock(ctx context.Context, l *loading[K, V], r *result[V], shared bool) {
	failed := r.err != nil && shared
	hold := c.hold(l)
	if failed && hold > 0 {
		c.failures.note(l.rk, r.err, hold, c.policy.ErrorTTL == 0 && !l.res.wishes.hasRetry)
	}
	key, release := l.rk, &r.cmd
	switch {
	case l.lock:
		key, release = c.lockKey(l.rk), &r.lock
		release.Command = remote.Command{Op: remote.Release, Key: key, Seen: l.token}
	case !l.lease:
		return
	}
	if !failed {
		return
	}
	now, err := c.remote.Now(ctx, key)
	if err != nil {
		return
	}
	if frm, err := c.encodeFailure(key, l.id, r.err, hold, now); err == nil {
		release.Command = remote.Command{Op: remote.Swap, Key: key, Frame: frm, TTL: max(hold, failureLife), Seen: l.token}
	}
}

// hold is how long the source is not to be asked again after a failed load: as the load
// says, or ErrorTTL, or where there is a value to cover it with, RetryAfter.
func (c *Cache[K, V]) hold(l *loading[K, V]) time.Duration {
	switch {
	case l.res.wishes.hasRetry:
		return l.res.wishes.retry
	case l.old != nil && c.policy.StaleIfError > 0:
		return max(c.policy.ErrorTTL, c.policy.RetryAfter)
	}
	return c.policy.ErrorTTL
}

// shared reports whether the failure of a load whose context ended for this cause, or
// did not end, is one for all who wait, in whatever process. That a process closes, or
// that nobody in it waits any more, is not.
func shared(cause error) bool { return cause != ErrClosed && cause != flight.ErrAbandoned }

// now makes a record that is dated by the clock of its key's node.
func (c *Cache[K, V]) now(ctx context.Context, rk string, record func(now int64) ([]byte, error)) ([]byte, int64, error) {
	now, err := c.remote.Now(ctx, rk)
	if err != nil {
		return nil, 0, c.unavailable(err)
	}
	frm, err := record(now)
	return frm, now, err
}
