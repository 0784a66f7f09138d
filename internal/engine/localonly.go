package engine

import (
	"context"
	"math"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/glob"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/metrics"
)

// localOnly is the backend of a cache without Redis: the entries of the local tier are its only
// data. Waiting for what others do ends by a notification, or by the context: nothing is lost.
type localOnly struct {
	*Cache
	localClock logicalclock.LocalClock // keeps the logical clock

	// tell tells other processes of changes before they take effect here; the outcome is in each.
	// nil: there are none.
	tell func(ctx context.Context, changes []*Change)
}

var _ backend = (*localOnly)(nil)

func newLocalOnly(c *Cache) *localOnly {
	c.clock = logicalclock.NewTable()
	c.fences.WithClaims()
	c.chooseOwnCopy()
	return &localOnly{Cache: c}
}

func (c *localOnly) ready(context.Context) (waited bool) { return false }

func (c *localOnly) mayUseLocal(string, int64) bool { return true }

func (c *localOnly) learn(tags []string) bool {
	asked, at := c.clock.ReadVersion(), local.Now()
	m := c.localClock.ReadClock(c.clock.Known(), tags)
	c.clock.LearnTombstones(tags, &m, asked, at)
	return true
}

func (c *localOnly) inspect(context.Context, string) (Value, Info, error) {
	return nil, Info{}, errs.ErrMiss
}

func (c *localOnly) since(string, int64) int64 { return math.MinInt64 }

// version can't fail: the clock is in this process.
func (c *localOnly) version(context.Context, string) (s version, err error) {
	var ok bool
	if s.epoch, s.time, ok = c.clock.Version(); !ok {
		c.learn(nil)
		s.epoch, s.time, _ = c.clock.Version()
	}
	return s, nil
}

func (c *localOnly) watch(encoded ...string) (<-chan struct{}, func()) {
	w := c.fences.Wait(encoded...)
	return w.C, w.Close
}

func (c *localOnly) watchesFirst() bool { return false }

func (c *localOnly) pollEvery(time.Duration) time.Duration { return leasePoll }

func (c *localOnly) copies(_ string, val Value) (next func() (Value, error), ok bool) {
	if c.own == nil {
		return nil, false
	}
	kept, err := c.own(val)
	return func() (Value, error) { return c.own(kept) }, err == nil
}

func (c *localOnly) sync(context.Context) (why, err error) { return nil, nil }

func (c *localOnly) listener() (s metrics.State) { return s }

func (c *localOnly) close() {}

// read counts the keys that the local tier could not answer as misses, or serves them stale.
func (c *localOnly) read(ctx context.Context, s *Scratch, j Loader, o *Options) {
	for i := range s.items {
		it := &s.items[i]
		if it.done {
			continue
		}
		is := notFound
		if !o.SkipLocal && !it.nowhere {
			_, is = c.lookLocal(it.key, it.rk, it.at)
		}
		if c.localStale(it, o); !c.serveStale(ctx, it, j, o) {
			c.countMiss(is, o)
		}
	}
}

// lookLocal returns the tier's entry of a key, nil if there is none, and its status: usable, stale,
// expired, or notFound, also for an entry that may not answer. A write replaces that one, too.
func (c *localOnly) lookLocal(key Key, rk string, at int64) (e Held, is status) {
	mayUse := c.backend.mayUseLocal(rk, at) // first: what is found then was not flushed since
	e, ok := c.local.Peek(key)
	if !ok || !mayUse {
		return e, notFound
	}
	v := c.localValidity(e.Meta, at)
	switch {
	case v == logicalclock.Valid && at < e.Deadline:
		return e, usable
	case v != logicalclock.Invalid && e.Meta != nil && !e.Meta.Absent && at < e.Meta.Stale && c.policy.StaleFor() > 0:
		return e, stale
	}
	return e, expired
}

// acquire claims the keys of ls. It resolves the loads of keys
// that have a value by now, and those that have waited for a load that has failed. A key that
// another load or a write to the source has claimed stays waiting.
func (c *localOnly) acquire(ctx context.Context, now int64, o *Options, ls []*inflightLoad) (again bool) {
	s, _ := c.version(ctx, "")
	for _, l := range ls {
		l.version = s
	}
	c.claim(now, o, ls, func(*inflightLoad) error { return nil })
	return false
}

// claim does the work of acquire, for loads that have the versions at which they begin at the local time now. unkept says why what
// a load returns can't be kept, if it can't: such a load waits for no other.
func (c *localOnly) claim(now int64, o *Options, ls []*inflightLoad, unkept func(*inflightLoad) error) {
	for _, l := range ls {
		waited := l.awaits != nil
		if waited && c.answerLocal(now, o, l) {
			continue
		}
		if err := l.failedMeanwhile(); err != nil {
			c.coalesced(o)
			c.resolve(l, nil, err)
			continue
		}
		why := unkept(l)
		force := o.SkipLocal || o.anew() || why != nil
		if l.claim, l.awaits = c.fences.ClaimLoadSince(l.place, l.version.time, now, c.backend.since(l.rk, now), force, &l.claimed); l.claim == nil {
			if !waited && c.answerLocal(now, o, l) {
				continue
			}
			if o.background {
				c.resolve(l, nil, errBusy)
				continue
			}
			outdated := false
			for _, other := range l.awaits {
				var ok bool
				if ok, outdated = c.taken(o, l, other); ok || outdated {
					break
				}
			}
			if !outdated {
				continue
			}
			l.claim, l.awaits = c.fences.ClaimLoadSince(l.place, l.version.time, now, math.MinInt64, true, &l.claimed)
		}
		l.state = fillLocal
		if why != nil {
			l.state, l.why = fillNone, why
		}
		if c.answerLocal(now, o, l) { // only now: a value that was stored before the claim does not end it
			l.endClaim(nil)
		}
	}
}

// endClaim ends the claim of a load, if it has one.
func (l *inflightLoad) endClaim(err error) {
	l.awaited = l.claim.End(err) || l.awaited
	l.claim = nil
}

func (c *localOnly) keepAlive(context.Context, []*inflightLoad) (stop func()) { return func() {} }

func (c *localOnly) encodeLoaded(context.Context, *inflightLoad) error { return nil }

func (c *localOnly) keepLate(_, _ *inflightLoad) (stop func()) { return nil }

// failedMeanwhile returns the failure of a load that l has waited for, nil if there is none.
func (l *inflightLoad) failedMeanwhile() error {
	for _, other := range l.awaits {
		if err := other.Failed(); err != nil {
			return err
		}
	}
	return nil
}

// answerLocal resolves a load with the tier's entry, if that may be used at the local time at, and
// otherwise notes the value that is to be replaced.
func (c *localOnly) answerLocal(at int64, o *Options, l *inflightLoad) bool {
	l.old = nil
	if o.SkipLocal {
		return false
	}
	e, is := c.lookLocal(l.key, l.rk, at)
	if c.outage.unheard(l.rk, at) {
		e, is = c.lookInOutage(l.key, l.rk, at)
	}
	if is != usable && is != stale {
		return false
	}
	ans := c.fromLocal(e, at)
	if is == usable && !o.tooOld(&ans.info) && !(o.background && ans.info.Age >= o.backgroundAge) {
		c.coalesced(o)
		c.resolve(l, &ans, nil)
		return true
	}
	if ans.absent == nil {
		l.old = &decoded{ans: ans}
		if e.Meta != nil {
			l.old.raw.ETag = e.Meta.ETag
		}
	}
	return false
}

func (c *Cache) coalesced(o *Options) {
	if !o.refresh {
		c.stats.coalesced.Add(1)
	}
}

// store stores what was loaded in the tier, and ends the claims.
func (c *localOnly) store(_ context.Context, _ *Options, ls []*inflightLoad, at int64) {
	for _, l := range ls {
		if r := &l.filled; r.failedUntil != 0 {
			c.remember(l.rk, r.failure, r.failedUntil, l.claim.Lost)
		}
	}
	if c.clone != nil {
		usercode.Each(len(ls), func(i int) { c.fill(ls[i], at) }, func(_ int, err error) { c.notKept(err) })
	} else {
		for _, l := range ls {
			c.fill(l, at)
		}
	}
	for _, l := range ls {
		var failure error
		if l.filled.shared {
			failure = l.filled.err
		}
		if l.left == nil {
			l.endClaim(failure)
		} else {
			l.claim.Leave(failure)
		}
	}
}

// fill stores the loaded value, unless the key was written or invalidated since it
// was claimed. If the value is not to be stored, the tier's entry stays, unless the source
// says that it is over.
func (c *localOnly) fill(l *inflightLoad, at int64) {
	r := &l.filled
	enc := c.encoded(l.rk)
	switch {
	case r.keep:
		e := c.localEntry(l.key, &l.head, &r.ans, at, l.aging(at), l.version)
		c.putInOutage(e, local.Reached, l.res.began, l.version)
		if c.local.Fill(l.key, enc, e, l.claim, at) == local.Refused {
			c.stats.outdated.Add(1)
			return
		}
		if e.Meta != nil && e.Meta.Outage != local.None {
			c.stats.outageFills.Add(1)
			c.usesOutage()
		}
		if l.late {
			c.failures.forget(l.rk)
		}
	case r.over:
		c.dropOver(l, enc)
	}
}

// dropOver removes the entry that a load has found to be over, unless the key was written or
// invalidated since it was claimed: then the claim is lost before the new entry can be seen. An
// entry whose life a read or Touch has prolonged meanwhile is another one, of the same value.
func (c *localOnly) dropOver(l *inflightLoad, enc string) {
	for {
		e, ok := c.local.Peek(l.key)
		if !ok || l.claim.Lost() || c.local.CompareAndSwap(l.key, enc, e, Held{}) != local.Refused {
			return
		}
	}
}

// giveBack ends the claims of ls, whatever their outcome, except those of loads that go on
// without their callers: see fillLate.
func (c *localOnly) giveBack(ls []*inflightLoad) {
	for _, l := range ls {
		if l.left == nil {
			l.endClaim(nil)
		}
	}
}

func (c *localOnly) invalidate(_ context.Context, changes []*Change) {
	for _, ch := range changes {
		c.invalidateLater(ch)
	}
}

func (c *localOnly) invalidateLater(ch *Change) {
	c.invalidateKey(ch.Key, c.encoded(ch.rk), false)
	c.failures.forget(ch.rk) // after the fence has moved; see remember
}

func (c *localOnly) invalidatePattern(_ context.Context, pattern string) (int64, error) {
	n := c.invalidateMatching(pattern)
	c.failures.forgetAll()
	return n, nil
}

func (c *localOnly) invalidatePatternLater(pattern string) {
	c.invalidateMatching(pattern)
	c.failures.forgetAll()
}

// invalidateKey makes one key invalid by the invalidator's policy. marked: all keys are, by a
// tombstone, which does not show in an entry's own dates.
func (c *localOnly) invalidateKey(key Key, enc string, marked bool) {
	lazy := c.invalidation.Mode == invalidation.Lazy && c.policy.StaleFor() > 0
	if rk, err := c.keyOf(key); c.invalidation.Mode != invalidation.Delayed && !lazy || err != nil || c.encoded(rk) != enc {
		c.local.Remove(enc)
		return
	}
	if lazy {
		c.shorten(key, enc, local.Now(), true, true)
	} else {
		c.shorten(key, enc, later(local.Now(), c.invalidation.Delay), marked, false)
	}
}

// shorten makes an entry unusable from the local time end on, also as a stale value unless
// keepStale is set. With keepLife, its Expires stays, from which its Info and the time that
// it has been stale are computed; else that ends as well. The fills of loads in flight fail.
func (c *localOnly) shorten(key Key, enc string, end int64, keepLife, keepStale bool) {
	for {
		f := c.fences.Move(enc)
		e, ok := c.local.Peek(key)
		if !ok {
			// A load may be storing an entry at this moment, checked before the fence moved.
			c.local.Remove(enc)
			return
		}
		head := *e.Head
		short := Held{Head: &head, Value: e.Value}
		if short.Deadline = min(e.Deadline, end); !keepLife {
			short.Expires = min(e.Expires, end)
		}
		m := local.Meta{Stale: math.MaxInt64}
		if e.Meta != nil {
			m = *e.Meta
		} else {
			// Without tags, only a Clear from now on concerns it: earlier ones have.
			s, _ := c.version(context.Background(), "")
			m.Epoch, m.LogicalTime, m.Part = s.epoch, s.time, s.part
		}
		if m.Ends = true; !keepStale {
			m.Stale = min(m.Stale, end)
		}
		short.Meta = &m
		if c.local.Swap(key, enc, short, f) {
			return
		}
	}
}

// invalidateMatching makes the keys that match a pattern invalid, and returns how many it was.
func (c *localOnly) invalidateMatching(pattern string) (n int64) {
	match := glob.Compile(pattern).Match
	c.fences.LoseMatching(match)
	at := local.Now()
	c.local.Range(func(k Key, e Held) bool {
		rk, err := c.keyOf(k)
		if err != nil || !match(c.encoded(rk)) {
			return true
		}
		if at < e.Deadline || e.Meta != nil && at < e.Meta.Stale {
			n++
		}
		c.invalidateKey(k, c.encoded(rk), false)
		return true
	})
	return n
}

// invalidateAll makes everything invalid.
func (c *localOnly) invalidateAll() {
	if c.invalidation.Mode == invalidation.Immediate {
		c.local.Flush()
		return
	}
	c.local.Range(func(k Key, _ Held) bool {
		if rk, err := c.keyOf(k); err == nil {
			c.invalidateKey(k, c.encoded(rk), true)
		}
		return true
	})
}

func (c *localOnly) mark(_ context.Context, tags []string) error { return c.markLater(tags) }

// markLater sets the tombstones of tags, or of everything: the logical clock is this process's
// own. Loads in flight still fill, since the entries that they store are validated by their
// tags; later callers do not join these loads.
func (c *localOnly) markLater(tags []string) error {
	if len(tags) == 0 {
		c.fences.MoveAll()
	} else {
		c.fences.Turn()
	}
	c.failures.forgetAll()
	asked, at := c.clock.ReadVersion(), local.Now()
	marks, err := c.localClock.AddTombstones(c.clock.Known(), c.invalidation.NewTombstone(tags))
	if err != nil {
		return err
	}
	c.clock.LearnTombstones(tags, &marks, asked, at)
	if len(tags) == 0 {
		c.invalidateAll()
	}
	return nil
}
