package ctl

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// clock is a logical clock of a cache as it is in Redis, which was not changed by reading it.
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

// clocks are the logical clocks of a cache: one for each part of its keys on a cluster, and one for
// all keys elsewhere.
type clocks struct {
	names []store.Names
	parts []clock
}

// partsOf returns the names of a cache by part of its keys.
func (s *session) partsOf(prefix, name string) []store.Names {
	return s.namesOf(prefix, name).Parted(s.st.Clustered())
}

// readClocks reads the logical clocks of a cache.
func (s *session) readClocks(ctx context.Context, prefix, name string) (l clocks, err error) {
	l.names = s.partsOf(prefix, name)
	l.parts = make([]clock, len(l.names))
	for i, names := range l.names {
		if l.parts[i].now, err = s.st.Now(ctx, names.Epoch); err != nil {
			return l, err
		}
	}
	replies := make([]clockReply, len(l.names))
	err = s.pipelined(ctx, func(p redis.Pipeliner) {
		for i, names := range l.names {
			replies[i] = clockReply{p.Get(ctx, names.Epoch), p.HGet(ctx, names.Tags, ""), p.HLen(ctx, names.Tags), p.PTTL(ctx, names.Epoch)}
		}
	})
	if err != nil {
		return l, err
	}
	for i := range l.parts {
		if err := l.parts[i].parse(&replies[i]); err != nil {
			return l, err
		}
	}
	return l, nil
}

type clockReply struct {
	raw, of *redis.StringCmd
	tags    *redis.IntCmd
	ttl     *redis.DurationCmd
}

func (c *clock) parse(r *clockReply) error {
	switch err := r.raw.Err(); {
	case errors.Is(err, redis.Nil):
		c.state = clockMissing
		return nil
	case isWrongType(err):
		c.state = clockDamaged
		return nil
	case err != nil:
		return err
	}
	var ok bool
	c.epoch, c.tagged, ok = logicalclock.ReadEpoch(r.raw.Val())
	if !ok || !c.epoch.Sound() || !c.epoch.By(logicalclock.Latest(c.now)) {
		c.state = clockDamaged
		return nil
	}
	c.state, c.expires = clockOK, r.ttl.Val()
	c.hash = c.tagged && r.of.Err() == nil && r.of.Val() == strconv.FormatUint(c.epoch.ID, 10)
	if c.hash {
		c.tags = max(r.tags.Val()-1, 0)
	}
	return nil
}

// of returns the clock of a Redis key, and its names.
func (l *clocks) of(redisKey string) (store.Names, *clock) {
	i := 0
	if len(l.parts) > 1 {
		i = int(store.PartOf(redisKey))
	}
	return l.names[i], &l.parts[i]
}

// state is that of the clocks together: damaged if one is, and missing if all are. A part of which no
// key was used yet has no clock.
func (l *clocks) state() clockState {
	state := clockMissing
	for i := range l.parts {
		switch l.parts[i].state {
		case clockDamaged:
			return clockDamaged
		case clockOK:
			state = clockOK
		}
	}
	return state
}

// used returns the clock that was used last, and cleared the one with the last invalidation of
// everything, which is one for all parts.
func (l *clocks) used() *clock {
	return l.last(func(c *clock) int64 { return c.epoch.Tick })
}

func (l *clocks) cleared() *clock {
	return l.last(func(c *clock) int64 { return c.epoch.All.Last() })
}

func (l *clocks) last(at func(*clock) int64) *clock {
	c := &l.parts[0]
	for i := range l.parts {
		if p := &l.parts[i]; p.state == clockOK && (c.state != clockOK || at(p) > at(c)) {
			c = p
		}
	}
	return c
}

// tags is the number of tags that were invalidated: each was in all parts, if all could be reached.
func (l *clocks) tags() (n int64) {
	for i := range l.parts {
		n = max(n, l.parts[i].tags)
	}
	return n
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

// splitPartClockKey takes the key of the logical clock of a part apart: prefix + ":{" + hash tag +
// "}:c:" + name + ":epoch".
func splitPartClockKey(key string) (prefix, name string, ok bool) {
	rest, ok := strings.CutSuffix(key, ":epoch")
	i := strings.LastIndex(rest, "}:c:")
	if !ok || i < 0 {
		return "", "", false
	}
	rest, name = rest[:i], rest[i+len("}:c:"):]
	if i = strings.LastIndex(rest, ":{"); i < 0 || checkName(name) != nil {
		return "", "", false
	}
	prefix = rest[:i]
	return prefix, name, slices.ContainsFunc(store.NewNames(prefix, name).Parted(true), func(n store.Names) bool { return n.Epoch == key })
}
