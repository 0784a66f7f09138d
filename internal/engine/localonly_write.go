package engine

import (
	"context"
	"math"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/strategy"
)

// The writes of a LocalOnly cache. Each takes effect in one step, under the lock of its
// key's shard: a Set unconditionally, SetIfAbsent and Update if the entry that they have
// read is still there. Under a write strategy a claim takes the place of the intent in
// Redis; see writethrough.go.

func (c *localOnly) together(context.Context, []*Change) {}

// encode gives a change its logical time, unless it has one: that of the value that it was
// derived from.
func (c *localOnly) encode(ctx context.Context, ch *Change) {
	if !ch.done && !ch.dated {
		ch.version, _ = c.version(ctx, ch.rk)
	}
}

// apply writes changes to the source, under a write strategy, and then to the tier.
func (c *localOnly) apply(ctx context.Context, changes []*Change) {
	if c.toSource() {
		for _, ch := range changes {
			if ch.claim == nil && !ch.remove {
				ch.claim = c.fences.ClaimWrite(c.encoded(ch.rk), false)
			}
		}
		defer func() {
			for _, ch := range changes {
				ch.claim.End(nil)
			}
		}()
		c.writeSource(ctx, changes)
	}
	for _, ch := range changes {
		ch.Err = ch.srcErr
		c.complete(ch)
	}
}

// complete brings the tier in line with the outcome of a change.
func (c *localOnly) complete(ch *Change) {
	defer c.failures.forget(ch.rk) // after the fence has moved; see remember
	enc, out := c.encoded(ch.rk), local.Refused
	switch {
	case ch.Err != nil || ch.entry.Head == nil || c.policy.Write == strategy.ModeAround:
	case ch.claim != nil: // refused if another write came meanwhile: which one the source applied last is not known
		out = c.local.Fill(ch.Key, enc, ch.entry, ch.claim, local.Now())
	default:
		out = c.local.Set(ch.Key, enc, ch.entry, ch.at)
	}
	switch out {
	case local.Refused:
		c.drop(ch)
	case local.Closed:
		if !c.toSource() {
			ch.Err = errs.ErrClosed
		}
	}
}

// claimWrite claims a key for SetIfAbsent or Update, under a write strategy. It waits for
// other writes to the source.
func (c *localOnly) claimWrite(ctx context.Context, enc string) (*fence.Claim, error) {
	if claim := c.fences.ClaimWrite(enc, true); claim != nil {
		return claim, nil
	}
	w := c.fences.Wait(enc)
	defer w.Close()
	for {
		if claim := c.fences.ClaimWrite(enc, true); claim != nil {
			return claim, nil
		}
		if err := c.awaitClaims(ctx, w); err != nil {
			return nil, err
		}
	}
}

// awaitClaims waits for a claim to end, as long as ctx and the cache live.
func (c *localOnly) awaitClaims(ctx context.Context, w *fence.Waiter) error {
	select {
	case <-w.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.refresher.ctx.Done():
		return errs.ErrClosed
	}
}

func (c *localOnly) setIfAbsent(ctx context.Context, ch *Change) (bool, error) {
	enc := c.encoded(ch.rk)
	for {
		ch.at = local.Now()
		e, is := c.lookLocal(ch.Key, ch.rk, ch.at)
		if is == usable && (e.Meta == nil || !e.Meta.Absent) {
			return false, nil
		}
		if c.toSource() && ch.claim == nil {
			claim, err := c.claimWrite(ctx, enc)
			if err != nil {
				return false, err
			}
			ch.claim = claim
			defer claim.End(nil)
			continue // reads the entry again, and dates the new one: it may have waited for long
		}
		if ch.keep {
			ch.entry = c.changeEntry(ch, ch.at)
		}
		switch {
		case c.toSource():
			c.apply(ctx, []*Change{ch})
			return ch.Err == nil, ch.Err
		case !ch.keep:
			return true, nil // it would have been stored
		}
		if ok, err := c.swapped(ctx, ch, func() local.Outcome { return c.local.CompareAndSwap(ch.Key, enc, e, ch.entry) }); ok || err != nil {
			return ok, err
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
}

// swap puts a change in the place of the entry e, after the source under a write strategy. ok is
// false if another write was faster.
func (c *localOnly) swap(ctx context.Context, ch *Change, e Held) (ok bool, err error) {
	enc := c.encoded(ch.rk)
	if !c.toSource() {
		return c.swapped(ctx, ch, func() local.Outcome { return c.local.CompareAndSwap(ch.Key, enc, e, ch.entry) })
	}
	claim, err := c.claimWrite(ctx, enc)
	if err != nil {
		return false, err
	}
	defer claim.End(nil)
	if now, _ := c.local.Peek(ch.Key); now != e {
		return false, nil
	}
	ch.claim = claim
	c.backend.apply(ctx, []*Change{ch})
	return ch.Err == nil, ch.Err
}

func (c *localOnly) updateOnce(ctx context.Context, ch *Change, f Func, o *Options) (ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if c.Closed() {
		return false, errs.ErrClosed
	}
	if c.own == nil {
		return false, errNoOwnCopy
	}
	at := local.Now()
	s, err := c.backend.version(ctx, ch.rk) // before the load
	if err != nil {
		return false, c.writeFailed(ctx, err)
	}
	e, is := c.lookLocal(ch.Key, ch.rk, at)
	if is != usable && c.loader != nil {
		return c.updateLoaded(ctx, ch, f, o, e, s)
	}
	var old Value
	have := is == usable && (e.Meta == nil || !e.Meta.Absent)
	if have {
		if old, err = c.own(e.Value); err != nil {
			return false, err
		}
	}
	if ch.Val, err = replace(f, old, have); err != nil {
		return false, err
	}
	if err := c.stage(ctx, ch, o, e, have, s, at); err != nil {
		return false, err
	}
	if have && local.Now() >= e.Deadline {
		return false, nil // the entry has expired meanwhile
	}
	return c.swap(ctx, ch, e)
}

// updateLoaded is updateOnce for a value that has to be loaded from the source. An invalidation
// that comes meanwhile ends the claim.
func (c *localOnly) updateLoaded(ctx context.Context, ch *Change, f Func, o *Options, e Held, s version) (bool, error) {
	enc := c.encoded(ch.rk)
	w := c.fences.Wait(enc)
	defer w.Close()
	now := local.Now()
	claim, _ := c.fences.ClaimLoadSince(c.fences.Place(enc), s.time, now, c.backend.since(ch.rk, now), false, nil)
	if claim == nil { // a write to the source or a load is in flight: try again when it ends
		return false, c.awaitClaims(ctx, w)
	}
	if now, _ := c.local.Peek(ch.Key); now != e {
		claim.End(nil)
		return false, nil
	}
	return c.updateClaimed(ctx, ch, f, o, e, s, claim)
}

// updateClaimed loads the value, and replaces the entry e by that of f, unless the claim is lost.
func (c *localOnly) updateClaimed(ctx context.Context, ch *Change, f Func, o *Options, e Held, s version, claim *fence.Claim) (bool, error) {
	defer claim.End(nil)
	enc := c.encoded(ch.rk)
	tok := c.fences.Token(enc)
	src, err := c.loadForUpdate(ctx, ch.Key, ch.rk, func(context.Context) (func(bool), error) { return nil, nil })
	if err != nil {
		return false, err
	}
	defer src.finish(true)
	stop := c.give(ch.rk, claim, src, tok)
	defer stop()
	if ch.Val, err = replace(f, src.val, src.have); err != nil {
		return false, err
	}
	stop()
	if err := c.stage(ctx, ch, o, Held{}, false, s, src.began); err != nil {
		return false, err
	}
	if !c.fences.ToWrite(claim) {
		return false, nil
	}
	switch {
	case c.toSource():
		ch.claim = claim
		c.backend.apply(ctx, []*Change{ch})
		return ch.Err == nil, ch.Err
	case ch.keep:
		return c.swapped(ctx, ch, func() local.Outcome { return c.local.Fill(ch.Key, enc, ch.entry, claim, local.Now()) })
	}
	return c.swapped(ctx, ch, func() local.Outcome { return c.local.CompareAndSwap(ch.Key, enc, e, Held{}) })
}

// swapped tells the other processes of an Update, runs its operation on the tier, and returns its
// outcome.
func (c *localOnly) swapped(ctx context.Context, ch *Change, swap func() local.Outcome) (bool, error) {
	if c.tell != nil {
		if c.tell(ctx, []*Change{ch}); ch.Err != nil {
			c.drop(ch)
			return false, ch.Err
		}
	}
	switch swap() {
	case local.Refused:
		return false, nil
	case local.Closed:
		return false, errs.ErrClosed
	}
	c.failures.forget(ch.rk)
	return true, nil
}

// stage decides how long the value of an Update is kept and makes its entry. A value
// that replaces a live one keeps that one's deadline, tags and version, unless the call says
// otherwise; see encodeKept. It was made of what was true at the local time began.
func (c *localOnly) stage(ctx context.Context, ch *Change, o *Options, e Held, kept bool, s version, began int64) error {
	ch.done, ch.Err, ch.entry, ch.claim, ch.srcErr = false, nil, Held{}, nil, nil
	ch.version, ch.dated = s, true
	ch.older = nil
	if kept && e.Meta != nil {
		ch.version, ch.older = version{e.Meta.Epoch, e.Meta.LogicalTime, e.Meta.Part}, e.Meta.Tags
	}
	if c.encodeChange(ctx, ch, o); ch.done {
		return ch.Err
	}
	if !ch.keep {
		return nil
	}
	ch.at = local.Now()
	if !kept || o.HasTTL {
		ch.entry = c.changeEntry(ch, ch.at)
		c.putInOutage(ch.entry, local.Reached, began, ch.version)
		return nil
	}
	left := forever
	if e.Expires != math.MaxInt64 {
		left = max(time.Duration(e.Expires-ch.at), 1)
	}
	ans := result{val: ch.Val, info: Info{Tags: ch.tags}}
	ch.entry = c.localEntry(ch.Key, &ch.head, &ans, ch.at, freshness{remaining: left, fresh: left}, ch.version)
	ch.entry.Deadline = min(ch.entry.Deadline, e.Deadline)
	if ch.entry.Meta != nil && e.Meta != nil {
		ch.entry.Meta.Stale = min(ch.entry.Meta.Stale, e.Meta.Stale)
	}
	c.putInOutage(ch.entry, local.Reached, began, ch.version)
	return nil
}
