package engine

import (
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
)

// PeekLocal returns what a read of a key would be answered with by the local tier, without counting
// as a use.
func (c *Cache) PeekLocal(key Key) (e Held, info Info, ok bool) {
	now := local.Now()
	rk, err := c.keyOf(key)
	if err != nil || c.Closed() {
		return e, info, false
	}
	if c.outage.unheard(rk, now) {
		var is status
		e, is = c.lookInOutage(key, rk, now)
		ok = is == usable
	} else if c.backend.mayUseLocal(rk, now) {
		e, ok = c.local.Peek(key)
		ok = ok && now < e.Deadline && c.lives(e.Meta, now)
	}
	if !ok {
		return Held{}, info, false
	}
	info = localInfo(e, now)
	return e, info.Own(), true
}

// Invalid reports whether a local entry was invalidated by tag or by Clear.
func (c *Cache) Invalid(e *local.Head) bool {
	if e.Meta == nil {
		return false
	}
	v, _ := c.clockIn(e.Meta.Part).Validate(e.Meta.Epoch, e.Meta.LogicalTime, e.Meta.Began, e.Meta.Tags, local.Now())
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
