package engine

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
)

func (c *remote) updateOnce(ctx context.Context, ch *Change, f Func, o *Options) (bool, error) {
	asked := local.Now()
	replies, r, _, err := c.ask(ctx, []store.Command{{Op: store.Get, Key: ch.rk}}, asked)
	if err = cmp.Or(replies[0].Err, err); err != nil {
		return false, c.writeFailed(ctx, err)
	}
	rec := replies[0].Record
	if ch.again && rec.State == store.Missing {
		// A Get within a batch reports a key of another Redis type as missing, and a
		// compare-and-set against a missing key would never succeed there.
		head := c.client.Do(ctx, []store.Command{{Op: store.GetHeader, Key: ch.rk}})[0]
		if head.Err != nil {
			return false, c.writeFailed(ctx, head.Err)
		}
		if head.Record.State == store.WrongType {
			rec = head.Record
		}
	}
	seen := c.tokenOf(ch.rk, rec)
	cur := c.decode(ctx, ch.rk, rec, &r)
	c.validate(ctx, []*decoded{&cur}, local.Now())
	switch cur.status {
	case unavailable:
		return false, c.writeFailed(ctx, cur.err)
	case leased:
		if cur.intended() || c.loader != nil && !c.obsolete(&cur) {
			return false, nil // a write to the source or a load is in flight: try again in a moment
		}
	case newer:
		return false, fmt.Errorf("cache: Update: the value in Redis is of a newer version than WithVersion(%d)", c.valueVersion)
	}
	kept := cur.status == usable && cur.ans.absent == nil
	s, err := c.version(ctx, ch.rk) // before the load
	if err != nil {
		return false, c.writeFailed(ctx, err)
	}
	if cur.status != usable && c.loader != nil {
		return c.updateLoaded(ctx, ch, f, o, seen, &cur, s)
	}
	var old Value
	if kept {
		old = cur.ans.val
	}
	if ch.Val, err = replace(f, old, kept); err != nil {
		return false, err
	}
	ch.cost = 0 // without a kept value, it began just now
	return c.exchange(ctx, ch, o, seen, &cur, kept, asked, s)
}

// updateLoaded is updateOnce for a value that has to be loaded from the source. A useless
// record is replaced by a lease, which an invalidation removes that comes while the source is
// asked. A record that may be of use to others stays, such as a stale value for readers whose
// load fails: then the key's lock marks the load in flight, and the compare-and-set against
// the record itself decides whether the loaded value still counts.
func (c *remote) updateLoaded(ctx context.Context, ch *Change, f Func, o *Options, seen store.CASToken, cur *decoded, s version) (bool, error) {
	lock := c.stays(cur)
	l := c.newLoad(loadKey{key: ch.Key, rk: ch.rk})
	l.lock, l.life = lock, leaseLife
	c.stay(ctx, l, cur, seen)
	tok := c.fences.Token(c.encoded(ch.rk))
	src, err := c.loadForUpdate(ctx, ch.Key, ch.rk, func(ctx context.Context) (func(taken bool), error) {
		key, at := ch.rk, seen
		if lock {
			key, at = c.lockKey(ch.rk), store.CASToken{}
		}
		// Even if the caller is gone: see acquire.
		lease, err := c.claim(context.WithoutCancel(ctx), key, at, lock, s, cur.status == leased)
		if err != nil || lease.State == store.Missing {
			return nil, cmp.Or(err, errNotAcquired)
		}
		if !lock {
			seen = lease
		}
		l.token = lease
		if gone := c.prolong(context.WithoutCancel(ctx), []*inflightLoad{l}); len(gone) > 0 {
			c.coherence.Send(context.WithoutCancel(ctx), gone)
			return nil, errNotAcquired
		}
		stop := c.extend(ctx, l.life, []store.Command{{Op: store.Extend, Key: key, Seen: lease, TTL: l.life}}, l)
		return func(taken bool) {
			if stop(); !taken || lock { // the lease or lock has not been replaced
				c.coherence.Send(context.WithoutCancel(ctx), []store.Command{{Op: store.CompareAndDelete, Key: key, Seen: lease}})
			}
		}, nil
	})
	if err == errNotAcquired {
		return false, nil // another write or load was faster: try again in a moment
	}
	if err != nil {
		return false, err
	}
	taken := false
	defer func() { src.finish(taken) }()
	stop := c.give(ch.rk, leaseID(l.token), src, tok)
	defer stop()
	if ch.Val, err = replace(f, src.val, src.have); err != nil {
		return false, err
	}
	stop()
	ch.cost = since(src.began)
	taken, err = c.exchange(ctx, ch, o, seen, cur, false, 0, s)
	return taken, err
}

// claim puts a lease in the place of the record in seen. The returned lease is Missing if
// another write or load was faster. A record in the place of a lock that is not a lease is
// useless, and is replaced.
func (c *remote) claim(ctx context.Context, key string, seen store.CASToken, lock bool, s version, second bool) (lease store.CASToken, err error) {
	for {
		cmd := c.leaseCommand(store.CompareAndSet, key, s, second, leaseLife)
		if cmd.Seen = seen; seen.State == store.Missing {
			cmd.Op = store.SetNX
		}
		reply := c.coherence.Send(ctx, []store.Command{cmd})[0]
		switch {
		case reply.Err != nil:
			return lease, c.writeFailed(ctx, reply.Err)
		case reply.OK:
			return store.TokenOf(cmd.Frame), nil
		case !lock || cmd.Op != store.SetNX:
			return lease, nil
		}
		f := c.decode(ctx, key, reply.Record, nil)
		if second = f.status == leased; second && !c.obsolete(&f) {
			return lease, nil
		}
		seen = reply.Record.CASToken()
	}
}

// exchange stores ch.Val over exactly the record in seen. If it replaces a live value, which
// was requested at the local time asked, it keeps that value's deadline unless the call sets
// another.
func (c *remote) exchange(ctx context.Context, ch *Change, o *Options, seen store.CASToken, cur *decoded, kept bool, asked int64, s version) (bool, error) {
	ch.done, ch.Err, ch.entry, ch.older, ch.from = false, nil, Held{}, nil, nil
	// A value that f derived from an older one has that one's version and tags.
	if ch.version, ch.dated = s, true; kept {
		ch.version, ch.older, ch.from = version{cur.raw.Epoch, cur.raw.LogicalTime, cur.part}, cur.raw.Tags, &cur.raw.Header
	}
	c.encodeChange(ctx, ch, o)
	if ch.done {
		return false, ch.Err
	}
	cmd := store.Command{Op: store.CompareAndSet, Key: ch.rk, Frame: ch.frame, TTL: ch.life.physical(), Seen: seen}
	g := freshness{remaining: ch.life.timeLeft(), fresh: ch.life.fresh, size: len(ch.frame)}
	enters := true // the local tier
	switch inherits := kept && ch.keep && !o.HasTTL; {
	case inherits && c.toSource():
		// An intent replaces the record, and with it the TTL of its key.
		if !cur.timed {
			break
		}
		if ch.life.fresh = 0; cur.left != forever {
			ch.life.fresh = max(cur.leftAfter(since(asked)).Truncate(time.Millisecond), time.Millisecond)
		}
		var err error
		if ch.frame, err = c.encodeValue(frame.NewID(), ch.rk, ch.Val, ch.life, ch.now, ch.version, ch.tags, "", c.recordCost(ch)); err != nil {
			return false, err
		}
		g = freshness{remaining: ch.life.timeLeft(), fresh: ch.life.fresh, size: len(ch.frame)}
	case inherits:
		h := &cur.raw.Header
		frm, err := c.encodeKept(ch.rk, ch.Val, h, ch.tags, ch.now)
		if err != nil {
			return false, err
		}
		cmd.Frame, cmd.TTL = frm, store.KeepTTL
		g = freshness{remaining: cur.leftAfter(since(asked)), size: len(frm), began: cur.began}
		if g.fresh = g.remaining; g.remaining == forever {
			g.fresh = 0
		}
		enters = cur.timed && g.remaining > 0 && h.Limit == math.MaxInt64 // see fillLocal
	case !ch.keep && !c.toSource():
		cmd.Op = store.CompareAndDelete
	}
	c.beginSwap(ch)
	if ch.keep && enters {
		// Before anything is sent, since copying the value runs user code.
		if v, until := c.clockIn(ch.version.part).Validate(ch.version.epoch, ch.version.time, 0, ch.tags, ch.at); v == logicalclock.Valid {
			ans := result{val: ch.Val, info: Info{Tags: ch.tags}}
			ch.entry = c.localEntry(ch.Key, &ch.head, &ans, ch.at, g, ch.version)
			c.endBy(ch.entry, until, ch.version)
			c.putInOutage(ch.entry, local.Reached, ch.at, ch.version)
		}
	}
	_, ok, err := c.swap(ctx, ch, cmd)
	if cmd.Op == store.CompareAndDelete && seen.State == store.Missing && err == nil {
		c.completeLocal(ch) // the key was empty, and is to stay empty
		return true, nil
	}
	return ok, err
}
