package cache

import (
	"slices"
	"time"

	"github.com/delqhi/cache/metrics"
)

// Info says where an answer came from. See [Report] and [Cache.Inspect].
type Info struct {
	// Tier that answered: metrics.Source after a load, metrics.None if nothing did.
	Tier metrics.Tier
	// Age of the value: the time since it was stored.
	Age time.Duration
	// TTL is what is left of the value's life; 0 if it has no end.
	TTL time.Duration
	// Stale: the value's life is over; it is served because a strategy allows it.
	Stale bool
	// Absent: the answer is that there is no such thing (ErrNotFound).
	Absent bool
	// Tags that the value was stored with.
	Tags []string
	// LoadErr is the failure of the source that a stale value covers.
	LoadErr error
}

// own is the caller's: nothing in it is the cache's.
func (i Info) own() Info {
	i.Tags = slices.Clone(i.Tags)
	return i
}

// Entry is a value and all that the cache knows of it.
type Entry[V any] struct {
	Value V
	Info
}
