package remote

import (
	"cmp"
	"context"
	"time"
)

// tagMarks is what Memory holds in the place of the hash of tags.
type tagMarks struct {
	era   uint64
	marks map[string]Mark
}

// Marks implements Store.
func (m *Memory) Marks(ctx context.Context, names Names, known Known, tags []string) (Marks, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(ctx.Err(), m.fail); err != nil {
		return Marks{}, err
	}
	return m.marksLocked(names, known, m.nowLocked(), newEra(), tags), nil
}

func (m *Memory) marksLocked(names Names, known Known, now int64, era uint64, tags []string) Marks {
	e, has, hash := m.resumeLocked(names, known, now, era, len(tags) > 0)
	out := Marks{Epoch: e, Now: now}
	for _, tag := range tags {
		var mark Mark
		if hash != nil {
			mark = hash.mark(tag, &e, now)
		}
		out.Tags = append(out.Tags, mark)
	}
	out.Epoch = e
	m.putEpochLocked(names, &e, has)
	if hash != nil {
		m.renewTagsLocked(names)
	}
	return out
}

// Mark implements Store.
func (m *Memory) Mark(ctx context.Context, names Names, known Known, n NewMark) (Marks, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(ctx.Err(), m.fail, n.check()); err != nil {
		return Marks{}, err
	}
	return m.markLocked(names, known, m.nowLocked(), newEra(), &n), nil
}

func (m *Memory) markLocked(names Names, known Known, now int64, era uint64, n *NewMark) Marks {
	e, has, hash := m.resumeLocked(names, known, now, era, len(n.Tags) > 0)
	if len(n.Tags) > 0 && hash == nil {
		hash = &tagMarks{era: e.Era, marks: map[string]Mark{}}
	}
	for _, tag := range n.Tags {
		hash.mark(tag, &e, now)
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
		hash.marks[tag] = hash.marks[tag].add(n, before(i), t, now)
	}
	for _, tag := range n.Tags {
		out.Tags = append(out.Tags, hash.marks[tag])
	}
	for rounds := min(len(n.Tags), forgetRounds); rounds > 0 && len(hash.marks) > maxTags; rounds-- {
		e.Floor = hash.forget(e.Floor, t)
	}
	if len(n.Tags) > 0 {
		it, _ := m.lookLocked(names.Tags)
		m.putLocked(names.Tags, item{other: true, tags: hash, until: it.until})
		m.renewTagsLocked(names)
	}
	m.putEpochLocked(names, &e, has || len(n.Tags) > 0)
	out.Epoch = e
	if n.Tell.Channel != "" {
		m.publishLocked(Tell{n.Tell.Channel, string(out.AppendText([]byte(n.Tell.Message)))})
	}
	return out
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

// resumeLocked returns the epoch to go on with, whether it has tags, and these if they are
// asked for.
func (m *Memory) resumeLocked(names Names, known Known, now int64, era uint64, asked bool) (e Epoch, has bool, hash *tagMarks) {
	s := stored{asked: asked}
	s.Epoch, s.tags, s.ok = parseEpoch(string(m.recordLocked(names.Epoch).Raw))
	it, _ := m.lookLocked(names.Tags)
	s.hash = it.tags != nil && it.tags.era == s.Era
	e, has = s.resume(known, now, era)
	switch {
	case !asked:
		return e, has, nil
	case !has:
		m.deleteLocked(names.Tags)
		return e, false, nil
	}
	return e, true, it.tags
}

func (m *Memory) putEpochLocked(names Names, e *Epoch, tags bool) {
	m.putLocked(names.Epoch, item{raw: []byte(e.text(tags)), until: time.Now().Add(ClockLife)})
}

// renewTagsLocked renews the life of the tags, once an hour.
func (m *Memory) renewTagsLocked(names Names) {
	if it := m.data[names.Tags]; time.Until(it.until) < ClockLife-time.Hour {
		it.until = time.Now().Add(ClockLife)
		m.data[names.Tags] = it
	}
}

func (m *Memory) putLocked(key string, it item) {
	m.data[key] = it
	m.changedLocked(key)
}

func (m *Memory) nowLocked() int64 { return time.Now().Add(m.skew).UnixMicro() }
