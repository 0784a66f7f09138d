// Package strategy holds the policies of a cache as plain values: what is kept where, for how
// long, when it is loaded again, and how writes reach the source.
//
//	cache.WithStrategy(
//		strategy.LRU(10_000),                // a local tier
//		strategy.TTL(10*time.Minute),        // how long a value is fresh
//		strategy.RefreshAhead(0.8),          // loaded anew before it ends
//		strategy.StaleIfError(time.Hour))    // used a while longer if the source fails
//
// Strategies are merged by kind: the last of a kind holds, so that a list can
// start from shared defaults and change some of them. [LRU] and [TinyLFU] are of
// one kind, and so are [TTL] and [Forever], and [WriteThrough], [WriteAround] and
// [WriteBehind]. Every other constructor is a kind of its own. Zero turns off what can be off and
// where it can mean nothing else: [Jitter], [StaleWhileRevalidate],
// [StaleIfError], [RetryAfter], [NotFoundTTL] and [ErrorTTL].
//
// What a list does not mention has a default:
//
//	TTL          5 minutes, up to a tenth less by Jitter
//	LocalTTL     the TTL, at most 1 minute
//	NotFoundTTL  the TTL, at most 30 seconds
//	HardTimeout  30 seconds
//	RetryAfter   5 seconds
//	WriteBehind  batches of 100 keys or 100 ms, 10 attempts
//
// and everything else is off.
//
// [Compile] turns a list into a [Policy], or reports all that is wrong with it: invalid values,
// and strategies that contradict each other or would have no effect. No value is ever rounded
// or corrected. A Policy decides without Redis, clock or random source of its own: the caller
// passes in ages and random numbers.
//
// Lifetimes that Redis keeps have its resolution, whole milliseconds.
package strategy
