// Package invalidate defines how entries of a cache are invalidated, and how processes receive
// the invalidations of other processes.
//
// Every process publishes what it writes and invalidates, in the same step in which Redis
// executes it. A process that receives the message drops the entry from its local tier. A
// process that can't receive messages, because its connection is cut, frozen or late, detects
// that within 1.5 seconds, stops using its local tier, and empties it before it uses it again.
//
// A [Policy] is what becomes of an invalidated entry, a [Transport] how this process receives
// the invalidations of others; both are options of cache.New. A [Group] collects patterns and
// tags of several caches and invalidates them together. A [Client] invalidates without a cache:
// for consumers of change data and administration.
package invalidate
