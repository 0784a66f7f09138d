package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
)

// Touch prolongs the lives of the keys of changes; the outcome is in each.
//
// The value stays the same one: it is as old as before, and begins when it began, so that an
// invalidation concerns it as before. Only the record says another end, and replaces the one
// that was read by compare-and-set. Other processes are not notified: what they hold ends sooner
// than it must.
func (c *Cache) Touch(ctx context.Context, changes []Change) {
	start := local.Now()
	all := pointers(changes)
	c.validateAll(ctx, all)
	open := slices.DeleteFunc(all, func(ch *Change) bool { return ch.done })
	if len(open) > 0 {
		c.backend.renew(ctx, open)
	}
	for i := range changes {
		if err := changes[i].Err; err == nil {
			c.stats.touched.Add(1)
		} else if err != errs.ErrMiss {
			c.stats.writeErrors.Add(1)
		}
	}
	c.stats.setHist.Record(since(start))
}

var errNoTime = errors.New("the time of Redis is not known")

// renewed returns the fresh life that a value has left if it is renewed: as if it was stored now,
// but never less than it has. prolongs is false if that is what it has.
func (c *Cache) renewed(key Key, val Value, left time.Duration) (renewed time.Duration, prolongs bool, err error) {
	if left == forever {
		return left, false, nil
	}
	l, keep, err := c.lifetime(key, val, &NoOptions, &noDirectives)
	if err != nil || !keep {
		return left, false, err
	}
	if now := l.timeLeft(); now > left {
		return now, true, nil
	}
	return left, false, nil
}

func (c *remote) renew(ctx context.Context, changes []*Change) {
	for pause := time.Duration(0); len(changes) > 0; pause = nextPause(pause, c.rand()) {
		if pause > 0 {
			if err := wait(ctx, pause); err != nil {
				for _, ch := range changes {
					ch.Err = ctx.Err()
				}
				return
			}
		}
		changes = c.renewOnce(ctx, changes)
	}
}

// touched is a value whose life is being prolonged.
type touched struct {
	*Change
	found *decoded
	fence fence.Token
	left  time.Duration // its fresh life then
}

// A record whose life was prolonged has another id, so that a caller that has read the one
// before, and is about to replace it, reads again, and keeps the longer life. But a load that replaces it is
// not to give way: it was begun because the value is too old, and its end does not make that
// younger.
//
//  1. Refresh begins a load: the value is to be replaced
//  2. Touch prolongs the value
//  3. the load's compare-and-set fails, and the old value is served for another life
//
// So the first half of the id stays (the second may be a mark, see frame.SetMark), by which a
// load recognizes the record that it has begun for.
func touchedID(id frame.ID) frame.ID {
	other := frame.NewID()
	copy(id[len(id)/2:], other[len(id)/2:])
	return id
}

// isTouched reports whether a record is the one with that id, but for another end.
func isTouched(rec store.Record, id frame.ID) bool {
	if rec.State != store.Found {
		return false
	}
	h, err := frame.ReadHead(rec.Raw)
	half := len(id) / 2
	return err == nil && h.Kind == frame.Value && h.Limit == math.MaxInt64 && [8]byte(h.ID[:half]) == [8]byte(id[:half]) && h.ID != id
}

// fillTouched repeats the commands of loads whose record was touched meanwhile.
func (c *remote) fillTouched(ctx context.Context, ls []*inflightLoad) {
	const most = 8 // in a row
	for range most {
		var open []*inflightLoad
		var gets []store.Command
		for _, l := range ls {
			cmd := &l.stores
			if cmd.Key != "" && !l.lease && l.stays != (frame.ID{}) && cmd.reply.Err == nil && !cmd.reply.OK {
				open, gets = append(open, l), append(gets, store.Command{Op: store.GetHeader, Key: l.rk})
			}
		}
		if len(open) == 0 {
			return
		}
		var cmds []store.Command
		var of []*inflightLoad
		for i, reply := range c.client.Do(ctx, gets) {
			if l := open[i]; reply.Err == nil && isTouched(reply.Record, l.stays) {
				l.stores.Seen = reply.Record.CASToken()
				cmds, of = append(cmds, l.stores.Command), append(of, l)
			}
		}
		if len(cmds) == 0 {
			return
		}
		for i, reply := range c.coherence.Send(ctx, cmds) {
			of[i].stores.reply = reply
		}
		ls = of
	}
}

// renewOnce returns the changes whose records were replaced meanwhile.
func (c *remote) renewOnce(ctx context.Context, changes []*Change) (again []*Change) {
	gets := make([]store.Command, len(changes))
	fences := make([]fence.Token, len(changes))
	for i, ch := range changes {
		gets[i], fences[i] = store.Command{Op: store.Get, Key: ch.rk}, c.fences.Token(c.encoded(ch.rk))
	}
	at := local.Now()
	replies, r, _, err := c.ask(ctx, gets, at)
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
	var cmds []store.Command
	var sent []touched
	for i, ch := range changes {
		t := touched{Change: ch, found: &founds[i], fence: fences[i]}
		cmd, err := c.renewal(ctx, &t, replies[i].Record)
		if ch.Err = err; err == nil && cmd.Key != "" {
			cmds, sent = append(cmds, cmd), append(sent, t)
		}
	}
	if len(cmds) == 0 {
		return nil
	}
	for i, reply := range c.coherence.Send(ctx, cmds) {
		switch t := sent[i]; {
		case reply.Err != nil:
			t.Err = c.writeFailed(ctx, reply.Err)
		case !reply.OK:
			again = append(again, t.Change)
		default:
			t.found.left = t.left
			c.fillLocal(t.Key, t.rk, t.fence, t.found, at)
		}
	}
	return again
}

// renewal returns the command that prolongs the life of a record that was found; none if
// its Key is "": then the life is as long already, or its value is about to be replaced.
func (c *remote) renewal(ctx context.Context, t *touched, rec store.Record) (cmd store.Command, err error) {
	f := t.found
	switch {
	case f.status == unavailable:
		return cmd, c.writeFailed(ctx, f.err)
	case f.intended():
		return cmd, nil
	case f.status == newer:
		return cmd, fmt.Errorf("cache: Touch: the value in Redis is of a newer version than WithVersion(%d)", c.valueVersion)
	case f.pending:
		return cmd, c.writeFailed(ctx, coherence.ErrPending)
	case f.status != usable || f.ans.absent != nil:
		return cmd, errs.ErrMiss
	case f.legacy:
		return cmd, Unsupported("Touch of a value that another program has stored: Update or Set it")
	case f.raw.Limit != math.MaxInt64:
		return cmd, nil // it is invalidated, with a delay: that is not put off
	}
	now, err := c.client.Now(ctx, t.rk)
	if err != nil || !f.timed {
		return cmd, c.writeFailed(ctx, cmp.Or(err, errNoTime))
	}
	left, prolongs, err := c.renewed(t.Key, f.ans.val, f.left)
	if err != nil || !prolongs && c.policy.Sliding == 0 {
		return cmd, err
	}
	t.left = left
	h := f.raw.Header
	h.ID = touchedID(h.ID)
	if h.Fresh = 0; left != forever {
		h.Fresh = uint64(max(now-h.Stored, 0) + left.Microseconds())
	}
	frm, err := c.reframe(t.rk, rec.Raw, f.ans.val, &h)
	if err != nil {
		return cmd, err
	}
	l := life{stale: microseconds(h.Stale), idle: c.policy.Sliding}
	if left != forever {
		l.fresh = max(left.Truncate(time.Millisecond), time.Millisecond)
	}
	return store.Command{Op: store.CompareAndSet, Key: t.rk, Frame: frm, TTL: l.physical(), Seen: rec.CASToken()}, nil
}

// reframe returns the record raw with another header. A payload that is sealed together with the
// header is encoded anew.
func (c *remote) reframe(rk string, raw []byte, val Value, h *frame.Header) ([]byte, error) {
	if c.sealer != nil {
		return c.seal(rk, val, h)
	}
	old, err := frame.Parse(rk, raw)
	if err != nil {
		return nil, err
	}
	return frame.Finish(append(frame.AppendHeader(make([]byte, 0, len(raw)), h), old.Payload...), 0, rk)
}

func (c *localOnly) renew(_ context.Context, changes []*Change) {
	for _, ch := range changes {
		ch.Err = c.renewEntry(ch)
	}
}

func (c *localOnly) renewEntry(ch *Change) error {
	for {
		at := local.Now()
		e, is := c.lookLocal(ch.Key, ch.rk, at)
		if is != usable || e.Meta != nil && e.Meta.Absent {
			return errs.ErrMiss
		}
		if e.Meta != nil && e.Meta.Ends {
			return nil // it is invalidated, with a delay: that is not put off
		}
		left := forever
		if e.Expires != math.MaxInt64 {
			left = time.Duration(e.Expires - at)
		}
		left, prolongs, err := c.renewed(ch.Key, e.Value, left)
		if err != nil || !prolongs && c.policy.Sliding == 0 {
			return err
		}
		longer := Held{Head: &local.Head{Stored: e.Stored, Meta: e.Meta, Expires: math.MaxInt64}, Value: e.Value}
		if left != forever {
			longer.Expires = later(at, left)
		}
		longer.Deadline = longer.Expires
		if c.slidesLocally {
			longer.Deadline = min(longer.Deadline, later(at, c.policy.Sliding))
		}
		if limit := c.localTTL; limit > 0 {
			longer.Deadline = min(longer.Deadline, later(at, c.policy.Spread(limit, c.rand())))
		}
		if e.Meta != nil {
			m := *e.Meta
			m.Outage = local.None // notifications are received, and it has not been dropped: it is as any other
			if m.Stale = longer.Expires; c.policy.StaleFor() > 0 && longer.Expires != math.MaxInt64 {
				m.Stale = c.staleUntil(longer.Expires, at)
			}
			if m.Fresh > 0 && longer.Expires != math.MaxInt64 {
				m.Fresh = time.Duration(longer.Expires - e.Stored)
			}
			longer.Meta = &m
		}
		if c.local.Replace(ch.Key, e, longer, c.encoded(ch.rk)) {
			return nil
		}
		if c.Closed() {
			return errs.ErrClosed
		}
	}
}
