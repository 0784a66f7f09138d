package engine

import (
	"context"
	"time"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

// apply writes changes to the source, under a write strategy, then to Redis and the
// local tier.
func (c *remote) apply(ctx context.Context, changes []*Change) {
	if c.toSource() {
		c.writeIntended(ctx, changes)
		// Once the source has a value, Redis must get it even if the caller is gone.
		ctx = context.WithoutCancel(ctx)
	}
	c.commit(ctx, changes)
}

// writeIntended writes changes to the source, behind intents that are kept alive meanwhile. User
// code may end the goroutine.
func (c *remote) writeIntended(ctx context.Context, changes []*Change) {
	defer c.intend(ctx, changes)()
	c.writeSource(ctx, changes)
}

// notify adds to a command the message that other processes are to drop the key.
func (c *remote) notify(ch *Change, cmd *store.Command) {
	cmd.Notify, ch.sent = c.invalidator.NotifyOf(message.Invalidated, c.encoded(ch.rk))
}

// execAndNotify runs the commands of changes and notifies other processes of them, with one
// message for many where that is possible. look, if it is not nil, goes with them. room is as in
// execReadingClock.
func (c *remote) execAndNotify(ctx context.Context, look *clockRead, changes []*Change, cmds, room []store.Command) []store.Reply {
	if len(cmds) == 1 || !c.client.OneNode() {
		for i, ch := range changes {
			c.notify(ch, &cmds[i])
		}
		return c.execReadingClock(ctx, look, cmds, room)
	}
	do := func(all []store.Command) []store.Reply {
		if &all[0] != &cmds[0] {
			room = nil
		}
		return c.execReadingClock(ctx, look, all, room)
	}
	replies, sent := c.invalidator.InCommon(c.encodedOf(changes), cmds, do)
	for i, ch := range changes {
		ch.sent = sent[i]
	}
	return replies
}

// complete brings the local tier, the outbox and the retry queue in line with the outcome of
// a change. If err is nil, took says whether the change took effect.
func (c *remote) complete(ctx context.Context, ch *Change, cmd *store.Command, took bool, err error) {
	item := retryqueue.Item{Key: ch.rk, At: ch.now, Numbers: ch.sent.Resolve(took, err)}
	switch {
	case err != nil:
		ch.Err = c.writeFailed(ctx, err)
		c.coherence.EndWrite(item, ch.at, err)
		c.completeLocal(ch)
	case took:
		c.completeLocal(ch)
		c.stats.sent.Add(1)
		if ch.keep {
			item.Token = store.TokenOf(cmd.Frame).Token
		}
		c.coherence.EndWrite(item, ch.at, nil)
	}
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
		c.drop(ch)
		return
	}
	c.local.PutAndBump(ch.Key, enc, ch.entry, ch.fence)
}

// together gives the records of many changes their IDs, and where there is one node, its time.
func (c *remote) together(_ context.Context, all []*Change) {
	if len(all) <= 1 {
		return
	}
	ids := frame.NewIDs(len(all))
	var now int64
	if c.client.OneNode() {
		if estimate, ok := c.client.Estimate(all[0].rk); ok {
			now = estimate
		}
	}
	for i, ch := range all {
		ch.id, ch.now = ids.At(i), now
	}
}

// takeID returns the ID that was made for the change's record, which no second record may have,
// or else a new one.
func (ch *Change) takeID() frame.ID {
	id := ch.id
	if ch.id = (frame.ID{}); id == ch.id {
		return frame.NewID()
	}
	return id
}

// encode dates a change, and encodes the value that it keeps.
func (c *remote) encode(ctx context.Context, ch *Change) {
	c.timestamp(ctx, ch)
	if !ch.keep || ch.done {
		return
	}
	var err error
	if ch.frame, err = c.encodeInto(ch.records(), ch.takeID(), ch.rk, ch.Val, ch.life, ch.now, ch.version, ch.tags, "", c.recordCost(ch)); err != nil {
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
	began := local.Now()
	if ch.now == 0 {
		ch.now, err = c.client.Now(ctx, ch.rk)
	}
	if err == nil && ch.keep && !ch.dated {
		ch.version, err = c.writeVersion(ctx, ch.rk)
	}
	switch {
	case err == nil:
	case c.toSource() && ctx.Err() == nil:
		// The source is written all the same; the key is then removed, or its
		// invalidation is queued for a retry.
		ch.keep = false
	default:
		ch.refuse(c.writeFailed(ctx, err))
		c.coherence.EndWrite(retryqueue.Item{Key: ch.rk, At: ch.now, Since: began}, began, err)
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
	cmd := store.Command{Op: store.SetNX, Key: ch.rk, TTL: ch.life.physical()}
	if ch.keep {
		ch.entry = c.changeEntry(ch, local.Now())
	} else if !c.toSource() {
		// The lifetime is over already: only report whether the value would have been stored.
		cmd.Op = store.Get
	}
	again := false
	for pause := time.Duration(0); ; {
		// As in a read: a record that this process has replaced or invalidated is not there.
		r, err := c.coherence.BeginRead(ctx, local.Now(), 1, func(int) string { return ch.rk })
		if err != nil {
			return false, c.writeFailed(ctx, err)
		}
		cmd.Frame = ch.frame
		c.beginSwap(ch)
		reply, ok, err := c.swap(ctx, ch, cmd)
		switch {
		case err != nil: // the source may have the value all the same
			return c.toSource() && reply.OK && ch.srcErr == nil, err
		case ok:
			return true, nil
		case cmd.Op == store.CompareAndSet: // another write was faster: read again
			cmd.Op, cmd.Seen = store.SetNX, store.CASToken{}
			continue
		}
		suspect := c.coherence.EndRead(&r)
		f := c.decode(ctx, ch.rk, reply.Record, &r)
		c.validate(ctx, []*decoded{&f}, local.Now())
		switch {
		case suspect && !again:
			again = true
			continue
		case c.coherence.Overtaken(ctx, &r, ch.rk, reply.Record):
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
			continue
		case cmd.Op == store.Get:
			return true, nil
		}
		cmd.Op, cmd.Seen = store.CompareAndSet, c.tokenOf(ch.rk, reply.Record)
	}
}

// beginSwap takes the fence of a key. It comes before anything is decided about the value's local
// entry:
//
//  1. an Update finds that the value is valid, and copies it
//  2. everything is invalidated: the fences move, the local tier is flushed
//  3. the compare-and-set succeeds, since the record is still there; its entry must not enter
func (c *remote) beginSwap(ch *Change) {
	ch.at = local.Now()
	ch.fence = c.fences.Token(c.encoded(ch.rk))
}

// swap runs a command that puts a change in the place of the record that it expects. Under a
// write strategy an intent takes that place first, and the source is written. ok is false if
// another record is there; a SET NX returns it.
func (c *remote) swap(ctx context.Context, ch *Change, cmd store.Command) (reply store.Reply, ok bool, err error) {
	changes := []*Change{ch}
	switch {
	case c.toSource():
		intent := c.intentCommand(cmd.Op, ch.rk, leaseLife)
		intent.Seen = cmd.Seen
		reply = c.coherence.Send(ctx, []store.Command{intent})[0]
		if reply.Err != nil {
			return reply, false, c.writeFailed(ctx, reply.Err)
		}
		if !reply.OK {
			return reply, false, nil
		}
		ch.intent, ch.lost, ch.srcErr = store.TokenOf(intent.Frame), false, nil
		c.apply(ctx, changes)
		return reply, ch.Err == nil, ch.Err
	case cmd.Op == store.Get:
		reply = c.coherence.Send(ctx, []store.Command{cmd})[0]
		if reply.Err != nil {
			err = c.writeFailed(ctx, reply.Err)
		}
		return reply, false, err
	}
	c.notify(ch, &cmd)
	room := []store.Command{{}, cmd}
	cmds := room[1:]
	look := c.readClock(ctx, changes, cmds)
	replies := c.execReadingClock(ctx, look, cmds, room)
	c.updateVersions(ctx, look, changes, cmds, replies)
	reply = replies[0]
	c.complete(ctx, ch, &cmds[0], reply.OK, reply.Err)
	return reply, reply.OK && ch.Err == nil, ch.Err
}
