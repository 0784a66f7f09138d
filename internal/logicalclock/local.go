package logicalclock

import (
	"sync"
	"time"
)

// LocalClock is the logical clock of a process that has no Redis. Its methods are safe for
// concurrent use.
type LocalClock struct {
	mu    sync.Mutex
	clock State // guarded by mu
}

// ReadClock reads the clock; see [store.Store].
func (l *LocalClock) ReadClock(known Known, tags []string) Reading {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.ReadClock(known, time.Now().UnixMicro(), NewEpochID(), tags)
}

// AddTombstones marks tags, or all entries; see [store.Store]. The channel of n is not used.
func (l *LocalClock) AddTombstones(known Known, n NewTombstone) (Reading, error) {
	if err := n.Check(); err != nil {
		return Reading{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.AddTombstones(known, time.Now().UnixMicro(), NewEpochID(), &n), nil
}

// State is a logical clock in memory: the state that Redis has under the clock's keys.
type State struct {
	Epoch string         // the stored text; "": none
	Tags  *TagTombstones // nil: none
}

// TagTombstones stands for Redis's hash of tags.
type TagTombstones struct {
	epoch      uint64
	tombstones map[string]Tombstone
}

// ReadClock does what [redisstore.Redis.ReadClock] does, at the time now by Redis's clock.
func (c *State) ReadClock(known Known, now int64, id uint64, tags []string) Reading {
	out := Reading{Now: now, Found: c.tick(now)}
	e, has := c.resume(known, now, id, len(tags) > 0)
	for _, tag := range tags {
		var mark Tombstone
		if c.Tags != nil {
			mark = c.Tags.tombstone(tag, &e, now)
		}
		out.Tags = append(out.Tags, mark)
	}
	out.Epoch = e
	c.Epoch = e.text(has)
	return out
}

// AddTombstones does what [redisstore.Redis.AddTombstones] does, except for the message.
func (c *State) AddTombstones(known Known, now int64, id uint64, n *NewTombstone) Reading {
	found := c.tick(now)
	e, has := c.resume(known, now, id, len(n.Tags) > 0)
	if len(n.Tags) > 0 && c.Tags == nil {
		c.Tags = &TagTombstones{epoch: e.ID, tombstones: map[string]Tombstone{}}
	}
	for _, tag := range n.Tags {
		c.Tags.tombstone(tag, &e, now)
	}
	t := max(e.Clock+1, now)
	e.Clock = t
	out := Reading{Now: now, Found: found}
	before := func(i int) int64 {
		if e.Tick-now > GoneBack {
			return 0
		}
		return n.before(i)
	}
	if len(n.Tags) == 0 {
		e.All = e.All.add(n, before(0), t, now)
	}
	for i, tag := range n.Tags {
		c.Tags.tombstones[tag] = c.Tags.tombstones[tag].add(n, before(i), t, now)
	}
	for _, tag := range n.Tags {
		out.Tags = append(out.Tags, c.Tags.tombstones[tag])
	}
	for rounds := min(len(n.Tags), forgetRounds); rounds > 0 && len(c.Tags.tombstones) > MaxTags; rounds-- {
		e.LowWatermark = c.Tags.forget(e.LowWatermark, t)
	}
	out.Epoch = e
	c.Epoch = e.text(has || len(n.Tags) > 0)
	return out
}

// tick returns the stored tick, 0 if there is no valid epoch.
func (c *State) tick(now int64) int64 {
	e, _, ok := ReadEpoch(c.Epoch)
	if !ok || !e.Sound() || !e.By(now+MaxAhead) {
		return 0
	}
	return e.Tick
}

// resume returns the epoch to continue with, and whether it has tags. If the call is about
// tags, those that do not belong to the epoch are deleted.
func (c *State) resume(known Known, now int64, id uint64, asked bool) (e Epoch, has bool) {
	s := stored{asked: asked}
	s.Epoch, s.tags, s.ok = ReadEpoch(c.Epoch)
	s.hash = c.Tags != nil && c.Tags.epoch == s.ID
	e, has = s.resume(known, now, id)
	if asked && !has {
		c.Tags = nil
	}
	return e, has
}

// tombstone returns the tombstone of a tag. An impossible one is replaced, and the clock moves on if the
// mark is later.
func (h *TagTombstones) tombstone(tag string, e *Epoch, now int64) Tombstone {
	m, ok := h.tombstones[tag]
	if ok && m.Last() > now+MaxAhead {
		m = Tombstone{Hard: e.Clock}
		h.tombstones[tag] = m
	}
	e.Clock = max(e.Clock, m.Last())
	return m
}

// forgetRounds bounds the work of forgetting in one Mark, which blocks the server meanwhile.
// Later calls forget the remaining excess.
const forgetRounds = 64

// forget removes the oldest of a sample of tags that are older than t, and all of the sample
// that then say no more than the floor, which it returns.
func (h *TagTombstones) forget(floor, t int64) int64 {
	oldest, sample := t, make([]string, 0, TagSample)
	for tag, mark := range h.tombstones { // in any order
		if len(sample) == TagSample {
			break
		}
		sample = append(sample, tag)
		oldest = min(oldest, mark.Last())
	}
	if oldest == t {
		return floor
	}
	floor = max(floor, oldest)
	for _, tag := range sample {
		if h.tombstones[tag].Last() <= floor {
			delete(h.tombstones, tag)
		}
	}
	return floor
}
