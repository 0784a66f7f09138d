package engine

import (
	"math"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
)

// touches is the number of parts that the idle time of Sliding is divided into. A read
// prolongs the life of its entry only if this process has not done so within one part, and
// the local tier answers for no longer than that: so reads cost Redis a few writes in an
// idle time, however many there are. That matters with the Tracking transport, for which
// Redis sends a notification for every change of a TTL as for a change of the value.
//
//	        |<-------------- idle ------------->|
//	read    t                                       the key lives until t + idle
//	        |<- local ->|
//	read          t'                                answered locally, t' < t + idle/4
//	read                 t"                         asks Redis, which prolongs it again
//
// An entry that is read at least every three quarters of the idle time does not expire by it.
const touches = 4

// touch prolongs the life of a record that was read.
func (c *remote) touch(rk string, f *decoded, rec store.Record) {
	idle := c.policy.Sliding
	if idle == 0 || !f.timed || f.legacy {
		return
	}
	if life := min(idle, f.retention); life >= time.Millisecond {
		c.refresher.prolong(rk, rec, life.Truncate(time.Millisecond), idle/touches)
	}
}

const (
	// prolongedAtOnce bounds the lives that are prolonged in one round trip.
	prolongedAtOnce = 256
	// maxProlonged bounds the lives that wait to be prolonged. One over the bound is left
	// to the next reader.
	maxProlonged = 100_000
)

// prolong prolongs the life of a record in the background, unless that was done less than
// every ago. Records that are read at about the same time are prolonged together.
func (b *refresher) prolong(rk string, rec store.Record, life, every time.Duration) {
	now := local.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.prolonged) >= maxProlonged || !b.throttleLocked(rk, now, every) {
		return
	}
	b.prolonged = append(b.prolonged, store.Command{Op: store.Extend, Key: rk, Seen: rec.CASToken(), TTL: life})
	if !b.prolonging {
		b.prolonging = true
		b.wg.Go(b.prolongAll)
	}
}

func (b *refresher) prolongAll() {
	for {
		b.mu.Lock()
		n := min(len(b.prolonged), prolongedAtOnce)
		if n == 0 || b.closed {
			b.prolonged, b.prolonging = nil, false
			b.mu.Unlock()
			return
		}
		cmds := b.prolonged[:n:n]
		b.prolonged = b.prolonged[n:]
		b.mu.Unlock()
		for i, reply := range b.prolongs(b.ctx, cmds) {
			if reply.Err != nil {
				// The next reader tries again. If there is none in time, the entry
				// expires earlier, which only costs a miss.
				b.untouched(cmds[i].Key)
			}
		}
	}
}

func (b *refresher) untouched(rk string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.touched.Remove(rk)
}

// slid reports whether a local entry of a cache whose values are in the local tier only is to be
// prolonged: its life, or, if that can't become longer, the time in which it may be served stale.
func (c *Cache) slid(e *local.Head, at int64) bool {
	idle := c.policy.Sliding
	end := e.Deadline
	if end >= e.Expires && e.Meta != nil && !e.Meta.Absent && e.Meta.Stale < later(e.Expires, c.policy.StaleFor()) {
		end = e.Meta.Stale
	} else if end >= e.Expires {
		return false
	}
	return end-at <= int64(idle-idle/touches)
}

// touchLocal is touch in a cache whose values are in the local tier only. An entry that was put
// during an outage ends when that says, however often it is read.
func (c *Cache) touchLocal(key Key, rk string, e Held, at int64) {
	idle := c.policy.Sliding
	if !c.slidesLocally || e.Meta != nil && (e.Meta.Absent || e.Meta.Outage != local.None) || !c.slid(e.Head, at) {
		return
	}
	enc := c.encoded(rk)
	longer := Held{Head: &local.Head{Stored: e.Stored, Expires: e.Expires, Meta: e.Meta, Deadline: min(e.Expires, later(at, idle))}, Value: e.Value}
	if e.Meta != nil && e.Expires != math.MaxInt64 && c.policy.StaleFor() > 0 {
		m := *e.Meta
		m.Stale = c.staleUntil(e.Expires, at)
		longer.Meta = &m
	}
	c.local.Replace(key, e, longer, enc)
}
