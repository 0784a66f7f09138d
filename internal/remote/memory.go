package remote

import (
	"bytes"
	"cmp"
	"context"
	"sync"
	"time"
)

// Memory is the Store without a server: one map that several caches may share as
// several processes share a Redis. Keys expire by time.Now, which testing/synctest
// controls.
type Memory struct {
	mu   sync.Mutex
	data map[string]item
	skew time.Duration
	fail error

	successions int // see Succeed

	queues  map[string]*memoryQueue // by the name of the log
	members map[string]map[string]int64

	listeners memoryListeners
}

type item struct {
	raw   []byte
	other bool      // holds another type than a string
	tags  *tagMarks // other: it holds the tags of an epoch
	until time.Time // zero: for ever
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{data: map[string]item{}}
}

// Fail makes every later operation answer err, until Fail(nil).
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// SetSkew sets how far the store's clock is ahead of time.Now.
func (m *Memory) SetSkew(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.skew = d
}

// PutOther gives key a value of another type, as LPUSH would.
func (m *Memory) PutOther(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data[key] = item{other: true}
	m.changedLocked(key)
}

// TTL returns the remaining lifetime of key: -2 ms without the key, -1 ms without
// an end, as PTTL does.
func (m *Memory) TTL(key string) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	it, ok := m.lookLocked(key)
	switch {
	case !ok:
		return -2 * time.Millisecond
	case it.until.IsZero():
		return -time.Millisecond
	}
	return time.Until(it.until)
}

// Close implements Store. A shared Memory stays usable for the others.
func (m *Memory) Close() {}

// Now implements Store.
func (m *Memory) Now(ctx context.Context, _ string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return 0, m.fail
	}
	return m.nowLocked(), nil
}

// Do implements Store.
func (m *Memory) Do(ctx context.Context, cmds []Command) []Reply {
	replies := make([]Reply, len(cmds))
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := 0; i < len(cmds); {
		to := min(i+cmds[i].unit(), len(cmds))
		err := cmp.Or(ctx.Err(), m.fail, checkAll(cmds[i:to], false))
		tell, took := cmds[i].Tell, false
		for ; i < to; i++ {
			c := &cmds[i]
			if replies[i].Err = err; err != nil {
				continue
			}
			replies[i] = m.doLocked(c)
			took = took || replies[i].OK
			if c.Op == Get && len(cmds) > 1 {
				replies[i].hideType()
			}
		}
		if c := &cmds[i-1]; took && tell.Channel != "" && c.Op != Get && c.Op != Head {
			m.publishLocked(tell)
		}
	}
	return replies
}

// OneNode says that there is one; see [Guard.OneNode].
func (m *Memory) OneNode() bool { return true }

func (m *Memory) doLocked(c *Command) Reply {
	rec := m.recordLocked(c.Key)
	switch c.Op {
	case Get:
		if c.Most > 0 && len(rec.Raw) > c.Most {
			return Reply{Cut: true}
		}
		return Reply{Record: rec}
	case Set:
		m.storeLocked(c)
		return Reply{OK: true}
	case Add:
		return m.addLocked(c, rec)
	case Swap:
		if c.Seen.State == Missing {
			r := m.addLocked(c, rec)
			r.Record = Record{}
			return r
		}
		if c.Seen.match(rec) {
			m.storeLocked(c)
			return Reply{OK: true}
		}
		return Reply{OK: c.isOwn(rec)}
	case Delete:
		m.deleteLocked(c.Key)
		return Reply{OK: true}
	case Release:
		if rec.State == Missing || !c.Seen.match(rec) {
			return Reply{}
		}
		m.deleteLocked(c.Key)
		return Reply{OK: true}
	case Extend:
		if rec.State == Missing || !c.Seen.match(rec) {
			return Reply{}
		}
		it := m.data[c.Key]
		it.until = until(c)
		m.data[c.Key] = it
		m.changedLocked(c.Key)
	case Head:
		if rec.State == Found {
			rec = Record{State: Found, Raw: rec.Raw[:min(HeadLen, len(rec.Raw))]}
			if len(rec.Raw) == 0 {
				rec = Record{}
			}
		}
		return Reply{Record: rec}
	case Reseal:
		return Reply{OK: m.resealLocked(c, rec)}
	}
	return Reply{OK: true}
}

func (m *Memory) addLocked(c *Command, rec Record) Reply {
	if rec.State == Missing {
		m.storeLocked(c)
		return Reply{OK: true}
	}
	if c.isOwn(rec) {
		return Reply{OK: true}
	}
	return Reply{Record: rec}
}

func (m *Memory) resealLocked(c *Command, rec Record) bool {
	if len(rec.Raw) < SealLen {
		return false
	}
	if !c.Seen.match(rec) {
		return c.isOwn(rec)
	}
	it := m.data[c.Key]
	it.raw = append(bytes.Clone(c.Frame), it.raw[SealLen:]...) // Records share the old one
	if end := until(c); !end.IsZero() && (it.until.IsZero() || end.Before(it.until)) {
		it.until = end
	}
	m.data[c.Key] = it
	m.changedLocked(c.Key)
	return true
}

// until is when the lifetime that c gives ends; zero: never.
func until(c *Command) time.Time {
	if c.TTL <= 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(c.millis()) * time.Millisecond)
}

func (m *Memory) storeLocked(c *Command) {
	it := item{raw: bytes.Clone(c.Frame), until: until(c)}
	if it.raw == nil {
		it.raw = []byte{}
	}
	if c.TTL == KeepTTL {
		// Zero, too, where there was nothing to keep.
		it.until = m.data[c.Key].until
	}
	m.data[c.Key] = it
	m.changedLocked(c.Key)
}

func (m *Memory) deleteLocked(key string) {
	if _, ok := m.data[key]; ok {
		delete(m.data, key)
		m.changedLocked(key)
	}
}

func (m *Memory) recordLocked(key string) Record {
	it, ok := m.lookLocked(key)
	switch {
	case !ok:
		return Record{}
	case it.other:
		return Record{State: WrongType}
	}
	return Record{State: Found, Raw: it.raw}
}

func (m *Memory) lookLocked(key string) (item, bool) {
	it, ok := m.data[key]
	if ok && !it.until.IsZero() && !time.Now().Before(it.until) {
		m.deleteLocked(key)
		return item{}, false
	}
	return it, ok
}
