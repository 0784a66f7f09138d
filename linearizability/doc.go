// Package linearizability checks that a cache without a local tier is linearizable for
// each key: whatever several processes do to a key at the same time, each operation
// takes effect at one moment between its call and its return. The checker is
// porcupine (https://github.com/anishathalye/porcupine), which this module, apart from
// the cache's own, is there to keep out of everybody's dependencies.
package linearizability
