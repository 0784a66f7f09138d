package cache

import (
	"time"

	"github.com/delqhi/cache/metrics"
)

// Info says where a result came from. See [Report] and [Cache.Inspect].
type Info struct {
	// Tier that answered: metrics.Source after a load, metrics.None if none did.
	Tier metrics.Tier
	// Age of the value: the time since it was stored. Of what another program has stored (see
	// codec.Legacy) it is the greatest Duration if it is not known.
	Age time.Duration
	// TTL is the remaining fresh life of the value; 0 if it does not expire.
	TTL time.Duration
	// Stale: the value's fresh life is over; it is served because a strategy allows it.
	Stale bool
	// Absent: the value does not exist in the source (ErrNotFound).
	Absent bool
	// Tags that the value was stored with.
	Tags []string
	// LoadErr is the load's error if a stale value, or that of Source.Default, is served instead.
	LoadErr error
}

// Entry is a value and its Info.
type Entry[V any] struct {
	Value V
	Info
}
