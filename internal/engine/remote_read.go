package engine

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
)

// read answers lookups from Redis.
func (c *remote) read(ctx context.Context, s *Scratch, j Loader, o *Options) {
	if o.SkipRemote {
		c.readApart(ctx, s, j, o)
		return
	}
	at := int64(0) // the lookups have it
	if c.predictsMiss(s.items, j, o) {
		if c.loadSpeculatively(ctx, s, j, o) {
			return
		}
		at = local.Now()
	}
	items, asked, cmds := s.items, s.asked[:0], s.cmds[:0]
	s.sent = true
	for i := range items {
		if it := &items[i]; !it.done {
			asked = append(asked, it)
			cmds = append(cmds, store.Command{Op: store.Get, Key: it.rk})
		}
	}
	if len(asked) == 0 {
		return
	}
	if at == 0 {
		at = asked[0].at
	}
	replies, r, again, err := c.ask(ctx, cmds, at)
	if again {
		s.cmds = make([]store.Command, 0, cap(s.cmds)) // the first attempt may still be in flight
	}
	founds, pointers := s.founds[:len(asked)], s.pointers[:len(asked)]
	var adopted map[int]*adoption
	if err == nil && c.legacy != nil {
		adopted = c.adoptAll(ctx, len(asked), func(i int) (string, *store.Reply) { return asked[i].rk, &replies[i] })
	}
	var now int64 // of the node, where there is only one
	oneNode := c.client.OneNode()
	if oneNode {
		if estimate, ok := c.client.EstimateAt(asked[0].rk, local.Time(r.Ended)); ok {
			now = estimate
		}
	}
	for i, it := range asked {
		f := &founds[i]
		f.space, f.key, f.adopted, f.now = it.space, it.key, adopted[i], now
		pointers[i] = f
		switch {
		case replies[i].Err != nil:
			f.status, f.err = unavailable, replies[i].Err
		case err != nil:
			f.status, f.err = unavailable, err
		default:
			if c.decodeTo(f, ctx, it.rk, replies[i].Record, &r); oneNode {
				now = f.now
			}
		}
	}
	c.validate(ctx, pointers, r.Ended)
	for i, it := range asked {
		f := &founds[i]
		if j != nil {
			c.missPredictor.noted(f.status)
			c.recall(it, f)
		}
		switch {
		case f.status == usable && !o.tooOld(&f.ans.info):
			it.answered(f.ans)
			it.own = true
			if !o.Peek {
				c.fillLocal(it.key, it.rk, it.fence, f, it.at)
			}
			c.countHit(&c.stats.remoteHits, f.ans.info, o)
			if !o.Peek {
				c.touch(it.rk, f, replies[i].Record)
			}
			if g := f.aging(); !f.legacy && !o.Peek && j != nil && f.timed && f.ans.absent == nil && c.policy.ShouldRefresh(g.age, g.fresh, g.cost, c.random()) {
				c.refresher.load(ctx, it.key, it.rk, g.age, j, o)
			}
		case f.status == unavailable && f.err == ctx.Err():
			it.failed(f.err)
		case f.status == unavailable && !o.SkipLocal && c.outage != nil && c.readInOutage(it, o):
			it.remoteErr = f.err // its command may still be in flight: see Scratch.Reset
		default:
			c.notInRemote(ctx, it, f, j, o)
		}
	}
}

// notInRemote handles a key for which Redis has no fresh answer.
func (c *remote) notInRemote(ctx context.Context, it *Lookup, f *decoded, j Loader, o *Options) {
	switch f.status {
	case stale:
		it.remoteStale(f, o)
	case unavailable:
		it.remoteErr = c.unavailable(f.err)
		c.localStale(it, o)
	case failed:
		if f.hold > 0 {
			c.loadedElsewhere(it.rk, it.fence, f, f.raw.ID, false)
		}
	case expired:
		if f.pending {
			it.pendingErr = c.unavailable(coherence.ErrPending)
		}
	}
	if !c.serveStale(ctx, it, j, o) {
		c.countMiss(f.status, o)
	}
}

// askAgain is how many times Redis is asked while pending invalidations are being delivered.
const askAgain = 4

// ask reads records, and with them the logical clocks of their parts, which say which of them were
// invalidated, unless this process is connected and receives their changes anyway. The error
// says why the clock is not known; where there are several, the reply to a record of a part whose
// clock is not known is that error. again is true if it took more than one attempt; the
// earlier ones may still be in flight if Redis has not answered them. at is the local time.
func (c *remote) ask(ctx context.Context, cmds []store.Command, at int64) (_ []store.Reply, r coherence.Reading, again bool, _ error) {
	n := len(cmds)
	fewest := n // the smallest number of keys so far whose replies were unreliable
	for try := 1; ; try++ {
		if again = try > 1; again {
			at = local.Now()
		}
		var err error
		if r, err = c.coherence.BeginRead(ctx, at, n, func(i int) string { return cmds[i].Key }); err != nil {
			replies := make([]store.Reply, n)
			for i := range replies {
				replies[i].Err = cmp.Or(ctx.Err(), err)
			}
			return replies, r, again, nil
		}
		var replies []store.Reply
		if len(c.clocks) > 1 {
			replies, err = c.askParts(ctx, &r, cmds[:n:n])
		} else if c.coherence.Connected(r.At) {
			replies = c.send(ctx, &r, cmds[:n])
		} else {
			look := c.coherence.Part(0).BeginEpochRead(r.At)
			if again {
				cmds = cmds[:n:n] // the last attempt may still be in flight
			}
			replies = c.send(ctx, &r, append(cmds[:n], c.clockCommand(0)))
			err = c.coherence.Part(0).EndEpochRead(ctx, look, replies[n])
		}
		if c.coherence.EndRead(&r) {
			err = coherence.ErrSuspect
		}
		if err == coherence.ErrSuspect && !again {
			continue // read again: the replies may be outdated
		}
		if err == coherence.ErrSuspect {
			err = nil // another connection may be made at any time
		}
		var unsure []int
		for i := range cmds[:n] {
			if replies[i].Err == nil && c.coherence.Overtaken(ctx, &r, cmds[i].Key, replies[i].Record) {
				unsure = append(unsure, i)
			}
		}
		// Each invalidation is delivered once, so that mostly fewer keys are left each time.
		if len(unsure) > 0 && (try < askAgain || len(unsure) < fewest) {
			fewest = len(unsure)
			continue
		}
		for _, i := range unsure {
			replies[i] = store.Reply{Err: coherence.ErrPending}
		}
		return replies[:n], r, again, err
	}
}

// askParts asks once, where there are several parts. The error is coherence.ErrSuspect or nil.
func (c *remote) askParts(ctx context.Context, r *coherence.Reading, cmds []store.Command) ([]store.Reply, error) {
	n := len(cmds)
	replies := make([]store.Reply, n)
	// Those that may be asked for, and behind them the clocks of their parts.
	all := make([]store.Command, 0, n+1)
	of := make([]int, 0, n)
	for i := range cmds {
		if replies[i].Err = c.coherence.Failed(r, cmds[i].Key); replies[i].Err == nil {
			all, of = append(all, cmds[i]), append(of, i)
		}
	}
	var looks [store.Parts]struct {
		coherence.EpochRead
		at  int // index of its command; 0: none
		err error
	}
	for _, i := range of {
		part := c.part(cmds[i].Key)
		if look := &looks[part]; look.at == 0 && !c.coherence.Part(part).Connected(r.At) {
			look.EpochRead = c.coherence.Part(part).BeginEpochRead(r.At)
			look.at = len(all)
			all = append(all, c.clockCommand(part))
		}
	}
	got := c.send(ctx, r, all)
	suspect := false
	for part := range looks {
		if look := &looks[part]; look.at > 0 {
			look.err = c.coherence.Part(uint8(part)).EndEpochRead(ctx, look.EpochRead, got[look.at])
			suspect = suspect || look.err == coherence.ErrSuspect
		}
	}
	for j, i := range of {
		replies[i] = got[j]
		if err := looks[c.part(cmds[i].Key)].err; err != nil && err != coherence.ErrSuspect && replies[i].Err == nil {
			replies[i] = store.Reply{Err: err}
		}
	}
	if suspect {
		return replies, coherence.ErrSuspect
	}
	return replies, nil
}

// send carries out the commands of a read.
func (c *remote) send(ctx context.Context, r *coherence.Reading, cmds []store.Command) []store.Reply {
	replies, ended := c.client.DoAt(ctx, cmds, local.Time(r.At))
	r.Ended = local.At(ended)
	return replies
}

// fillLocal puts the record that Redis returned into the local tier, unless the key's fence
// has moved since the read began, the record can't be dated, or this process has a pending
// change of the key that Redis may not have yet.
func (c *remote) fillLocal(key Key, rk string, f fence.Token, found *decoded, at int64) {
	if c.local == nil || !found.timed || c.isPending(rk, found.raw.Tags) {
		return
	}
	if found.legacy {
		c.dropReplaced(key, rk)
		return
	}
	if found.raw.Limit != math.MaxInt64 {
		// It ends soon, by the TTL in Redis, which is not prolonged by a clock that is
		// set back.
		return
	}
	s := version{found.raw.Epoch, found.raw.LogicalTime, found.part}
	e := c.localEntry(key, new(local.Head), &found.ans, at, found.aging(), s)
	c.endBy(e, found.until, s)
	c.putInOutage(e, local.Reached, at, s)
	c.local.Put(key, c.encoded(rk), e, f)
}

// isPending reports whether a value must not be put into the local tier, because a change or
// an invalidation of it by this process is still pending.
func (c *remote) isPending(rk string, tags []string) bool {
	return c.coherence.AnyPending() && (c.coherence.Pending(rk) || slices.ContainsFunc(tags, func(t string) bool { return c.coherence.PendingTag(rk, t) }))
}

// inspect reads the record of a key of which only the encoding is known.
func (c *remote) inspect(ctx context.Context, rk string) (v Value, info Info, err error) {
	replies, r, _, err := c.ask(ctx, []store.Command{{Op: store.Get, Key: rk}}, local.Now())
	if replies[0].Err != nil {
		err = replies[0].Err
	}
	if err != nil {
		return nil, info, &missError{c.unavailable(err)}
	}
	f := c.decode(ctx, rk, replies[0].Record, &r)
	c.validate(ctx, []*decoded{&f}, r.Ended)
	switch f.status {
	case unavailable:
		return nil, info, &missError{c.unavailable(f.err)}
	case usable, stale:
		info = f.ans.info
		if f.status == stale {
			info.Stale, info.TTL = true, 0
		}
		return f.ans.val, info, nil
	}
	if f.pending {
		return nil, info, &missError{c.unavailable(coherence.ErrPending)}
	}
	return nil, info, errs.ErrMiss
}
