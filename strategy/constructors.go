package strategy

import (
	"slices"
	"time"
)

// LRU gives the cache a local tier of at most n entries in this process. When a new entry needs
// room, the least recently used one is evicted. n is from 1 to 1,073,741,824. Without LRU or
// [TinyLFU] there is no local tier.
func LRU(n int) Strategy { return setting{kind: lru, n: int64(n)} }

// TinyLFU gives the cache a local tier of at most n entries in this process, as [LRU] does, and
// takes its place. When a new entry needs room, TinyLFU takes into account how often keys were
// used, also those of entries that are no longer there: an entry that is used often is not
// displaced by keys that are read once only, such as those of a scan, and a part of a loop that
// is too large remains. An entry that was just stored is there in any case, in a window whose
// size adapts to what is read. It is derived from the W-TinyLFU of Einziger, Friedman and
// Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM Transactions on Storage,
// 2017. A hit costs the same as with LRU, and each entry 16 bytes more. n is from 1 to
// 1,073,741,824.
func TinyLFU(n int) Strategy { return setting{kind: tinyLFU, n: int64(n)} }

// LocalBytes also bounds the local tier to about n bytes; n is positive. It needs [LRU] or
// [TinyLFU]. By default only their number of entries bounds it. An entry's size is estimated,
// unless the cache's Source has a Weigh function.
func LocalBytes(n int64) Strategy { return setting{kind: localBytes, n: n} }

// LocalTTL is the longest that the local tier keeps an entry before the next read goes to
// Redis; d is positive. An entry's remaining life in Redis limits it anyway, so that a LocalTTL
// above the TTL is no mistake. It needs [LRU] or [TinyLFU]. The default is the TTL, at most a minute.
func LocalTTL(d time.Duration) Strategy { return setting{kind: localTTL, d: d} }

// LocalDuringOutage has the local tier go on while Redis can't be reached, or notifications of
// other processes can't be received: fresh entries are served, and what is loaded is kept, each
// for d at most since it was last known to be true. For an entry from before, that is when the
// last heartbeat was sent that came back; for a loaded one, when its load began. Meanwhile
// [LocalTTL] ends only what was read from Redis or written since notifications are not received,
// and [Jitter] shortens d, so that entries do not all end together. This
// process's own writes and invalidations have effect at once, also those that fail in Redis;
// what other processes write may be served as it was for up to d. When notifications are
// received again, nothing of that time is served any more.
//
// With cache.LocalValues the same holds: Redis has no values, and all that is loaded meanwhile is kept.
//
// d is positive. It needs [LRU] or [TinyLFU], and a Redis. By default the local tier is not used
// at such times, from 1.5 seconds after the last heartbeat on.
func LocalDuringOutage(d time.Duration) Strategy { return setting{kind: localDuringOutage, d: d} }

// TTL is how long a value is fresh; d is positive and of whole milliseconds. A life that is set
// by a load, a call or the source takes precedence. The default is 5 minutes.
func TTL(d time.Duration) Strategy { return setting{kind: ttl, d: d} }

// Forever keeps values without an end of their own, until they are written,
// invalidated or evicted. It takes the place of [TTL].
func Forever() Strategy { return setting{kind: forever} }

// Jitter shortens lives that a strategy sets by a random part, up to the fraction f, so that
// entries that were stored together don't end together. It never prolongs. f is from 0, which
// is none, to below 1. The default is 0.1.
func Jitter(f float64) Strategy { return setting{kind: jitter, x: f} }

// Sliding ends an entry that was not read for the duration idle, before its TTL, which remains
// the longest that it lives. idle is positive, of whole milliseconds and shorter than the TTL,
// so that it can't be combined with [Forever]. The default is off.
func Sliding(idle time.Duration) Strategy { return setting{kind: sliding, d: idle} }

// RefreshAhead refreshes an entry in the background, at the first read after the fraction f of
// its fresh life. f is between 0 and 1, exclusive; 0.8 is usual. An entry that is not read is
// not refreshed. It can't be combined with [Forever]. With [EarlyExpiration] either one is
// enough. The default is off.
func RefreshAhead(f float64) Strategy { return setting{kind: refreshAhead, x: f} }

// EarlyExpiration refreshes an entry in the background, at random, with a probability that
// grows with the time that the load took and as the end comes nearer, so that processes don't
// all refresh at once and need not coordinate. beta is positive; 1 is usual, more is earlier.
// It is the XFetch of Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache
// Stampede Prevention", VLDB 2015. It can't be combined with [Forever]. The default is off.
func EarlyExpiration(beta float64) Strategy { return setting{kind: earlyExpiration, x: beta} }

// StaleWhileRevalidate returns a value for d after its fresh life, at once, while it is
// refreshed in the background. d is of whole milliseconds; 0 is off, the default.
func StaleWhileRevalidate(d time.Duration) Strategy {
	return setting{kind: staleWhileRevalidate, d: d}
}

// StaleIfError returns a value for d after its fresh life if a load fails or is too slow (see
// [SoftTimeout]). Both windows begin where the fresh life ends; the longer one determines how
// long Redis keeps the value. d is of whole milliseconds; 0 is off, the default.
func StaleIfError(d time.Duration) Strategy { return setting{kind: staleIfError, d: d} }

// RetryAfter is how long a stale value that was returned for a failed load is returned again
// before the next load. d is of whole milliseconds; with 0 every read loads. It needs a stale
// window; see [ErrorTTL] for keys without a value. The default is 5 seconds.
func RetryAfter(d time.Duration) Strategy { return setting{kind: retryAfter, d: d} }

// SoftTimeout is how long a read that could return a stale value waits for a load. The load
// continues without it and fills the cache when it ends. d is positive and below the
// [HardTimeout]. It needs [StaleIfError], whose window limits the age of the stale value. The
// default is off.
func SoftTimeout(d time.Duration) Strategy { return setting{kind: softTimeout, d: d} }

// HardTimeout is how long a load may take before its context ends. A loader that continues all
// the same is abandoned a moment later: waiting callers get a stale value, where a strategy
// allows that, or an error, and its result is stored only if nothing has happened to its key
// since. d is positive. It can't be turned off: a load that never ends would hold its key for
// ever. The default is 30 seconds.
//
// By the default alone, a caller of one key whose context can't end, such as [context.Background],
// calls the loader in its own goroutine, unless it joins a load or may get a stale value by
// [SoftTimeout]. It has to wait for a loader that ignores the end of its context; all who have
// joined it have not. Where a HardTimeout is given, if only the same 30 seconds, no caller has to.
func HardTimeout(d time.Duration) Strategy { return setting{kind: hardTimeout, d: d} }

// NotFoundTTL is how long the cache remembers that the source does not have a value. d is of
// whole milliseconds; 0 turns it off, and every read loads. Errors of a load that match one of
// also, by errors.Is, such as sql.ErrNoRows, mean absence too, whether or not it is remembered;
// the errors returned then match both. The end of a context is no statement about a key and
// can't be in the list. The default is the TTL, at most 30 seconds.
func NotFoundTTL(d time.Duration, also ...error) Strategy {
	s := setting{kind: notFoundTTL, d: d}
	if len(also) > 0 {
		also = slices.Clone(also)
		s.also = &also
	}
	return s
}

// ErrorTTL is how long the cache returns the error of a failed load instead of loading again,
// where there is no stale value to return. d is of whole milliseconds; 0 is off, the default.
func ErrorTTL(d time.Duration) Strategy { return setting{kind: errorTTL, d: d} }

// BatchLoads collects the single keys that miss within wait, and loads them by one call of
// Source.LoadMany, of at most max keys: the calls of Get in a loop, the resolvers of a GraphQL
// query, and the refreshes in the background. It needs Source.LoadMany, which it calls in the
// place of Source.Load. A call begins wait after the first of its keys was ready to be loaded, or
// at once when it has max keys; wait is what a single miss takes longer. max is at least 2; wait
// is positive, and shorter than the [HardTimeout] and the [SoftTimeout]. The default is off.
//
// All that concerns a key stays its own: its lease, so that no other process loads it, its hard
// timeout, its error, which a *cache.BatchError can give it, and its callers, each of which may
// leave at the end of its own context. The context of the call has the values of the first
// caller's, and lives as long as a caller of any of its keys. A call of LoadMany is one load for
// WithLoadLimit, has no old value to keep, as a conditional load would, and what it sets through
// cache.CurrentLoad concerns all of its keys; if it panics, all of them fail.
//
// Functions that a call brings along, as GetOrLoad does, are not replaced, and Update loads its
// key alone. GetMany makes calls of its own, of all keys that it has to load, if they are several.
//
// A LoadMany that returns values that were not asked for, also one that GetMany has called, fills
// the local tier with them, unless a key has changed since the call began. Redis is not filled
// with them: a key that was not known before the load had no lease, which alone shows whether
// another process has changed it meanwhile. Without a local tier, and with [WriteBehind], they
// are ignored.
func BatchLoads(max int, wait time.Duration) Strategy {
	return setting{kind: batchLoads, n: int64(max), d: wait}
}

// Audit compares a sample of local hits, behind their callers' backs, with what Redis has, and some
// of these with what the source has: a measurement of whether the promise about stale values
// holds, where that matters, in production. p is the fraction of local hits that are looked at,
// above 0 and at most 1; 0.0001 costs nothing that could be measured. It needs [LRU] or [TinyLFU].
//
// Values are compared as they are encoded. What differs is looked at again after the bound of
// 2 seconds: an entry that was dropped or replaced meanwhile was stale within the bound; one that
// is still used, although Redis has another value, is stale beyond it. That is logged, with for
// how long at least and what is known of the cause, and counted by metrics.Snapshot: Audited,
// StaleWithin, StaleBeyond. Every tenth hit that is looked at is compared with the source as well, by a
// load in the background, but no more than one a second for each cache of a process; SourceAhead counts what
// the source has changed without an invalidation, which without the help of one only the TTL
// ends. A key that Redis has no longer, as after an eviction, is judged by the source alone.
// Without Redis, in a LocalOnly cache, the source is all that there is to compare with, and it
// has to load.
//
// One goroutine does all that, one hit at a time. When more come than it can look at they are
// dropped, and so are those that can't be compared, as when Redis does not answer: AuditsDropped.
// The default is off.
func Audit(p float64) Strategy { return setting{kind: audit, x: p} }

// WriteThrough writes to the source first and to the cache when that has
// succeeded. The default is to write to the cache only.
func WriteThrough() Strategy { return setting{kind: writeThrough} }

// WriteAround writes to the source and removes the key from the cache, so that values that are
// written and never read take no room in it.
func WriteAround() Strategy { return setting{kind: writeAround} }

// WriteBehind writes to the cache and to a durable queue in Redis, from which batches reach the
// source. The last of several opts of a kind is the effective one. A function of the source
// that does not return although its context has ended holds up the writes of an eighth of the
// keys, until it returns.
func WriteBehind(opts ...WriteBehindOption) Strategy {
	s := setting{kind: writeBehind}
	for _, o := range opts {
		switch o.kind {
		case batchSize:
			s.hasSize, s.size = true, o.n
		case batchDelay:
			s.hasDelay, s.delay = true, o.d
		case maxAttempts:
			s.hasAttempts, s.attempts = true, o.n
		default:
			s.empty = true
		}
	}
	return s
}

// WriteBehindOption is an argument of [WriteBehind], made by [BatchSize],
// [BatchDelay] or [MaxAttempts].
type WriteBehindOption struct {
	kind behindKind
	n    int
	d    time.Duration
}

type behindKind uint8

const (
	batchSize behindKind = iota + 1
	batchDelay
	maxAttempts
)

// BatchSize is how many keys a batch holds at most; n is positive. The default
// is 100.
func BatchSize(n int) WriteBehindOption { return WriteBehindOption{kind: batchSize, n: n} }

// BatchDelay is how long a batch that is not full waits for more keys; 0 does
// not wait. The default is 100 ms.
func BatchDelay(d time.Duration) WriteBehindOption {
	return WriteBehindOption{kind: batchDelay, d: d}
}

// MaxAttempts is how often a write that the source refuses is tried before it
// goes to the dead letters; n is positive. The default is 10.
func MaxAttempts(n int) WriteBehindOption { return WriteBehindOption{kind: maxAttempts, n: n} }
