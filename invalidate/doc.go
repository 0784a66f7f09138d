// Package invalidate says what becomes of entries that are no longer true, and how
// processes hear of it.
//
// Every process tells the others what it writes and invalidates, in the same step in
// which Redis carries it out. A process that hears drops the entry from its local tier.
// One that can't hear, since the connection is cut, frozen or late, knows it within 1.5
// seconds, uses its local tier no more, and empties it before it does again.
//
// A [Policy] is what an invalidated entry becomes, a [Transport] how this process
// hears of what others invalidate; both are options of cache.New. A [Group]
// collects patterns and tags of several caches and runs them together. A [Client]
// invalidates without a cache: for consumers of change data and administration.
package invalidate
