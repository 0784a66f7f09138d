package engine

import (
	"cmp"
	"context"
	"math"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

// A value that is stored with KeepTTL ends when the one ends that it replaces. That life is read
// a moment before the write, and written with it as if the call had given it: a write that comes
// between the two is replaced all the same, and its life with it. Of a value that is invalidated
// with a delay no life is kept: what ends soon is that value, and not the one that replaces it.

// keepLives finds the lives that changes are to keep: with SkipRemote those of the local tier alone.
func (c *Cache) keepLives(ctx context.Context, changes []*Change, o *Options) {
	var open []*Change
	now := local.Now()
	for _, ch := range changes {
		if ch.done {
			continue
		}
		if left, ok := c.localLife(ch.Key, ch.rk, now); ok {
			ch.left = left
			continue
		}
		open = append(open, ch)
	}
	if len(open) > 0 && !o.SkipRemote {
		c.backend.lives(ctx, open)
	}
}

// localLife returns the remaining life of a value, if the local tier may answer and has it.
func (c *Cache) localLife(key Key, rk string, now int64) (left time.Duration, ok bool) {
	if c.local == nil {
		return 0, false
	}
	var e Held
	if !c.inRedis && c.outage.unheard(rk, now) {
		var is status
		e, is = c.lookInOutage(key, rk, now)
		ok = is == usable
	} else if c.backend.mayUseLocal(rk, now) {
		e, ok = c.local.Peek(key)
		ok = ok && now < e.Deadline && c.lives(e.Meta, now)
	}
	if !ok || now >= e.Expires || e.Meta != nil && (e.Meta.Absent || e.Meta.Ends) {
		return 0, false
	}
	if e.Expires == math.MaxInt64 {
		return forever, true
	}
	return time.Duration(e.Expires - now), true
}

// inherit gives a change the life that it keeps, if there is one. What is kept for less than a
// millisecond would be kept for ever by Redis.
func (ch *Change) inherit() {
	switch {
	case ch.left == 0:
		return
	case ch.left == forever:
		ch.life.fresh = 0
	default:
		ch.life.fresh = max(ch.left.Truncate(time.Millisecond), time.Millisecond)
	}
	ch.keep = true
}

// lives finds the lives of what Redis holds.
func (c *remote) lives(ctx context.Context, changes []*Change) {
	cmds := make([]store.Command, len(changes))
	for i, ch := range changes {
		cmds[i] = store.Command{Op: store.Get, Key: ch.rk}
	}
	asked := local.Now()
	replies, r, _, err := c.ask(ctx, cmds, asked)
	founds, pointers := make([]decoded, len(changes)), make([]*decoded, len(changes))
	for i, ch := range changes {
		f := &founds[i]
		pointers[i] = f
		if err := cmp.Or(replies[i].Err, err); err != nil {
			f.status, f.err = unavailable, err
			continue
		}
		c.decodeTo(f, ctx, ch.rk, replies[i].Record, &r)
	}
	c.validate(ctx, pointers, r.Ended)
	for i, ch := range changes {
		switch f := &founds[i]; {
		case f.status == unavailable:
			c.lifeless(ctx, ch, asked, f.err)
		case f.status != usable || f.ans.absent != nil || f.raw.Limit != math.MaxInt64:
		case !f.timed:
			c.lifeless(ctx, ch, asked, errNoTime)
		default:
			ch.left = f.leftAfter(since(asked))
			if ch.left != forever {
				ch.left = max(ch.left, time.Millisecond)
			}
		}
	}
}

// lifeless refuses a change because the life that it is to keep is not known. As after any write
// that Redis has not acknowledged, the old value is to be of no use, unless the source is written
// first: then that has not happened. The call began at the local time began, or before.
func (c *remote) lifeless(ctx context.Context, ch *Change, began int64, err error) {
	if ch.refuse(c.writeFailed(ctx, err)); c.toSource() {
		return
	}
	c.coherence.EndWrite(retryqueue.Item{Key: ch.rk, Since: began}, began, err)
	c.completeLocal(ch)
}

// lives finds nothing: the local tier was asked.
func (c *localOnly) lives(context.Context, []*Change) {}

// keepLoadedLife gives a loaded value the life that is left of the one that it replaces, if the
// call asks for that.
func (c *Cache) keepLoadedLife(ctx context.Context, o *Options, l *inflightLoad) {
	r := &l.filled
	if !o.KeepTTL || !r.keep || l.res.asked().hasTTL {
		return
	}
	if left, ok := c.backend.loadedLife(ctx, o, l); ok {
		if r.life.fresh = max(left.Truncate(time.Millisecond), time.Millisecond); left == forever {
			r.life.fresh = 0
		}
	}
}

// loadedLife returns what is left of the life of the value that a load replaces. ok is false if
// that is over, or not known.
func (c *remote) loadedLife(ctx context.Context, o *Options, l *inflightLoad) (left time.Duration, ok bool) {
	switch {
	case o.SkipRemote:
		return c.localLife(l.key, l.rk, local.Now())
	case l.old == nil || l.old.raw.Limit != math.MaxInt64:
		return 0, false
	}
	f := decoded{raw: l.old.raw}
	c.date(ctx, l.rk, &f)
	return f.left, f.timed && f.left > 0 && l.old.left > 0
}

func (c *localOnly) loadedLife(_ context.Context, _ *Options, l *inflightLoad) (left time.Duration, ok bool) {
	return c.localLife(l.key, l.rk, local.Now())
}
