// Package memory tests the cache on an in-memory store, mostly in bubbles of testing/synctest:
// interleavings of several processes that servers produce too seldom, the program's own code,
// and what depends on time. It has tests only.
package memory
