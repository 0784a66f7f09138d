package cache

import (
	"math"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/remote"
)

// touches is into how many parts the idle time of Sliding is divided. A read prolongs
// the life of its entry only if this process has not done so within one of them, and the
// local tier answers for no longer than that: so reads cost Redis a few writes in an
// idle time, however many there are. That matters where processes hear by Tracking, for
// Redis tells of every change of a life as of a change of the value.
//
//	        |<-------------- idle ------------->|
//	read    t                                       the key lives until t + idle
//	        |<- local ->|
//	read          t'                                answered locally, t' < t + idle/4
//	read                 t"                         asks Redis, which prolongs it again
//
// An entry that is read at least every three quarters of the idle time lives on.
const touches = 4

// touch prolongs the life of a record that was read.
func (c *Cache[K, V]) touch(rk string, f *found[V], rec remote.Record) {
	idle := c.policy.Sliding
	if idle == 0 || !f.timed {
		return
	}
	life := min(idle, f.keep)
	if life < time.Millisecond || !c.behind.once(rk, idle/touches) {
		return
	}
	seen := rec.Seen()
	c.behind.run(func() {
		// An entry that can't be prolonged ends earlier: a miss, no more.
		c.carryOut(c.behind.ctx, []remote.Command{{Op: remote.Extend, Key: rk, Seen: seen, TTL: life.Truncate(time.Millisecond)}})
	})
}

// touchLocal does the same where there is no Redis.
func (c *Cache[K, V]) touchLocal(key K, rk string, e *local.Entry[V], at int64) {
	idle := c.policy.Sliding
	if idle == 0 || c.remote != nil || e.Meta != nil && e.Meta.Absent || e.Deadline-at > int64(idle-idle/touches) {
		return
	}
	enc := c.encoded(rk)
	longer := &local.Entry[V]{Value: e.Value, Stored: e.Stored, Expires: e.Expires, Meta: e.Meta, Deadline: min(e.Expires, later(at, idle))}
	if e.Meta != nil && e.Expires != math.MaxInt64 && c.policy.StaleFor() > 0 {
		m := *e.Meta
		m.Stale = c.staleUntil(e.Expires, at)
		longer.Meta = &m
	}
	c.local.Replace(key, e, longer, enc)
}
