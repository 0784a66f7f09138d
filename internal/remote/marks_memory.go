package remote

import (
	"cmp"
	"context"
	"time"
)

// MarksAt is Marks at a given time; era is that of a new epoch.
func (m *Memory) MarksAt(names Names, known Known, now int64, era uint64, tags []string) Marks {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.marksLocked(names, known, now, era, tags)
}

// MarkAt is Mark at a given time; era is that of a new epoch.
func (m *Memory) MarkAt(names Names, known Known, now int64, era uint64, n NewMark) Marks {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.markLocked(names, known, now, era, &n)
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
	c := m.clockLocked(names)
	out := c.marks(known, now, era, tags)
	m.putEpochLocked(names, c.epoch)
	switch {
	case len(tags) == 0:
	case c.tags == nil:
		m.deleteLocked(names.Tags)
	default:
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
	c := m.clockLocked(names)
	out := c.mark(known, now, era, n)
	if len(n.Tags) > 0 {
		it, _ := m.lookLocked(names.Tags)
		m.putLocked(names.Tags, item{other: true, tags: c.tags, until: it.until})
		m.renewTagsLocked(names)
	}
	m.putEpochLocked(names, c.epoch)
	if n.Channel != "" {
		m.publishLocked(Tell{Channel: n.Channel, Message: string(out.AppendText([]byte(n.Message)))})
	}
	return out
}

func (m *Memory) clockLocked(names Names) clockState {
	it, _ := m.lookLocked(names.Tags)
	return clockState{epoch: string(m.recordLocked(names.Epoch).Raw), tags: it.tags}
}

func (m *Memory) putEpochLocked(names Names, epoch string) {
	m.putLocked(names.Epoch, item{raw: []byte(epoch), until: time.Now().Add(ClockLife)})
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
