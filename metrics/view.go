package metrics

import "time"

// Inspection is what a cache holds for one key, for a program that has neither the type of its
// keys nor that of its values. See cache.Cache.InspectEncoded.
type Inspection struct {
	RedisKey string        // under which Redis has it
	Tier     Tier          // that has the value
	Age      time.Duration // since the value was stored
	TTL      time.Duration // left of the value's life; 0 if it has no end
	Stale    bool          // its life is over; a strategy may still use it
	Absent   bool          // it is a remembered absence, and Value is nil
	Tags     []string      // that the value was stored with
	Value    any           // of the cache's type; shared with the cache: not to be modified
}

// KeyCount is how often a key was read, about. See cache.Cache.HotKeys.
type KeyCount struct {
	Key   string // as it is encoded in Redis, without prefix and name
	Count uint64
}

// TagCount is how often a tag was invalidated, at least.
type TagCount struct {
	Tag   string
	Count uint64
}
