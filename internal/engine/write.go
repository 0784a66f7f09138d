package engine

import (
	"context"
	"slices"
	"time"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

// The write path, the same for one key and for many:
//
//	1. validate and encode: an error in the input is reported before anything is
//	   sent;
//	2. move the key's fence: loads and reads in flight no longer fill the local
//	   tier, and later callers do not join them;
//	3. send the write to Redis, and notify the other processes in the same round
//	   trip;
//	4. at the acknowledgement, move the fence again and put the new value into the
//	   local tier in the same step, unless the fence was moved in between. Where
//	   the outcome is not known, drop the local value instead, bypass the local
//	   tier for the key from now on, and queue an invalidation that is retried
//	   until Redis and the other processes have it.

// Change is one key of a write.
type Change struct {
	Key   Key
	Val   Value
	rk    string
	at    int64
	fence fence.Token
	keep  bool // false: the value's life is over already, or the change is a Delete
	life  life
	stamp stamp
	dated bool          // stamp is that of the value that this one was derived from
	cost  time.Duration // how long the value took to make, from when the source was asked
	now   int64         // the time of the key's node before it was sent, µs; 0: not known
	sent  message.Sent
	claim *fence.Claim // in a LocalOnly cache under a write strategy: takes the place of the intent
	frame []byte
	tags  []string
	older []string      // tags of the value that it was derived from, for one that has none of its own
	from  *frame.Header // of the record of that value, nil if there was none: it began when that did
	entry Held          // for the local tier, if the change takes effect; nil: none
	again bool          // of an Update: another write was faster before, or seemed to be

	// Under a write strategy:
	remove bool           // a Delete: the key is to be deleted from the source
	intent store.CASToken // the intent that replaced the old value; see writethrough.go
	lost   bool           // another write has replaced the intent
	srcErr error          // of the source

	done bool  // refused before anything was sent
	Err  error // the outcome
}

// recordCost returns the record's cost, from which readers compute when the value began. A
// value that was derived from an older one began when that did: an invalidation that is sent
// later concerns both, or neither.
func (c *Cache) recordCost(ch *Change) uint32 {
	if ch.from != nil {
		return costOfOlder(ch.from, ch.now)
	}
	return c.costOf(ch.rk, ch.cost)
}

// write runs every change; the outcome is in each err.
func (c *Cache) write(ctx context.Context, changes []*Change) {
	done := func(ch *Change) bool { return ch.done }
	if slices.ContainsFunc(changes, done) {
		changes = slices.DeleteFunc(slices.Clone(changes), done)
	}
	for _, ch := range changes {
		ch.at = local.Now()
		ch.fence = c.fences.Token(c.encoded(ch.rk))
		if ch.keep {
			ch.entry = c.changeEntry(ch, ch.at)
		}
	}
	if c.client == nil {
		c.finishLocal(ctx, changes)
		return
	}
	c.storeChange(ctx, changes)
}

// storeChange writes changes to the source, under a write strategy, then to Redis and the
// local tier.
func (c *Cache) storeChange(ctx context.Context, changes []*Change) {
	if c.toSource() {
		c.writeSource(ctx, changes)
		// Once the source has a value, Redis must get it even if the caller is gone.
		ctx = context.WithoutCancel(ctx)
	}
	c.commit(ctx, changes)
}

// notify adds to a command the message that other processes are to drop the key.
func (c *Cache) notify(ch *Change, cmd *store.Command) {
	cmd.Notify, ch.sent = c.invalidator.NotifyOf(message.Invalidated, c.encoded(ch.rk))
}

// execAndNotify runs the commands of changes and notifies other processes of them, with one
// message for many where that is possible. look, if it is not nil, goes with them.
func (c *Cache) execAndNotify(ctx context.Context, look *clockLook, changes []*Change, cmds []store.Command) []store.Reply {
	if len(cmds) == 1 || !c.client.OneNode() {
		for i, ch := range changes {
			c.notify(ch, &cmds[i])
		}
		return c.execReadingClock(ctx, look, cmds)
	}
	encoded := make([]string, len(changes))
	for i, ch := range changes {
		encoded[i] = c.encoded(ch.rk)
	}
	do := func(cmds []store.Command) []store.Reply { return c.execReadingClock(ctx, look, cmds) }
	replies, sent := c.invalidator.InCommon(encoded, cmds, do)
	for i, ch := range changes {
		ch.sent = sent[i]
	}
	return replies
}

// complete brings the local tier, the outbox and the retry queue in line with the outcome of
// a change. If err is nil, took says whether the change took effect.
func (c *Cache) complete(ctx context.Context, ch *Change, cmd *store.Command, took bool, err error) {
	open := ch.sent.Resolve(took, err)
	switch {
	case err != nil:
		ch.Err = c.writeFailed(ctx, err)
		c.scheduleRetry(ch, open)
		c.completeLocal(ch)
	case took:
		c.completeLocal(ch)
		c.stats.sent.Add(1)
		token := ""
		if ch.keep {
			token = store.TokenOf(cmd.Frame).Token
		}
		c.coherence.Noted(retryqueue.Item{Key: cmd.Key, At: ch.now, Token: token}, ch.at)
	}
}

// scheduleRetry queues a change that Redis did not acknowledge, to be sent to Redis and the
// other processes later: as an invalidation, since by then there may be a newer value. open are
// the numbers of messages that stay open until then.
func (c *Cache) scheduleRetry(ch *Change, open []uint64) {
	c.coherence.ScheduleRetry(retryqueue.Item{Key: ch.rk, At: ch.now, Numbers: open})
}

// completeLocal brings the local tier in line with the outcome of a change.
func (c *Cache) completeLocal(ch *Change) {
	defer c.failures.forget(ch.rk) // after the fence has moved; see remember
	enc := c.encoded(ch.rk)
	if c.local == nil {
		c.fences.Move(enc)
		return
	}
	if ch.Err != nil || ch.entry.Head == nil {
		c.local.Remove(enc)
		return
	}
	c.local.PutAndBump(ch.Key, enc, ch.entry, ch.fence)
}

// validate checks the preconditions of every write and encodes the key.
func (c *Cache) validate(ctx context.Context, ch *Change) {
	c.validateAll(ctx, []*Change{ch})
}

// validateAll is validate for the changes of one call. ctx is checked once: if it ends while
// they are prepared, it has ended before the call for none of them, and changes that can't be
// sent to Redis are retried later.
func (c *Cache) validateAll(ctx context.Context, changes []*Change) {
	ended, open := ctx.Err(), false
	for _, ch := range changes {
		if ended != nil {
			ch.refuse(ended)
		} else if c.Closed() {
			ch.refuse(errs.ErrClosed)
		} else if rk, err := c.RedisKey(ch.Key); err != nil {
			ch.refuse(err)
		} else {
			ch.rk, open = rk, true
		}
	}
	if open && c.coherence != nil {
		c.coherence.Ready(ctx)
	}
}

// pointers returns pointers to the changes.
func pointers(changes []Change) []*Change {
	out := make([]*Change, len(changes))
	for i := range changes {
		out[i] = &changes[i]
	}
	return out
}

// encodeChange decides how long a value is kept and encodes it.
func (c *Cache) encodeChange(ctx context.Context, ch *Change, o *Options) {
	if ch.done {
		return
	}
	var err error
	if ch.life, ch.keep, err = c.lifetime(ch.Key, ch.Val, o, loadDirectives{}); err == nil {
		if ch.tags, err = c.tagsOf(ch.Key, ch.Val, o, loadDirectives{}); len(ch.tags) == 0 {
			ch.tags = ch.older
		}
	}
	if err != nil {
		ch.refuse(err)
		return
	}
	if c.client == nil {
		if !ch.dated {
			ch.stamp, _ = c.stamp(ctx) // can't fail: the clock is in this process
		}
		return
	}
	c.timestamp(ctx, ch)
	if !ch.keep || ch.done {
		return
	}
	if ch.frame, err = c.encode(ch.rk, ch.Val, ch.life, ch.now, ch.stamp, ch.tags, "", c.recordCost(ch)); err != nil {
		ch.refuse(err)
	}
}

// timestamp determines the time by the clock of the key's node, and by the logical clock.
// Both are known already, except the first time; if they can't be had, the change can't be
// sent to Redis either.
func (c *Cache) timestamp(ctx context.Context, ch *Change) {
	if ch.done {
		return
	}
	var err error
	if ch.now, err = c.client.Now(ctx, ch.rk); err == nil && ch.keep && !ch.dated {
		ch.stamp, err = c.stampWrite(ctx)
	}
	switch {
	case err == nil:
	case c.toSource() && ctx.Err() == nil:
		// The source is written all the same; the key is then removed, or its
		// invalidation is queued for a retry.
		ch.keep = false
	default:
		ch.refuse(c.writeFailed(ctx, err))
		c.scheduleRetry(ch, nil)
		c.completeLocal(ch)
	}
}

func (ch *Change) refuse(err error) {
	ch.done, ch.Err = true, err
}

// writeFailed is the error of a write that Redis did not acknowledge.
func (c *Cache) writeFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.unavailable(err)
}

// Set stores a value.
func (c *Cache) Set(ctx context.Context, key Key, val Value, o *Options) error {
	one := &struct {
		change Change
		all    [1]*Change
	}{change: Change{Key: key, Val: val}}
	one.all[0] = &one.change
	c.setAll(ctx, one.all[:], o)
	return c.Explain("set", one.change.Err)
}

// SetMany stores the values of changes; the outcome is in each.
func (c *Cache) SetMany(ctx context.Context, changes []Change, o *Options) {
	c.setAll(ctx, pointers(changes), o)
}

func (c *Cache) setAll(ctx context.Context, all []*Change, o *Options) {
	start := local.Now()
	c.validateAll(ctx, all)
	for _, ch := range all {
		c.encodeChange(ctx, ch, o)
	}
	c.write(ctx, all)
	for _, ch := range all {
		c.stats.wrote(&c.stats.sets, ch.Err)
	}
	c.stats.setHist.Record(since(start))
}

// Delete removes the keys of changes; the outcome is in each.
func (c *Cache) Delete(ctx context.Context, changes []Change) {
	start := local.Now()
	all := pointers(changes)
	c.validateAll(ctx, all)
	for _, ch := range all {
		ch.remove = true
		if c.toSource() && c.src.Delete == nil && !ch.done {
			ch.refuse(errNoSourceDelete)
		}
		if c.client != nil {
			c.timestamp(ctx, ch)
		}
	}
	c.write(ctx, all)
	for _, ch := range all {
		c.stats.wrote(&c.stats.deletes, ch.Err)
	}
	c.stats.deleteHist.Record(since(start))
}

// SetIfAbsent stores a value if its key has none.
func (c *Cache) SetIfAbsent(ctx context.Context, key Key, val Value, o *Options) (bool, error) {
	start := local.Now()
	stored, err := c.setIfAbsent(ctx, key, val, o)
	if stored || err != nil {
		c.stats.wrote(&c.stats.sets, err)
	}
	c.stats.setHist.Record(since(start))
	return stored, c.Explain("set if absent", err)
}

// setIfAbsent stores the value if the key has none: a known absence, another
// program's bytes and a lease count as none.
func (c *Cache) setIfAbsent(ctx context.Context, key Key, val Value, o *Options) (bool, error) {
	ch := Change{Key: key, Val: val}
	c.validate(ctx, &ch)
	c.encodeChange(ctx, &ch, o)
	if ch.done {
		return false, ch.Err
	}
	if c.toSource() && c.within(ctx, ch.rk) {
		return false, errWaitsForItself
	}
	if c.client == nil {
		return c.setIfAbsentLocal(ctx, &ch)
	}
	claim := func(op store.Op) store.Command {
		if c.toSource() {
			return c.intentCommand(op, ch.rk, leaseLife)
		}
		return store.Command{Op: op, Key: ch.rk, Frame: ch.frame, TTL: ch.life.physical()}
	}
	cmd := claim(store.SetNX)
	if ch.keep {
		ch.entry = c.changeEntry(&ch, local.Now())
	} else if !c.toSource() {
		// The lifetime is over already: only report whether the value would have been stored.
		cmd.Op = store.Get
	}
	again := false
	for pause := time.Duration(0); ; {
		// As in a read: a record that this process has replaced or invalidated is not there.
		r, err := c.coherence.BeginRead(ctx, 1, func(int) string { return ch.rk })
		if err != nil {
			return false, c.writeFailed(ctx, err)
		}
		ch.at = local.Now()
		ch.fence = c.fences.Token(c.encoded(ch.rk))
		final := cmd.Op != store.Get && !c.toSource()
		if final {
			c.notify(&ch, &cmd)
		}
		cmds := []store.Command{cmd}
		var look *clockLook
		if final {
			look = c.look(ctx, []*Change{&ch}, cmds)
			cmd = cmds[0]
		}
		replies := c.execReadingClock(ctx, look, cmds)
		reply := replies[0]
		if final {
			c.restamp(ctx, look, []*Change{&ch}, cmds, replies)
			cmd = cmds[0]
		}
		switch {
		case final:
			c.complete(ctx, &ch, &cmd, reply.OK, reply.Err)
		case reply.Err != nil:
			ch.Err = c.writeFailed(ctx, reply.Err)
		case reply.OK:
			ch.intent = store.TokenOf(cmd.Frame)
			c.storeChange(ctx, []*Change{&ch})
		}
		switch {
		case ch.Err != nil:
			return reply.OK && ch.srcErr == nil && !final, ch.Err
		case reply.OK:
			return true, nil
		case cmd.Op == store.CompareAndSet: // another write was faster: read again
			cmd = claim(store.SetNX)
			continue
		}
		suspect := c.coherence.EndRead(&r)
		f := c.decode(ctx, ch.rk, reply.Record, &r)
		c.judge(ctx, []*decoded{&f})
		switch {
		case suspect && !again:
			again = true
			cmd = claim(cmd.Op)
			continue
		case c.coherence.Overtaken(ctx, &r, ch.rk, reply.Record):
			cmd = claim(cmd.Op)
			continue
		case f.status == usable && f.ans.absent == nil || f.status == newer:
			return false, nil
		case f.status == unavailable:
			return false, c.writeFailed(ctx, f.err)
		case f.pending:
			return false, c.writeFailed(ctx, coherence.ErrPending)
		case f.intended():
			// Another write to the source is in flight: wait for its outcome.
			pause = nextPause(pause, c.rand())
			if err := wait(ctx, pause); err != nil {
				return false, ctx.Err()
			}
			cmd = claim(cmd.Op)
			continue
		}
		if !ch.keep && !c.toSource() {
			return true, nil
		}
		cmd = claim(store.CompareAndSet)
		cmd.Seen = reply.Record.CASToken()
	}
}
