package engine

import (
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
)

// LocalInfo returns where an entry of the local tier comes from. ok is false if a read would not
// be answered with it.
func (c *Cache) LocalInfo(key Key, e Held) (info Info, ok bool) {
	now := local.Now()
	if c.Closed() {
		return info, false
	}
	rk, err := c.RedisKey(key)
	switch {
	case err != nil:
		return info, false
	case c.outage.unheard(now):
		ok = c.holdsInOutage(rk, e.Head, now)
	default:
		ok = now < e.Deadline && c.backend.mayUseLocal(rk, now) && c.lives(e.Meta, now)
	}
	if !ok {
		return info, false
	}
	info = localInfo(e, now)
	return info.Own(), true
}

// Invalid reports whether a local entry was invalidated by tag or by Clear.
func (c *Cache) Invalid(e *local.Head) bool {
	if e.Meta == nil {
		return false
	}
	v, _ := c.clock.Validate(e.Meta.Epoch, e.Meta.LogicalTime, e.Meta.Began, e.Meta.Tags, local.Now())
	return v == logicalclock.Invalid || v == logicalclock.Stale
}

// LoadFailed reports whether a read that could load has no answer because the load has failed,
// or could not take place.
func (it *Lookup) LoadFailed() bool {
	switch it.err.(type) {
	case nil, *missError:
		return false
	}
	return it.rk != "" && it.err != errs.ErrMiss && it.err != errs.ErrClosed
}

// Panicked reports a function of the program that has panicked, and whose failure no caller is told.
func (c *Cache) Panicked(function string, err error) { c.reports.Panicked(function, err) }

// CountDefault counts a read that the source's default has answered.
func (c *Cache) CountDefault() { c.stats.defaults.Add(1) }
