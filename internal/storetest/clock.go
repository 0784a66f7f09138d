package storetest

import (
	"cmp"
	"context"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"time"
)

// ReadClockAt is Marks at a given time; id is that of a new epoch.
func (m *Memory) ReadClockAt(names store.Names, known logicalclock.Known, now int64, id uint64, tags []string) logicalclock.Reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readClockLocked(names, known, now, id, tags)
}

// AddTombstonesAt is Mark at a given time; id is that of a new epoch.
func (m *Memory) AddTombstonesAt(names store.Names, known logicalclock.Known, now int64, id uint64, n logicalclock.NewTombstone) logicalclock.Reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addTombstonesLocked(names, known, now, id, &n)
}

// ReadClock implements Store.
func (m *Memory) ReadClock(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (logicalclock.Reading, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(ctx.Err(), m.fail); err != nil {
		return logicalclock.Reading{}, err
	}
	return m.readClockLocked(names, known, m.nowLocked(), logicalclock.NewEpochID(), tags), nil
}

func (m *Memory) readClockLocked(names store.Names, known logicalclock.Known, now int64, id uint64, tags []string) logicalclock.Reading {
	c := m.clockLocked(names)
	out := c.ReadClock(known, now, id, tags)
	m.putEpochLocked(names, c.Epoch)
	switch {
	case len(tags) == 0:
	case c.Tags == nil:
		m.deleteLocked(names.Tags)
	default:
		m.renewTagsLocked(names)
	}
	return out
}

// AddTombstones implements Store.
func (m *Memory) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, n logicalclock.NewTombstone) (logicalclock.Reading, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(ctx.Err(), m.fail, n.Check()); err != nil {
		return logicalclock.Reading{}, err
	}
	return m.addTombstonesLocked(names, known, m.nowLocked(), logicalclock.NewEpochID(), &n), nil
}

func (m *Memory) addTombstonesLocked(names store.Names, known logicalclock.Known, now int64, id uint64, n *logicalclock.NewTombstone) logicalclock.Reading {
	c := m.clockLocked(names)
	out := c.AddTombstones(known, now, id, n)
	if len(n.Tags) > 0 {
		it, _ := m.lookLocked(names.Tags)
		m.putLocked(names.Tags, item{other: true, tags: c.Tags, until: it.until})
		m.renewTagsLocked(names)
	}
	m.putEpochLocked(names, c.Epoch)
	if n.Channel != "" {
		message := string(out.AppendText([]byte(n.Message)))
		m.publishLocked(names.Epoch, store.Notify{Channel: n.Channel, Message: message, Sharded: m.cluster != nil})
		m.publishLocked(names.Epoch, store.Notify{Channel: store.ControlChannel(n.Channel), Message: message, Sharded: m.cluster != nil})
	}
	return out
}

func (m *Memory) clockLocked(names store.Names) logicalclock.State {
	it, _ := m.lookLocked(names.Tags)
	return logicalclock.State{Epoch: string(m.recordLocked(names.Epoch).Raw), Tags: it.tags}
}

func (m *Memory) putEpochLocked(names store.Names, epoch string) {
	m.putLocked(names.Epoch, item{raw: []byte(epoch), until: time.Now().Add(logicalclock.ClockLife)})
}

// renewTagsLocked renews the lifetime of the tags, once an hour.
func (m *Memory) renewTagsLocked(names store.Names) {
	if it := m.data[names.Tags]; time.Until(it.until) < logicalclock.ClockLife-time.Hour {
		it.until = time.Now().Add(logicalclock.ClockLife)
		m.data[names.Tags] = it
	}
}

func (m *Memory) putLocked(key string, it item) {
	m.data[key] = it
	m.changedLocked(key)
}

func (m *Memory) nowLocked() int64 { return time.Now().Add(m.skew).UnixMicro() }
