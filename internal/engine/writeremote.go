package engine

import (
	"context"
	"time"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

// apply writes changes to the source, under a write strategy, then to Redis and the
// local tier.
func (c *remote) apply(ctx context.Context, changes []*Change) {
	if c.toSource() {
		stop := c.intend(ctx, changes)
		c.writeSource(ctx, changes)
		stop()
		// Once the source has a value, Redis must get it even if the caller is gone.
		ctx = context.WithoutCancel(ctx)
	}
	c.commit(ctx, changes)
}

// notify adds to a command the message that other processes are to drop the key.
func (c *remote) notify(ch *Change, cmd *store.Command) {
	cmd.Notify, ch.sent = c.invalidator.NotifyOf(message.Invalidated, c.encoded(ch.rk))
}

// execAndNotify runs the commands of changes and notifies other processes of them, with one
// message for many where that is possible. look, if it is not nil, goes with them.
func (c *remote) execAndNotify(ctx context.Context, look *clockLook, changes []*Change, cmds []store.Command) []store.Reply {
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
func (c *remote) complete(ctx context.Context, ch *Change, cmd *store.Command, took bool, err error) {
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
func (c *remote) scheduleRetry(ch *Change, open []uint64) {
	c.coherence.ScheduleRetry(retryqueue.Item{Key: ch.rk, At: ch.now, Numbers: open})
}

// completeLocal brings the local tier in line with the outcome of a change.
func (c *remote) completeLocal(ch *Change) {
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

// encode dates a change, and encodes the value that it keeps.
func (c *remote) encode(ctx context.Context, ch *Change) {
	c.timestamp(ctx, ch)
	if !ch.keep || ch.done {
		return
	}
	var err error
	if ch.frame, err = c.encodeValue(ch.rk, ch.Val, ch.life, ch.now, ch.stamp, ch.tags, "", c.recordCost(ch)); err != nil {
		ch.refuse(err)
	}
}

// timestamp determines the time by the clock of the key's node, and by the logical clock.
// Both are known already, except the first time; if they can't be had, the change can't be
// sent to Redis either.
func (c *remote) timestamp(ctx context.Context, ch *Change) {
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

// recordCost returns the record's cost, from which readers compute when the value began. A
// value that was derived from an older one began when that did: an invalidation that is sent
// later concerns both, or neither.
func (c *remote) recordCost(ch *Change) uint32 {
	if ch.from != nil {
		return costOfOlder(ch.from, ch.now)
	}
	return c.costOf(ch.rk, ch.cost)
}

// setIfAbsent stores a value by SET NX, which also returns what the key holds.
func (c *remote) setIfAbsent(ctx context.Context, ch *Change) (bool, error) {
	claim := func(op store.Op) store.Command {
		if c.toSource() {
			return c.intentCommand(op, ch.rk, leaseLife)
		}
		return store.Command{Op: op, Key: ch.rk, Frame: ch.frame, TTL: ch.life.physical()}
	}
	cmd := claim(store.SetNX)
	if ch.keep {
		ch.entry = c.changeEntry(ch, local.Now())
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
			c.notify(ch, &cmd)
		}
		cmds := []store.Command{cmd}
		var look *clockLook
		if final {
			look = c.look(ctx, []*Change{ch}, cmds)
			cmd = cmds[0]
		}
		replies := c.execReadingClock(ctx, look, cmds)
		reply := replies[0]
		if final {
			c.restamp(ctx, look, []*Change{ch}, cmds, replies)
			cmd = cmds[0]
		}
		switch {
		case final:
			c.complete(ctx, ch, &cmd, reply.OK, reply.Err)
		case reply.Err != nil:
			ch.Err = c.writeFailed(ctx, reply.Err)
		case reply.OK:
			ch.intent = store.TokenOf(cmd.Frame)
			c.apply(ctx, []*Change{ch})
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
