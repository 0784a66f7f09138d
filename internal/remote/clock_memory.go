package remote

import (
	"sync"
	"time"
)

// LocalClock is the logical clock of a process that has no Redis. Its methods are safe for
// concurrent use.
type LocalClock struct {
	mu    sync.Mutex
	clock clockState // guarded by mu
}

// Marks reads the clock; see [Store].
func (l *LocalClock) Marks(known Known, tags []string) Marks {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.marks(known, time.Now().UnixMicro(), newEra(), tags)
}

// Mark marks tags, or all; see [Store]. The channel of n is not used.
func (l *LocalClock) Mark(known Known, n NewMark) (Marks, error) {
	if err := n.check(); err != nil {
		return Marks{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.mark(known, time.Now().UnixMicro(), newEra(), &n), nil
}

// clockState is a logical clock in memory: what Redis has under the keys of one.
type clockState struct {
	epoch string    // as it is stored; "": none
	tags  *tagMarks // nil: none
}

// tagMarks is what stands in the place of the hash of tags.
type tagMarks struct {
	era   uint64
	marks map[string]Mark
}

// marks does what [Redis.Marks] does, at the time now by the clock of Redis.
func (c *clockState) marks(known Known, now int64, era uint64, tags []string) Marks {
	e, has := c.resume(known, now, era, len(tags) > 0)
	out := Marks{Now: now}
	for _, tag := range tags {
		var mark Mark
		if c.tags != nil {
			mark = c.tags.mark(tag, &e, now)
		}
		out.Tags = append(out.Tags, mark)
	}
	out.Epoch = e
	c.epoch = e.text(has)
	return out
}

// mark does what [Redis.Mark] does, but for the message.
func (c *clockState) mark(known Known, now int64, era uint64, n *NewMark) Marks {
	e, has := c.resume(known, now, era, len(n.Tags) > 0)
	if len(n.Tags) > 0 && c.tags == nil {
		c.tags = &tagMarks{era: e.Era, marks: map[string]Mark{}}
	}
	for _, tag := range n.Tags {
		c.tags.mark(tag, &e, now)
	}
	t := max(e.Clock+1, now)
	e.Clock = t
	out := Marks{Now: now}
	before := func(i int) int64 {
		if e.Tick-now > goneBack {
			return 0
		}
		return n.before(i)
	}
	if len(n.Tags) == 0 {
		e.All = e.All.add(n, before(0), t, now)
	}
	for i, tag := range n.Tags {
		c.tags.marks[tag] = c.tags.marks[tag].add(n, before(i), t, now)
	}
	for _, tag := range n.Tags {
		out.Tags = append(out.Tags, c.tags.marks[tag])
	}
	for rounds := min(len(n.Tags), forgetRounds); rounds > 0 && len(c.tags.marks) > MaxTags; rounds-- {
		e.Floor = c.tags.forget(e.Floor, t)
	}
	out.Epoch = e
	c.epoch = e.text(has || len(n.Tags) > 0)
	return out
}

// resume returns the epoch to go on with, and whether it has tags. If the call is about tags,
// what is no part of the epoch goes.
func (c *clockState) resume(known Known, now int64, era uint64, asked bool) (e Epoch, has bool) {
	s := stored{asked: asked}
	s.Epoch, s.tags, s.ok = parseEpoch(c.epoch)
	s.hash = c.tags != nil && c.tags.era == s.Era
	e, has = s.resume(known, now, era)
	if asked && !has {
		c.tags = nil
	}
	return e, has
}

// mark returns the mark of a tag. One that can't be is replaced, and the clock moves on to one
// that is later.
func (h *tagMarks) mark(tag string, e *Epoch, now int64) Mark {
	m, ok := h.marks[tag]
	if ok && m.last() > now+maxAhead {
		m = Mark{Hard: e.Clock}
		h.marks[tag] = m
	}
	e.Clock = max(e.Clock, m.last())
	return m
}

// forgetRounds bounds what one Mark forgets, which holds up the server meanwhile. What is
// too much then, later ones forget.
const forgetRounds = 64

// forget removes the oldest of some tags that are older than t, and all of them that
// say no more than the floor does then, which it returns.
func (h *tagMarks) forget(floor, t int64) int64 {
	oldest, sample := t, make([]string, 0, tagSample)
	for tag, mark := range h.marks { // in any order
		if len(sample) == tagSample {
			break
		}
		sample = append(sample, tag)
		oldest = min(oldest, mark.last())
	}
	if oldest == t {
		return floor
	}
	floor = max(floor, oldest)
	for _, tag := range sample {
		if h.marks[tag].last() <= floor {
			delete(h.marks, tag)
		}
	}
	return floor
}
