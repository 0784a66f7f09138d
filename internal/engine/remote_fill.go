package engine

import (
	"context"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
)

// store stores what was loaded in Redis, in the place of the leases, and in the local tier.
func (c *remote) store(ctx context.Context, o *Options, ls []*inflightLoad, at int64) {
	var cmds []store.Command
	var owners []*command
	add := func(l *inflightLoad, cmd *command, kind message.Kind) {
		if cmd.Key == "" {
			return
		}
		if kind == message.Loaded {
			cmd.Notify = c.invalidator.LoadedOf(cmd.Key, c.encoded(l.rk))
		} else {
			cmd.Notify, cmd.sent = c.invalidator.NotifyOf(kind, c.encoded(l.rk))
		}
		cmds, owners = append(cmds, cmd.Command), append(owners, cmd)
	}
	for _, l := range ls {
		r := &l.filled
		if !r.keep {
			c.release(l)
		}
		c.unlock(ctx, l)
		add(l, &l.stores, kindOf(o, l))
		add(l, &l.unlocks, message.Loaded)
		l.settled = true
	}
	if len(cmds) > 0 {
		for i, reply := range c.coherence.Send(ctx, cmds) {
			owners[i].reply = reply
		}
		c.fillTouched(ctx, ls)
	}
	now := local.Now()
	for _, l := range ls {
		c.filled(l, now)
	}
	if c.local == nil {
		return
	}
	put := func(i int) { c.fillTier(ls[i], at) }
	usercode.EachIf(c.clone != nil, len(ls), put, func(_ int, err error) { c.notKept(err) })
}

// encodeLoaded encodes the record of a loaded value, or of an absence, and makes the command that
// puts it in the place of the lease.
func (c *remote) encodeLoaded(ctx context.Context, l *inflightLoad) (err error) {
	r := &l.filled
	if l.state != fillBoth {
		return nil
	}
	if l.now, err = c.client.Now(ctx, l.rk); err != nil {
		if c.keepsApart(l.rk, err) {
			l.state, l.outage, l.why = fillLocal, true, err // its lease is left to expire
			return nil
		}
		return c.unavailable(err)
	}
	age, cost := l.age(), l.res.cost()-l.age()
	var frm []byte
	if absent := r.ans.absent; absent != nil {
		frm, err = c.encodeAbsence(l.rk, absent.reasons, r.life, l.now-age.Microseconds(), l.version, cost)
	} else {
		frm, err = c.encodeValue(frame.NewID(), l.rk, l.res.val, r.life, l.now-age.Microseconds(), l.version, r.ans.info.Tags, r.etag, c.costOf(l.rk, cost))
	}
	if err != nil {
		return err
	}
	life := r.life.physical()
	if r.life.fresh > 0 {
		life = min(life, (r.life.fresh + r.life.stale - age).Truncate(time.Millisecond))
	}
	l.stores.Command = store.Command{Op: store.CompareAndSet, Key: l.rk, Frame: frm, TTL: life, Seen: l.seen}
	return nil
}

// release deletes a lease if no value is stored in its place. A record that stayed in place
// is kept: others rely on it, for example by a stale window of their own. It is deleted if
// the source says that it is over.
func (c *remote) release(l *inflightLoad) {
	r := &l.filled
	if l.state == fillBoth && (l.lease || r.over) {
		l.stores.Command = store.Command{Op: store.CompareAndDelete, Key: l.rk, Seen: l.seen}
	}
}

// unlock decides what happens to the lock of a load, and to its lease if the load has failed:
// if others may wait for it, a failure record replaces it.
func (c *remote) unlock(ctx context.Context, l *inflightLoad) {
	r := &l.filled
	key, release, replaces := l.rk, &l.stores, ""
	switch {
	case l.lock:
		key, release, replaces = c.lockKey(l.rk), &l.unlocks, string(l.stays[:])
		r.failure.about = l.stays
		release.Command = store.Command{Op: store.CompareAndDelete, Key: key, Seen: l.token}
	case !l.lease:
		return
	}
	if !r.shared {
		return
	}
	now, err := c.client.Now(ctx, key)
	if err != nil {
		return
	}
	if frm, err := c.encodeFailure(key, l.id, r.failure, r.hold, replaces, now); err == nil {
		release.Command = store.Command{Op: store.CompareAndSet, Key: key, Frame: frm, TTL: max(r.hold, failureLife), Seen: l.token}
		if l.notify = release; l.lease {
			h, _ := frame.ReadHead(frm)
			r.failure.about = h.ID
		}
	}
}

// kindOf is the kind of message that a fill publishes. A fill over a lease matters only to
// loads that wait. A fill over a value replaces that value, and so does one that was requested
// although there was a value: Redis may have evicted a record that other processes still hold.
func kindOf(o *Options, l *inflightLoad) message.Kind {
	r := &l.filled
	if l.lease && (r.err != nil || !o.refresh && !o.HasMaxAge) {
		return message.Loaded
	}
	return message.Invalidated
}

// filled handles the outcome of a key's commands, as of the local time now.
func (c *remote) filled(l *inflightLoad, now int64) {
	r := &l.filled
	c.failed(l)
	c.resolveMessage(&l.unlocks, true, 0)
	if l.stores.Key == "" {
		return
	}
	c.resolveMessage(&l.stores, l.lease, l.now)
	if l.stores.reply.OK && l.stores.reply.Err == nil {
		switch {
		case l.late:
			c.failures.forget(l.rk)
		case r.keep:
			c.leaseTimes.note(time.Duration(now - l.res.began))
		}
		return
	}
	r.keep = false
	switch {
	case l.stores.Op != store.CompareAndSet || r.err != nil:
	case l.stores.reply.Err != nil:
		r.ans.unkept = l.stores.reply.Err
		if r.keep = c.keepsApart(l.rk, l.stores.reply.Err); r.keep {
			l.outage = true
		} else {
			c.stats.notKept.Add(1)
		}
	default:
		c.stats.outdated.Add(1)
	}
}

// failed remembers that a load has failed, unless its key has been written or invalidated
// meanwhile: then another record has replaced the lease in Redis, or the fence has moved.
func (c *remote) failed(l *inflightLoad) {
	r := &l.filled
	if r.failedUntil == 0 {
		return
	}
	if t := l.notify; t != nil {
		switch {
		case t.reply.Err != nil:
			r.failure.about = frame.ID{} // the failure may or may not be stored in Redis
		case !t.reply.OK && l.lease:
			return
		}
	}
	moved := c.moved(l.rk, l.fence)
	if l.state == fillNone {
		moved = c.moved(l.rk, l.call.Fence.fence)
	}
	c.remember(l.rk, r.failure, r.failedUntil, moved)
}

// resolveMessage resolves the message of a command. If it is not known whether the command took
// effect, that matters only if it replaced a value, which other processes may hold: replacing a
// lease or a lock invalidates nothing.
func (c *remote) resolveMessage(cmd *command, harmless bool, now int64) {
	err := cmd.reply.Err
	took := err == nil && cmd.reply.OK
	if harmless {
		err = nil
	}
	if open := cmd.sent.Resolve(took, err); len(open) > 0 {
		c.coherence.EndWrite(retryqueue.Item{Key: cmd.Key, At: now, Numbers: open}, now, err)
	}
}

// fillTier brings the local tier in line with a fill.
func (c *remote) fillTier(l *inflightLoad, at int64) {
	r := &l.filled
	enc := c.encoded(l.rk)
	switch {
	case r.keep:
		g := l.aging(at)
		g.size = len(l.stores.Frame)
		e := c.localEntry(l.key, new(local.Head), &r.ans, at, g, l.version)
		how := local.Reached
		if l.outage {
			how = local.Apart
		}
		c.putInOutage(e, how, l.res.began, l.version)
		if c.local.Put(l.key, enc, e, l.fence) && l.outage {
			c.stats.outageFills.Add(1)
			c.usesOutage()
		}
	case r.over && (l.stores.reply.OK || l.apart) && c.fences.Valid(enc, l.fence):
		c.local.Delete(enc)
	}
}

// giveBack releases the leases and locks of loads that did not finish.
func (c *remote) giveBack(ls []*inflightLoad) {
	var cmds []store.Command
	for _, l := range ls {
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
		c.coherence.Send(context.Background(), cmds)
	}
}

// keepLate lets a value that a load returns later replace the failure record that replaced its
// lease, by rest. stop ends that.
func (c *remote) keepLate(l, rest *inflightLoad) (stop func()) {
	if !l.lease || l.state != fillBoth {
		return nil
	}
	t := l.notify
	if t == nil || !t.reply.OK || t.reply.Err != nil {
		if rest.state = fillNone; t != nil && t.reply.Err != nil && c.keepsApart(l.rk, t.reply.Err) {
			rest.state, rest.outage = fillLocal, true
		}
		return nil
	}
	rest.seen = store.TokenOf(t.Frame)
	// For another HardTimeout: a load that takes longer is too late.
	ctx, cancel := context.WithTimeout(c.refresher.ctx, c.policy.HardTimeout)
	stays := &inflightLoad{loadKey: l.loadKey, redisLoad: &redisLoad{lock: true, life: leaseLife, seen: rest.seen, ends: later(local.Now(), t.TTL)}}
	stopped := c.extend(ctx, leaseLife, nil, stays)
	context.AfterFunc(ctx, cancel)
	return func() { stopped(); cancel() }
}
