package cache

import (
	"time"

	"github.com/delqhi/cache/internal/engine"
)

// hit is the complete fast path of a read that the local tier answers: no exclusive lock,
// no allocation. It is kept apart from all code that passes the value's address on, which
// would move the value to the heap here as well. If the entry is due for a refresh before
// it expires, due is its age; else it is engine.NotDue.
//
// start is the local time. In a batch, nth is the number of the key since that was read, from 1, and
// the caller counts the hits; else it is 0.
func (c *Cache[K, V]) hit(key K, start int64, nth int) (v V, due time.Duration, ok bool) {
	if c.local == nil {
		return v, engine.NotDue, false
	}
	if !c.engine.LocalUsable(start) {
		return v, engine.NotDue, false // the slow path determines what may be used
	}
	e, ok := c.local.Get(key, start)
	if !ok || !c.engine.Answers(&e.Head, start) {
		return v, engine.NotDue, false
	}
	if v = e.Value; c.clone != nil {
		var err error
		if v, err = c.clone(v); err != nil {
			return v, engine.NotDue, false // the slow path reports why
		}
	}
	due = c.engine.Due(&e.Head, start)
	if nth == 0 {
		c.engine.CountLocalHits(1)
	}
	if as := c.engine.Sample(start, nth); as != 0 {
		if as&engine.Measured != 0 {
			c.hot.add(key, engine.SampleOf)
		}
		if as&engine.Audited != 0 {
			c.audit(key, start)
		}
	}
	return v, due, true
}

// audit has a hit of key compared with what Redis has. The key is copied here, so that hit does not
// pass its address on.
//
//go:noinline
func (c *Cache[K, V]) audit(key K, at int64) {
	kept := key
	c.engine.Audit(&kept, at)
}
