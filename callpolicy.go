package cache

import (
	"slices"
	"sync/atomic"

	"github.com/delqhi/cache/strategy"
)

// With gives one call strategies of its own, in the places of those of their kinds that the
// cache has: how long it waits for a load ([strategy.SoftTimeout], [strategy.HardTimeout]), how
// stale a value it takes ([strategy.StaleIfError], [strategy.StaleWhileRevalidate]), for how long
// what its load returns is kept ([strategy.TTL], [strategy.Forever], [strategy.Jitter],
// [strategy.NotFoundTTL] without errors), and what follows if that fails ([strategy.ErrorTTL],
// [strategy.RetryAfter]). Strategies of several With add up; the last one of a kind wins.
//
//	u, err := users.GetOrLoad(ctx, id, load, cache.With(strategy.SoftTimeout(50*time.Millisecond), strategy.StaleIfError(0)))
//
// What concerns the caller, a soft timeout or a stale window, applies also where it shares a
// load that another call has begun. What concerns the load is that of the call that began it: the
// lives of what it returns, what follows if it fails, and the hard timeout, which ends it for
// all; the context of a call bounds how long that one waits. A background refresh has the
// strategies of the read that found it due.
//
// Strategies of other kinds, such as the local tier's or of writing, are those of the whole
// cache: the error of the call says why, and matches [ErrInvalidOption]. So it does for a stale
// window that is longer than the cache's longest, since nothing is kept for so long, and for
// [Cache.Peek], which loads nothing.
//
// Keep what With returns, if a call is made often: it remembers what it has checked.
func With(s ...strategy.Strategy) ReadOption { return &perCall{list: slices.Clone(s)} }

// perCall is the strategies of a call.
type perCall struct {
	list []strategy.Strategy
	last atomic.Pointer[callPolicy] // of the cache that it was last used with
}

type callPolicy struct {
	of     *strategy.Policy
	policy strategy.Policy
	err    error
}

func (*perCall) readOption() {}
func (w *perCall) applyCall(o *callOptions) {
	if o.with != nil {
		w = &perCall{list: slices.Concat(o.with.list, w.list)}
	}
	o.with = w
}

// compile returns the policy of a call of a cache with the policy of.
func (w *perCall) compile(of *strategy.Policy) (*strategy.Policy, error) {
	c := w.last.Load()
	if c == nil || c.of != of {
		c = &callPolicy{of: of}
		c.policy, c.err = of.ForCall(w.list...)
		w.last.Store(c)
	}
	return &c.policy, c.err
}

// ReadWriteOption is a ReadOption and a WriteOption: [SkipRemote].
type ReadWriteOption interface {
	ReadOption
	WriteOption
}

type skipRemote struct{}

func (skipRemote) readOption()              {}
func (skipRemote) writeOption()             {}
func (skipRemote) applyCall(o *callOptions) { o.SkipRemote = true }

// SkipRemote makes a call leave Redis alone.
//
// A read asks the local tier, then the source, whose value fills the local tier only. There is
// no lease: each process loads for itself, once for all its concurrent callers with this option.
//
// A Set or SetMany stores in the local tier only, without encoding. Neither Redis nor other
// processes learn of it: they go on with what they have, and so does this process, once the
// entry has left the local tier, after strategy.LocalTTL at the latest, or when another process
// writes or invalidates the key. The error matches [ErrUnavailable] while the local tier is not
// in use, as when notifications can't be received. The first such write of a cache with
// invalidate.TrackingKeys waits until these also are about keys that Redis does not have, for
// [WithTimeout] at most: no other waits for Redis.
//
// What is stored with this option alone is not in Redis, where another program can't remove it:
// with invalidate.Tracking, too, such a DEL is no change, and is not noticed.
//
// It is an error that matches [ErrInvalidOption] where Redis can't be left out: with
// [Cache.Update] and [Cache.SetIfAbsent], which are atomic over all processes; in a write under
// a write strategy, which Redis puts in order; in a read under strategy.WriteBehind, whose newest
// values are in Redis; and in a write of a cache without a local tier. In a LocalOnly cache it has
// no effect.
func SkipRemote() ReadWriteOption { return skipRemote{} }

type keepTTL struct{}

func (keepTTL) writeOption()             {}
func (keepTTL) applyCall(o *callOptions) { o.KeepTTL = true }

// KeepTTL keeps the end of the value that is replaced, if there is one that is fresh and not
// invalidated with a delay: Set otherwise begins a new life. It reads that end a moment before, in a round trip of its own
// unless the local tier has it; if Redis can't be asked, nothing is stored, the error matches
// [ErrUnavailable], and the old value is invalidated later, as after any Set that fails so. Under
// a write strategy the source is not written then, and the old value stays. As an option of a load it keeps the end of the value that the load replaces,
// unless the load sets another.
//
// With [SkipRemote] it is the end of what the local tier has.
//
// It contradicts [TTL], and has no place in [Cache.SetIfAbsent]: the error matches
// [ErrInvalidOption]. [Cache.Update] keeps the end in any case.
func KeepTTL() WriteOption { return keepTTL{} }

// readOptions collects the options of a read, and checks them against the cache.
func readOptions[O LoadOption, K comparable, V any](c *Cache[K, V], opts []O) (callOptions, error) {
	o, _ := collect(opts)
	if o.with != nil {
		var err error
		if o.Policy, err = o.with.compile(c.engine.Policy()); err != nil {
			o.errs = append(o.errs, err)
		}
	}
	if o.SkipRemote && c.engine.Policy().Write == strategy.ModeBehind {
		o.mistake("SkipRemote under strategy.WriteBehind: the newest values are in Redis until the source has them")
	}
	o.checkLife()
	return o, o.invalid()
}

// checkLife refuses two lives.
func (o *callOptions) checkLife() {
	if o.KeepTTL && o.HasTTL {
		o.mistake("KeepTTL and TTL(%v) contradict each other: leave one out", o.TTL)
	}
}

// setOptions collects the options of a Set, and checks them against the cache.
func (c *Cache[K, V]) setOptions(opts []WriteOption) (callOptions, error) {
	o, _ := collect(opts)
	o.checkLife()
	if o.SkipRemote && !c.engine.LocalOnly() {
		switch {
		case c.local == nil:
			o.mistake("SkipRemote leaves nothing to write to: the cache has no local tier")
		case c.engine.Policy().Write != strategy.ModeCache:
			o.mistake("SkipRemote under a write strategy: Redis puts the writes to the source in order")
		}
	}
	return o, o.invalid()
}

// atomicOptions collects the options of a write that is atomic over all processes.
func (c *Cache[K, V]) atomicOptions(op string, opts []WriteOption) (callOptions, error) {
	o, _ := collect(opts)
	o.checkLife()
	if o.SkipRemote && !c.engine.LocalOnly() {
		o.mistake("SkipRemote: %s is atomic over all processes, by Redis", op)
	}
	if o.KeepTTL && op == "SetIfAbsent" {
		o.mistake("KeepTTL: SetIfAbsent replaces no value whose end could be kept")
	}
	return o, o.invalid()
}
