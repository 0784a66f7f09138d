package metrics

import "time"

// Inspection is what a cache knows of one key, for a program that knows neither
// the type of its keys nor that of its values. See cache.Cache.InspectEncoded.
type Inspection struct {
	RedisKey string        // under which Redis has it
	Tier     Tier          // that answered
	Age      time.Duration // since the value was stored
	TTL      time.Duration // left of the value's life; 0 if it has no end
	Stale    bool          // its life is over; a strategy may still use it
	Absent   bool          // the answer is that there is no such thing, and Value is nil
	Tags     []string      // that the value was stored with
	Value    any           // of the cache's type; shared with the cache: not to be modified
}

// TagCount is how often a tag was invalidated, at least.
type TagCount struct {
	Tag   string
	Count uint64
}
