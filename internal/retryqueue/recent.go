package retryqueue

import (
	"container/list"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// recentFor is how long a failover may undo acknowledged writes: more than a replica lags
	// behind, and as long as an epoch may go back in time without beginning another epoch.
	recentFor = int64(10 * time.Second)
	// maxRecent is how many keys and tags are remembered: 26,000 writes per second for 10
	// seconds. At a higher rate, the memory reaches back less far.
	maxRecent = 1 << 18
)

// RecentWrites holds the writes and invalidations of this process that Redis has acknowledged
// in the last 10 seconds. Of several operations on a key or a tag, the last one counts.
//
// Times are in nanoseconds of a monotonic clock. All methods are safe for concurrent use.
type RecentWrites struct {
	last atomic.Int64 // when the youngest note was made, never if there is none; written under mu

	mu    sync.Mutex // guards what follows
	notes map[subject]*list.Element
	order *list.List // of *note, oldest first
}

// subject is a key, a tag, or everything.
type subject struct {
	kind kind
	name string
}

type kind uint8

const (
	aKey kind = iota
	aTag
	everything
)

type note struct {
	subject
	item      Item
	tombstone Tombstone // of a tag, or everything
	past      Past      // likewise
	sent      int64     // a time before the operation was sent to Redis
	at        int64     // when the note was made: Redis had acknowledged by then
}

// requested is the local time when the operation was requested.
func (n *note) requested() int64 {
	if n.kind == aKey {
		return n.item.Since
	}
	return n.past.Since
}

// Replay is what has to be replayed.
type Replay struct {
	Items []Item   // oldest first
	Tags  []string // oldest first
	All   bool     // everything was invalidated
	// Tombstones holds Redis's answers for the tags, and for everything under "".
	Tombstones map[string]Tombstone
	// Pasts holds the times of these invalidations, under the same names.
	Pasts map[string]Past
}

// never is a time before all others.
const never = math.MinInt64

// NewRecentWrites returns an empty RecentWrites.
func NewRecentWrites() *RecentWrites {
	r := &RecentWrites{notes: map[subject]*list.Element{}, order: list.New()}
	r.last.Store(never)
	return r
}

// Note records a key that was sent to Redis after the time sent. Its Numbers are dropped: none
// is open.
func (r *RecentWrites) Note(it Item, sent, now int64) {
	it.Numbers, it.Acked, it.Since = nil, true, sent
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noteLocked(note{subject: subject{aKey, it.Key}, item: it, sent: sent, at: now})
}

// NoteLate is Note for a key that was delivered late: it was requested at it.Since, and sent after
// the time sent. What is noted of a later operation stays.
func (r *RecentWrites) NoteLate(it Item, sent, now int64) {
	it.Numbers, it.Acked, it.Token = nil, true, ""
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noteLateLocked(note{subject: subject{aKey, it.Key}, item: it, sent: sent, at: now})
}

// Tombstone is Redis's answer to an invalidation: the logical times of a tombstone, with their epoch.
// The zero value is no answer.
type Tombstone struct {
	Epoch            uint64
	Hard, Soft, Next int64
	Before           int64 // of a dated tombstone, where Next belongs to it: see logicalclock.Tombstone; else 0
}

// In reports whether now, Redis's current answer, is of the same epoch and includes m.
func (m Tombstone) In(now Tombstone) bool {
	return m.Epoch != 0 && m.Epoch == now.Epoch && m.Hard <= now.Hard && m.Soft <= now.Soft &&
		(m.Next <= now.Hard || m.Next <= now.Next && (m.Before == 0) == (now.Before == 0) && m.Before <= now.Before)
}

// NoteTombstones records tags, or everything if there are none, as Note does. marks are Redis's
// answers, one for each, or nil; pasts are the times of the invalidations, if those are from
// before they were sent, or nil.
func (r *RecentWrites) NoteTombstones(tags []string, marks []Tombstone, pasts []Past, sent, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add := func(i int, n note) {
		n.sent, n.at, n.past = sent, now, Past{Since: sent, Acked: true}
		if i < len(marks) {
			n.tombstone = marks[i]
		}
		if i < len(pasts) {
			n.past = pasts[i]
			n.past.Acked = true
			r.noteLateLocked(n)
			return
		}
		r.noteLocked(n)
	}
	if len(tags) == 0 {
		add(0, note{subject: subject{kind: everything}})
	}
	for i, tag := range tags {
		add(i, note{subject: subject{aTag, tag}})
	}
}

// Any reports whether there are writes that a failover may have undone by now. It costs one
// atomic load.
func (r *RecentWrites) Any(now int64) bool {
	last := r.last.Load()
	return last != never && now-last < recentFor
}

// noteLateLocked notes what was delivered late, unless a later operation is noted: that one concerns
// all that it does.
func (r *RecentWrites) noteLateLocked(n note) {
	if e := r.notes[n.subject]; e != nil && n.requested() < e.Value.(*note).requested() {
		return
	}
	r.noteLocked(n)
}

func (r *RecentWrites) noteLocked(n note) {
	r.expireLocked(n.at)
	if e := r.notes[n.subject]; e != nil {
		*e.Value.(*note) = n
		r.order.MoveToBack(e)
	} else {
		kept := n // apart: else n would be on the heap in either case
		r.notes[n.subject] = r.order.PushBack(&kept)
	}
	r.last.Store(max(r.last.Load(), n.at))
	if r.order.Len() > maxRecent {
		r.dropOldestLocked()
	}
}

// Since returns the writes that a failover may have undone by now, given that none sent after
// the time safe was lost. They stay recorded.
func (r *RecentWrites) Since(now, safe int64) Replay {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expireLocked(now)
	var told Replay
	for e := r.order.Front(); e != nil; e = e.Next() {
		n := e.Value.(*note)
		if n.sent > safe {
			continue
		}
		switch n.kind {
		case aKey:
			told.Items = append(told.Items, n.item)
		case aTag:
			told.Tags = append(told.Tags, n.name)
			told.note(n.name, n)
		case everything:
			told.All = true
			told.note("", n)
		}
	}
	return told
}

func (t *Replay) note(name string, n *note) {
	if t.Pasts == nil {
		t.Tombstones, t.Pasts = map[string]Tombstone{}, map[string]Past{}
	}
	t.Pasts[name] = n.past
	if n.tombstone.Epoch != 0 {
		t.Tombstones[name] = n.tombstone
	}
}

func (r *RecentWrites) expireLocked(now int64) {
	for e := r.order.Front(); e != nil && now-e.Value.(*note).at >= recentFor; e = r.order.Front() {
		r.dropOldestLocked()
	}
}

func (r *RecentWrites) dropOldestLocked() {
	n := r.order.Remove(r.order.Front()).(*note)
	delete(r.notes, n.subject)
}
