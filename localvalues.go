package cache

import (
	"github.com/delqhi/cache/internal/engine"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// LocalValues keeps values in the processes, for types that are not to be encoded, or can't be:
// compiled templates, policies, parsed models, anything with functions or unexported fields. V needs
// no codec. Redis carries what keeps the processes coherent: notifications, tags, Clear, and the
// lock of an Update. It needs a local tier, such as strategy.LRU(n).
//
// Each process loads its own values. A process serves what another one has replaced or invalidated,
// by whatever means (a method, an invalidate.Client, cachectl, an outbox), no longer than a
// notification takes, and no longer than 1.5 s if none gets through; a load that began before an
// invalidation arrives is returned to its caller, and not kept. While Redis can't be reached, the
// local tier is not used, and reads go to the source.
//
// All methods do the same as with values in Redis, except for these:
//
//   - Loads are shared within a process, and there is no lease over all of them: its holder could
//     not pass the value on, so that the others would load one after the other instead of at a time.
//   - Set and SetMany store the value in this process; the others drop theirs, and load it when they
//     next need it. So write the source before, or use a write strategy. If two processes set a key
//     at a time, neither value may remain.
//   - Update is atomic over the Updates of all processes under a write strategy: it holds a lock in
//     Redis and asks Source.Load. A Set takes no lock: that of another process, at the same time,
//     may be overwritten in the source. Otherwise it is so in this process, and repeated if another one changes the key
//     meanwhile. As in a LocalOnly cache, values of V must be copied for it.
//   - SetIfAbsent returns an error that wraps errors.ErrUnsupported: a value that this process does
//     not have is not known to be absent.
//   - Touch and strategy.Sliding prolong lives in this process, strategy.NotFoundTTL and
//     strategy.ErrorTTL hold in it, and InvalidatePattern returns the number of its keys.
//   - Cache.EncodeReplacement returns nil, so that Cache.ReplaceEncoded invalidates. For a key that
//     Source.Key encodes, Cache.InspectEncoded knows what this process has.
//
// invalidate.Tracking lets any program drop the value of a key in all processes, by writing the key
// in Redis, whatever it writes: SET templates:welcome x EX 60. A DEL of a key that Redis does not
// have, as it has none of these, is no change that Redis reports.
//
// As in a LocalOnly cache, WithCodec is used to copy values only, WithVersion and WithMaxValueSize
// have no effect, and an entry lives as long as strategy.TTL says, unless strategy.LocalTTL shortens
// that.
//
// New refuses what needs the value in Redis, or would leave changes unnoticed: strategy.WriteBehind,
// invalidate.Delayed and invalidate.Lazy, invalidate.NoTransport, codec.Legacy, and LocalOnly.
// strategy.LocalBytes needs Source.Weigh.
func LocalValues() Option {
	return option(func(c *config) { c.localValues = true })
}

// staysLocal reports whether values never go to Redis.
func (c *config) staysLocal() bool { return c.localOnly || c.localValues }

// checkLocalValues refuses options that LocalValues excludes. weighs says whether there is a
// Source.Weigh.
func (c *config) checkLocalValues(weighs bool) {
	if !c.localValues {
		return
	}
	if c.localOnly {
		c.mistake("LocalValues is for processes that notify each other by Redis, which LocalOnly does without: leave one of them out")
		return
	}
	if c.policy.LocalEntries == 0 && len(c.errs) == 0 {
		c.mistake("LocalValues keeps values in the local tier, and there is none: add strategy.LRU(n) or strategy.TinyLFU(n)")
	}
	if c.policy.Write == strategy.ModeBehind {
		c.mistake("strategy.WriteBehind() keeps values in Redis until the source has them, which LocalValues excludes: write strategy.WriteThrough()")
	}
	if c.policy.LocalBytes > 0 && !weighs {
		c.mistake("strategy.LocalBytes(n) with LocalValues needs Source.Weigh: a value that is never encoded may refer to more than can be estimated")
	}
	if c.invalidator != invalidate.Immediate() {
		c.mistake("%v leaves an invalidated entry in Redis for a while, where LocalValues has none: use invalidate.Immediate()", c.invalidator)
	}
	if c.receivesBy() == invalidate.NoTransport() && c.policy.LocalEntries > 0 {
		c.mistake("invalidate.NoTransport() with LocalValues would leave values in use that other processes have changed: use invalidate.Broadcast()")
	}
	if c.policy.Audit > 0 {
		c.mistake("%v compares local hits with what Redis holds, which with LocalValues is nothing: leave it out", strategy.Audit(c.policy.Audit))
	}
	if engine.ReadsOthers(c.codec) {
		c.mistake("codec.Legacy reads what another program has stored in Redis, where LocalValues reads no values: give the codec inside it, or none")
	}
}
