package ctl

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// clock is the logical clock of a cache as it is in Redis, which was not changed by reading it.
type clock struct {
	state   clockState
	epoch   logicalclock.Epoch
	tagged  bool  // the epoch says that there is a hash of tags
	hash    bool  // there is one, and it is of this epoch
	tags    int64 // number of tags in it
	expires time.Duration
	now     int64 // Redis's clock, µs
}

type clockState string

const (
	clockOK      clockState = "ok"
	clockMissing clockState = "missing"
	clockDamaged clockState = "damaged"
)

// readClock reads a logical clock.
func (s *session) readClock(ctx context.Context, names store.Names) (c clock, err error) {
	if c.now, err = s.st.Now(ctx, names.Epoch); err != nil {
		return c, err
	}
	var raw, of *redis.StringCmd
	var tags *redis.IntCmd
	var ttl *redis.DurationCmd
	err = s.pipelined(ctx, func(p redis.Pipeliner) {
		raw, of = p.Get(ctx, names.Epoch), p.HGet(ctx, names.Tags, "")
		tags, ttl = p.HLen(ctx, names.Tags), p.PTTL(ctx, names.Epoch)
	})
	if err != nil {
		return c, err
	}
	switch err := raw.Err(); {
	case errors.Is(err, redis.Nil):
		c.state = clockMissing
		return c, nil
	case isWrongType(err):
		c.state = clockDamaged
		return c, nil
	case err != nil:
		return c, err
	}
	var ok bool
	c.epoch, c.tagged, ok = logicalclock.ReadEpoch(raw.Val())
	if !ok || !c.epoch.Sound() || !c.epoch.By(logicalclock.Latest(c.now)) {
		c.state = clockDamaged
		return c, nil
	}
	c.state, c.expires = clockOK, ttl.Val()
	c.hash = c.tagged && of.Err() == nil && of.Val() == strconv.FormatUint(c.epoch.ID, 10)
	if c.hash {
		c.tags = max(tags.Val()-1, 0)
	}
	return c, nil
}

// tagField is the field of a tag in the hash of tags.
const tagField = "t:"

// tombstones reads those of some tags, and returns the clock as it is with them: it is never
// behind one.
func (s *session) tombstones(ctx context.Context, names store.Names, c *clock, tags []string) ([]logicalclock.Tombstone, error) {
	out := make([]logicalclock.Tombstone, len(tags))
	if len(tags) == 0 || !c.hash {
		return out, nil
	}
	fields := make([]string, len(tags))
	for i, t := range tags {
		fields[i] = tagField + t
	}
	vals, err := s.rdb.HMGet(ctx, names.Tags, fields...).Result()
	if err != nil {
		return nil, err
	}
	for i, v := range vals {
		if raw, ok := v.(string); ok {
			out[i] = c.tombstone(raw)
		}
	}
	return out, nil
}

// tombstone parses one, as the scripts do: what can't be one invalidates everything before.
func (c *clock) tombstone(raw string) logicalclock.Tombstone {
	m, ok := logicalclock.ReadTombstone(raw)
	if !ok || m.Last() > c.now+logicalclock.MaxAhead {
		m = logicalclock.Tombstone{Hard: c.epoch.Clock}
	}
	c.epoch.Clock = max(c.epoch.Clock, m.Last())
	return m
}

// since is how long ago a logical time was: times are those of Redis's clock, or a little ahead.
func (c *clock) since(logicalTime int64) time.Duration { return micros(max(c.now-logicalTime, 0)) }

// An effect is what a tombstone does to an entry, or to all that were stored before it.
type effect struct {
	validity logicalclock.Validity
	at       int64 // the logical time of the tombstone that decides
	due      int64 // Valid, Stale: the time by Redis's clock at which the entry becomes invalid; 0: none
}

// judge returns the effect of one tombstone on an entry.
func (c *clock) judge(m logicalclock.Tombstone, logicalTime, began int64) effect {
	// An epoch that nothing but this tombstone has to do with: see ValidateBy.
	r := logicalclock.Reading{Epoch: logicalclock.Epoch{ID: 1, Clock: math.MaxInt64, All: m}, Now: c.now}
	v, until := logicalclock.ValidateBy(&r, 1, logicalTime, began, 0, 0)
	e := effect{validity: v, at: m.Last()}
	switch {
	case v == logicalclock.Stale:
		e.at = m.Soft
	case v == logicalclock.Invalid && logicalTime < m.Hard:
		e.at = m.Hard
	}
	if v != logicalclock.Invalid && until != math.MaxInt64 {
		e.due = m.When
	}
	return e
}

// describe says what a tombstone has done last.
func (c *clock) describe(m logicalclock.Tombstone) (kind string, at int64) {
	switch {
	case m.Next > max(m.Hard, m.Soft) && !m.Dated() && m.When > c.now:
		return "will be invalid in " + span(micros(m.When-c.now)), m.Next
	case m.Soft > max(m.Hard, m.Next):
		return "stale", m.Soft
	}
	return "invalid", max(m.Hard, m.Next)
}

// splitClockKey takes the key of a logical clock apart: prefix + ":{c:" + name + "}:epoch".
func splitClockKey(key string) (prefix, name string, ok bool) {
	rest, ok := strings.CutSuffix(key, "}:epoch")
	i := strings.LastIndex(rest, ":{c:")
	if !ok || i < 0 {
		return "", "", false
	}
	prefix, name = rest[:i], rest[i+len(":{c:"):]
	return prefix, name, checkName(name) == nil
}
