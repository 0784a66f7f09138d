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

// Marks reads the clock; see [store.Store].
func (l *LocalClock) Marks(known Known, tags []string) Marks {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.Marks(known, time.Now().UnixMicro(), NewEra(), tags)
}

// Mark marks tags, or all entries; see [store.Store]. The channel of n is not used.
func (l *LocalClock) Mark(known Known, n NewMark) (Marks, error) {
	if err := n.Check(); err != nil {
		return Marks{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.Mark(known, time.Now().UnixMicro(), NewEra(), &n), nil
}

// State is a logical clock in memory: the state that Redis has under the clock's keys.
type State struct {
	Epoch string    // the stored text; "": none
	Tags  *TagMarks // nil: none
}

// TagMarks stands for Redis's hash of tags.
type TagMarks struct {
	era   uint64
	marks map[string]Mark
}

// Marks does what [redisstore.Redis.Marks] does, at the time now by Redis's clock.
func (c *State) Marks(known Known, now int64, era uint64, tags []string) Marks {
	e, has := c.resume(known, now, era, len(tags) > 0)
	out := Marks{Now: now}
	for _, tag := range tags {
		var mark Mark
		if c.Tags != nil {
			mark = c.Tags.mark(tag, &e, now)
		}
		out.Tags = append(out.Tags, mark)
	}
	out.Epoch = e
	c.Epoch = e.text(has)
	return out
}

// Mark does what [redisstore.Redis.Mark] does, except for the message.
func (c *State) Mark(known Known, now int64, era uint64, n *NewMark) Marks {
	e, has := c.resume(known, now, era, len(n.Tags) > 0)
	if len(n.Tags) > 0 && c.Tags == nil {
		c.Tags = &TagMarks{era: e.Era, marks: map[string]Mark{}}
	}
	for _, tag := range n.Tags {
		c.Tags.mark(tag, &e, now)
	}
	t := max(e.Clock+1, now)
	e.Clock = t
	out := Marks{Now: now}
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
		c.Tags.marks[tag] = c.Tags.marks[tag].add(n, before(i), t, now)
	}
	for _, tag := range n.Tags {
		out.Tags = append(out.Tags, c.Tags.marks[tag])
	}
	for rounds := min(len(n.Tags), forgetRounds); rounds > 0 && len(c.Tags.marks) > MaxTags; rounds-- {
		e.Floor = c.Tags.forget(e.Floor, t)
	}
	out.Epoch = e
	c.Epoch = e.text(has || len(n.Tags) > 0)
	return out
}

// resume returns the epoch to continue with, and whether it has tags. If the call is about
// tags, those that do not belong to the epoch are deleted.
func (c *State) resume(known Known, now int64, era uint64, asked bool) (e Epoch, has bool) {
	s := stored{asked: asked}
	s.Epoch, s.tags, s.ok = ReadEpoch(c.Epoch)
	s.hash = c.Tags != nil && c.Tags.era == s.Era
	e, has = s.resume(known, now, era)
	if asked && !has {
		c.Tags = nil
	}
	return e, has
}

// mark returns the mark of a tag. An impossible one is replaced, and the clock moves on if the
// mark is later.
func (h *TagMarks) mark(tag string, e *Epoch, now int64) Mark {
	m, ok := h.marks[tag]
	if ok && m.Last() > now+MaxAhead {
		m = Mark{Hard: e.Clock}
		h.marks[tag] = m
	}
	e.Clock = max(e.Clock, m.Last())
	return m
}

// forgetRounds bounds the work of forgetting in one Mark, which blocks the server meanwhile.
// Later calls forget the remaining excess.
const forgetRounds = 64

// forget removes the oldest of a sample of tags that are older than t, and all of the sample
// that then say no more than the floor, which it returns.
func (h *TagMarks) forget(floor, t int64) int64 {
	oldest, sample := t, make([]string, 0, TagSample)
	for tag, mark := range h.marks { // in any order
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
		if h.marks[tag].Last() <= floor {
			delete(h.marks, tag)
		}
	}
	return floor
}
