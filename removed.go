package cache

import (
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/usercode"
)

// Reason is why a value has left the local tier; see [Source].Removed.
type Reason uint8

const (
	Evicted     Reason = Reason(local.Evicted)     // for want of room, or because the cache was closed
	Expired     Reason = Reason(local.Expired)     // its life in the local tier was over
	Invalidated Reason = Reason(local.Invalidated) // by this process or by another one, also by a Delete or write there, or because notifications may have been lost
	Replaced    Reason = Reason(local.Replaced)    // by another value, or a remembered absence
	Deleted     Reason = Reason(local.Deleted)     // by Delete of this process (with invalidate.Tracking it may be Invalidated), a write of a value whose life is over, or a load that found none
)

// String is "evicted", "expired", "invalidated", "replaced" or "deleted".
func (r Reason) String() string {
	switch r {
	case Evicted:
		return "evicted"
	case Expired:
		return "expired"
	case Invalidated:
		return "invalidated"
	case Replaced:
		return "replaced"
	case Deleted:
		return "deleted"
	}
	return "unknown"
}

// watchRemoved has the source's function called for values that leave the local tier.
func (c *Cache[K, V]) watchRemoved(removed func(K, V, Reason)) {
	if removed == nil || c.local == nil {
		return
	}
	c.local.OnLeave(func(k K, e *local.Entry[V], why local.Reason) {
		if err := usercode.Do(func() { removed(k, e.Value, Reason(why)) }); err != nil {
			c.engine.Panicked("Source.Removed", err)
		}
	}, c.engine.Invalid)
}
