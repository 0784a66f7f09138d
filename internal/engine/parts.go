package engine

import (
	"strings"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
)

// On a cluster each part of the keys has a logical clock of its own; see store.Names.Parted. A
// version is one of the clock of its key's part, and is held against no other.

// part returns the number of the part that a Redis key is in. The lock of a key is in the part of that
// key, wherever it is stored: what it says of the logical clock is about the key.
func (c *Cache) part(rk string) uint8 {
	if len(c.clocks) <= 1 {
		return 0
	}
	if enc, ok := strings.CutPrefix(rk, c.names.Lock); ok {
		rk = c.names.Data + enc
	}
	return store.PartOf(rk)
}

// clockIn returns this process's copy of the logical clock of a part.
func (c *Cache) clockIn(part uint8) *logicalclock.Table {
	if part == 0 {
		return c.clock // without a look at a slice: local hits come here
	}
	return c.clocks[part]
}

// clockOf is clockIn for the part of a key.
func (c *Cache) clockOf(rk string) *logicalclock.Table { return c.clockIn(c.part(rk)) }

// knownVersion returns the logical time for a key as far as this process knows it. ok is false if it
// does not.
func (c *Cache) knownVersion(rk string) (s version, ok bool) {
	s.part = c.part(rk)
	s.epoch, s.time, ok = c.clockIn(s.part).Version()
	return s, ok
}
