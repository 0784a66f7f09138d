package engine

import (
	"context"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
)

// version is the version of the logical clock that a record carries: the one that was known
// before the write or load of the record began. It may be old, which only makes the record
// invalid sooner than necessary.
type version struct {
	epoch uint64
	time  int64
	part  uint8 // of the clock
}

// writeVersion is version for a write.
func (c *remote) writeVersion(ctx context.Context, rk string) (s version, err error) {
	s.part = c.part(rk)
	s.epoch, s.time, err = c.coherence.Part(s.part).WriteVersion(ctx)
	return s, err
}

// validate sets the status of records that were invalidated by tag or by Clear as of the local time
// now. Records are validated together, so that missing tombstones are fetched in one request for each
// part.
func (c *remote) validate(ctx context.Context, fs []*decoded, now int64) {
	var unknown []*decoded
	for _, f := range fs {
		if f.status == usable || f.status == stale {
			if !c.validateOne(ctx, f, now) {
				unknown = append(unknown, f)
			}
		}
	}
	for len(unknown) > 0 {
		part := unknown[0].part
		var of, others []*decoded
		for _, f := range unknown {
			if f.part == part {
				of = append(of, f)
			} else {
				others = append(others, f)
			}
		}
		c.validateUnknown(ctx, c.coherence.Part(part), of)
		unknown = others
	}
}

// validateUnknown validates records of one part, of whose tags some tombstones are not known.
func (c *remote) validateUnknown(ctx context.Context, part *coherence.Part, unknown []*decoded) {
	var tags []string
	var asked map[string]bool
	for _, f := range unknown {
		for _, t := range f.raw.Tags {
			if !asked[t] {
				if asked == nil {
					asked = map[string]bool{}
				}
				asked[t] = true
				tags = append(tags, t)
			}
		}
	}
	err := part.FetchTombstones(ctx, tags)
	now := local.Now()
	for _, f := range unknown {
		switch {
		case err != nil:
			f.status, f.err = unavailable, err
		case c.validateOne(ctx, f, now):
		case f.legacy:
			f.status = foreign // of no use until the clock is known
		default:
			// The tombstones just fetched are outdated again already.
			c.findBegan(ctx, f)
			v, until, err := part.ValidateNow(ctx, f.raw.Epoch, f.raw.LogicalTime, f.began, f.raw.Tags)
			f.err = err
			c.applyValidity(f, v, until)
		}
	}
}

// validateOne validates one record, and reports whether it could.
func (c *remote) validateOne(ctx context.Context, f *decoded, now int64) bool {
	if f.legacy {
		return c.validateLegacy(ctx, f)
	}
	v, until := c.clockIn(f.part).Validate(f.raw.Epoch, f.raw.LogicalTime, f.began, f.raw.Tags, now)
	if v == logicalclock.Invalid && c.clockIn(f.part).AnyDated() && c.findBegan(ctx, f) {
		v, until = c.clockIn(f.part).Validate(f.raw.Epoch, f.raw.LogicalTime, f.began, f.raw.Tags, now)
	}
	if v == logicalclock.Unknown {
		return false
	}
	c.applyValidity(f, v, until)
	return true
}

// findBegan determines when a value began, if that is not known yet. With several nodes, each
// has a clock of its own; the time of the node with the logical clock may have to be requested.
func (c *remote) findBegan(ctx context.Context, f *decoded) bool {
	if f.began != 0 || f.before <= 0 {
		return false
	}
	clock := c.coherence.Names(f.part).Epoch
	now, err := c.client.Now(ctx, clock)
	if err == nil {
		f.began = f.beganBy(now - c.client.ClockError(clock))
	}
	return f.began != 0
}

// beganBy returns when a value began, by a clock that shows now, as far as before says that. It is
// at least 1: 0 means that it is not known.
func (f *decoded) beganBy(now int64) int64 {
	return max(now-f.before-(local.Now()-f.beforeAt+999)/1000, 1)
}

func (c *remote) applyValidity(f *decoded, v logicalclock.Validity, until int64) {
	switch v {
	case logicalclock.Unknown:
		f.status = unavailable
	case logicalclock.Invalid:
		f.status, f.gone = expired, true
	case logicalclock.Stale:
		// The tombstone says that the value is stale, but not since when: it counts as
		// stale from now on.
		if f.status == usable {
			f.status, f.left = stale, min(f.left, 0)
		}
		if f.ans.absent != nil || !f.timed || f.retention <= 0 || c.policy.StaleFor() == 0 {
			f.status = expired
		}
	case logicalclock.Valid:
		f.until = until
	}
}
