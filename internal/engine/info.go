package engine

import (
	"slices"
	"time"

	"github.com/delqhi/cache/metrics"
)

// Info says where a result came from; package cache documents its fields.
type Info struct {
	Tier metrics.Tier
	// Age of the value: the time since it was stored.
	Age time.Duration
	// TTL is the remaining fresh life of the value; 0 if it does not expire.
	TTL time.Duration
	// Stale: the value's fresh life is over; it is served because a strategy allows it.
	Stale bool
	// Absent: the value does not exist in the source (errs.ErrNotFound).
	Absent bool
	// Tags that the value was stored with.
	Tags []string
	// LoadErr is the load's error if a stale value is served instead.
	LoadErr error
}

// Own returns a copy for the caller, which shares no memory with the cache.
func (i Info) Own() Info {
	i.Tags = slices.Clone(i.Tags)
	return i
}
