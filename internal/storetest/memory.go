// Package storetest is a Redis in memory for tests: a [store.Store] and [store.Queue] without a
// server, deterministic under testing/synctest.
package storetest

import (
	"bytes"
	"cmp"
	"context"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"slices"
	"sync"
	"time"
)

// Memory is a Store without a server: one map that several caches may share as several
// processes share a Redis. Keys expire by time.Now, which testing/synctest controls.
type Memory struct {
	mu   sync.Mutex
	data map[string]item
	skew time.Duration
	fail error

	successions int // see Succeed

	queues  map[string]*memoryQueue // by the name of the log
	members map[string]map[string]int64

	listeners memoryListeners
	cluster   *memoryCluster // nil: it is one server
}

type item struct {
	raw   []byte
	other bool                        // holds a type other than a string
	tags  *logicalclock.TagTombstones // other: it holds the tags of an epoch
	until time.Time                   // zero: no expiry
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{data: map[string]item{}}
}

// Fail makes every later operation fail with err, until Fail(nil).
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

// TTL returns the remaining lifetime of key, as PTTL does: -2 ms if the key does not exist, -1
// ms if it does not expire.
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

// Close implements Store. A shared Memory stays usable for other caches.
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
func (m *Memory) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	replies := make([]store.Reply, len(cmds))
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := 0; i < len(cmds); {
		to := min(i+cmds[i].Unit(), len(cmds))
		err := cmp.Or(ctx.Err(), m.fail, store.CheckAll(cmds[i:to], false))
		tell, took := cmds[i].Notify, false
		for ; i < to; i++ {
			c := &cmds[i]
			if replies[i].Err = err; err != nil {
				continue
			}
			sign := store.SignOf(m.recordLocked(c.Key).Raw)
			replies[i] = m.doLocked(c)
			m.heldLocked(ctx, c)
			m.mendLocked(ctx, c, &replies[i])
			if c.Notify.Awaited {
				for _, channel := range store.ToldBy(sign, c.Notify.Channel) {
					if replies[i].OK {
						m.publishLocked(c.Key, store.Notify{Channel: channel, Message: c.Notify.Message, Sharded: c.Notify.Sharded})
					}
				}
				continue
			}
			took = took || replies[i].OK
			if c.Op == store.Get && len(cmds) > 1 {
				replies[i].HideType()
			}
		}
		if first := (store.Command{Op: cmds[i-1].Op, Notify: tell}); took && first.Notifies() {
			m.publishLocked(cmds[i-1].Key, tell)
		}
	}
	return replies
}

// OneNode reports true: there is one node; see [client.Client.OneNode].
func (m *Memory) OneNode() bool { return true }

func (m *Memory) doLocked(c *store.Command) store.Reply {
	rec := m.recordLocked(c.Key)
	switch c.Op {
	case store.Get:
		if c.Most > 0 && len(rec.Raw) > c.Most {
			return store.Reply{Cut: true}
		}
		return store.Reply{Record: rec}
	case store.Set:
		m.storeLocked(c)
		return store.Reply{OK: true}
	case store.SetNX:
		return m.addLocked(c, rec)
	case store.CompareAndSet:
		if c.Seen.State == store.Missing {
			r := m.addLocked(c, rec)
			r.Record = store.Record{}
			return r
		}
		if c.Seen.Match(rec) {
			m.storeLocked(c)
			if sign := store.SignOf(rec.Raw); store.IsLease(c.Frame) && len(c.Frame) == store.SealLen {
				m.signLocked(c.Key, sign)
			}
			return store.Reply{OK: true}
		}
		return store.Reply{OK: c.IsOwn(rec)}
	case store.Delete:
		m.deleteLocked(c.Key)
		return store.Reply{OK: true}
	case store.CompareAndDelete:
		if rec.State == store.Missing || !c.Seen.Match(rec) {
			return store.Reply{}
		}
		m.deleteLocked(c.Key)
		return store.Reply{OK: true}
	case store.Extend:
		if rec.State == store.Missing || !c.Seen.Match(rec) {
			return store.Reply{}
		}
		it := m.data[c.Key]
		it.until = until(c)
		m.data[c.Key] = it
		m.changedLocked(c.Key)
	case store.GetHeader:
		if rec.State == store.Found {
			rec = store.Record{State: store.Found, Raw: rec.Raw[:min(store.HeadLen, len(rec.Raw))]}
			if len(rec.Raw) == 0 {
				rec = store.Record{}
			}
		}
		return store.Reply{Record: rec}
	case store.Adopt:
		return m.adoptLocked(c, rec)
	case store.PatchHeader:
		return store.Reply{OK: m.resealLocked(c, rec)}
	case store.AwaitLease:
		if !c.Seen.Match(rec) {
			return store.Reply{}
		}
		if was := store.SignOf(rec.Raw); len(was) < len(store.SignFor(was, string(c.Frame))) {
			m.signLocked(c.Key, store.SignFor(was, string(c.Frame)))
			m.changedLocked(c.Key)
		}
	}
	return store.Reply{OK: true}
}

func (m *Memory) addLocked(c *store.Command, rec store.Record) store.Reply {
	if rec.State == store.Missing {
		m.storeLocked(c)
		return store.Reply{OK: true}
	}
	if c.IsOwn(rec) {
		return store.Reply{OK: true}
	}
	return store.Reply{Record: rec}
}

func (m *Memory) adoptLocked(c *store.Command, rec store.Record) store.Reply {
	if rec.State != store.Found || !c.Seen.Match(rec) {
		return store.Reply{}
	}
	it := m.data[c.Key]
	if end := until(c); !end.IsZero() && (it.until.IsZero() || end.Before(it.until)) {
		it.until = end
		m.data[c.Key] = it
		m.changedLocked(c.Key)
	}
	if it.until.IsZero() {
		return store.Reply{OK: true, Left: -time.Millisecond}
	}
	return store.Reply{OK: true, Left: time.Until(it.until).Truncate(time.Millisecond)}
}

func (m *Memory) resealLocked(c *store.Command, rec store.Record) bool {
	if len(rec.Raw) < store.SealLen {
		return false
	}
	if !c.Seen.Match(rec) {
		return c.IsOwn(rec)
	}
	it := m.data[c.Key]
	it.raw = append(bytes.Clone(c.Frame), it.raw[store.SealLen:]...) // Records share the old bytes
	if end := until(c); !end.IsZero() && (it.until.IsZero() || end.Before(it.until)) {
		it.until = end
	}
	m.data[c.Key] = it
	m.changedLocked(c.Key)
	return true
}

// signLocked puts a sign on a lease.
func (m *Memory) signLocked(key string, sign []byte) {
	it := m.data[key]
	it.raw = slices.Concat(it.raw[:store.SealLen], sign) // Records share the old bytes
	m.data[key] = it
}

// until is the end of the lifetime that c sets; zero: never.
func until(c *store.Command) time.Time {
	if c.TTL <= 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(c.Millis()) * time.Millisecond)
}

func (m *Memory) storeLocked(c *store.Command) {
	it := item{raw: bytes.Clone(c.Frame), until: until(c)}
	if it.raw == nil {
		it.raw = []byte{}
	}
	if c.TTL == store.KeepTTL {
		// Zero, too, if the key did not exist.
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

func (m *Memory) recordLocked(key string) store.Record {
	it, ok := m.lookLocked(key)
	switch {
	case !ok:
		return store.Record{}
	case it.other:
		return store.Record{State: store.WrongType}
	}
	return store.Record{State: store.Found, Raw: it.raw}
}

func (m *Memory) lookLocked(key string) (item, bool) {
	it, ok := m.data[key]
	if ok && !it.until.IsZero() && !time.Now().Before(it.until) {
		m.deleteLocked(key)
		return item{}, false
	}
	return it, ok
}
