package retryqueue

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// Queue holds the pending invalidations: a bounded set of keys and tags, or everything. Of
// several operations on a key, the last one counts.
//
// An invalidation that is taken for delivery stays in the queue until it is settled. A key that
// is added meanwhile is delivered again after that: the invalidation in flight may reach Redis
// before the new write does.
//
// Once there are more keys and tags than fit, the waiting ones are replaced by one invalidation
// of everything. It has the latest of their times, so it covers them.
//
// All methods are safe for concurrent use.
type Queue struct {
	max  int
	size atomic.Int64 // written under mu

	mu      sync.RWMutex // guards what follows
	waiting set
	taken   set
	order   []string // the keys of waiting, in the order in which they are taken
	numbers int      // at least as many as waiting has

	// For Wait. An invalidation belongs to the period of its oldest addition; each Wait ends a
	// period.
	period  uint64
	live    map[uint64]int // number of invalidations of each period; never 0
	changed chan struct{}  // closed and replaced when a period has no invalidations left
}

// set holds the waiting or the taken invalidations.
type set struct {
	keys      map[string]*pending
	tombstone *pending // tags or everything; nil: neither
}

// pending is one pending invalidation.
type pending struct {
	item   Item            // only Numbers if this is a tombstone
	all    bool            // the tombstone is of everything
	past   Past            // of all
	tags   map[string]Past // of a tombstone: the tags that all does not cover
	period uint64
}

// NewQueue returns an empty queue for up to max keys and tags.
func NewQueue(max int) *Queue {
	return &Queue{
		max:     max,
		waiting: set{keys: map[string]*pending{}},
		taken:   set{keys: map[string]*pending{}},
		live:    map[uint64]int{},
		changed: make(chan struct{}),
	}
}

// Add adds a key. If it is waiting already, the later of both times counts, the Token is the new one,
// and Numbers add up. full is true if the key did not fit, so that everything is to be invalidated now.
func (q *Queue) Add(it Item) (full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.finishLocked()
	return q.addLocked(it)
}

func (q *Queue) addLocked(it Item) (full bool) {
	if m := q.waiting.tombstone; m.covers(it.past()) {
		q.openLocked(m, it.Numbers)
		return false
	}
	if s := q.waiting.keys[it.Key]; s != nil {
		if s.item.At == 0 || it.At == 0 {
			s.item.At = 0 // by Since
		} else {
			s.item.At = max(s.item.At, it.At)
		}
		s.item.Token, s.item.Acked, s.item.Since = it.Token, s.item.Acked && it.Acked, max(s.item.Since, it.Since)
		q.openLocked(s, it.Numbers)
		return false
	}
	s := q.newSlotLocked()
	s.item = Item{Key: it.Key, At: it.At, Token: it.Token, Acked: it.Acked, Since: it.Since}
	q.openLocked(s, it.Numbers)
	q.waiting.keys[it.Key] = s
	q.order = append(q.order, it.Key)
	return q.overflowLocked()
}

// AddTags adds tags, if there are any, that were invalidated at the time past. full is as for
// Add.
func (q *Queue) AddTags(tags []string, numbers []uint64, past Past) (full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.finishLocked()
	if len(tags) == 0 {
		return false
	}
	added := make(map[string]Past, len(tags))
	for _, tag := range tags {
		added[tag] = past
	}
	return q.addTagsLocked(added, numbers)
}

func (q *Queue) addTagsLocked(tags map[string]Past, numbers []uint64) (full bool) {
	m := q.markLocked()
	q.openLocked(m, numbers)
	for tag, past := range tags {
		if before, ok := m.tags[tag]; ok {
			past = before.and(past)
		} else if m.covers(past) {
			m.past = m.past.and(past)
			continue
		}
		m.tags[tag] = past
	}
	return q.overflowLocked()
}

// markLocked returns the waiting mark, and creates it if there is none.
func (q *Queue) markLocked() *pending {
	if q.waiting.tombstone == nil {
		q.waiting.tombstone = q.newSlotLocked()
		q.waiting.tombstone.tags = map[string]Past{}
	}
	return q.waiting.tombstone
}

// AddAll adds an invalidation of everything, as of the time past. It covers all waiting
// invalidations that were requested by then. Later ones stay in the queue by themselves, or
// else all records stored in between would be removed for the sake of one key:
//
//  1. a process invalidates everything; Redis does not acknowledge
//  2. another process stores a value
//  3. the first process invalidates another key; Redis does not acknowledge
//  4. it sends both: the value of 2 is to stay
func (q *Queue) AddAll(numbers []uint64, past Past) (full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.finishLocked()
	q.addAllLocked(numbers, past)
	return q.overflowLocked()
}

func (q *Queue) addAllLocked(numbers []uint64, past Past) {
	m := q.markLocked()
	q.openLocked(m, numbers)
	if m.all {
		past = m.past.and(past)
	}
	m.all, m.past = true, past
	for tag, p := range m.tags {
		if m.covers(p) {
			m.past = m.past.and(p)
			delete(m.tags, tag)
		}
	}
	if past.Acked {
		return
	}
	order := q.order[:0]
	for _, key := range q.order {
		if s := q.waiting.keys[key]; m.covers(s.item.past()) {
			q.mergeLocked(m, s, s.item.Numbers)
			delete(q.waiting.keys, key)
		} else {
			order = append(order, key)
		}
	}
	q.order = order
}

// covers reports whether s makes an invalidation requested at the time p unnecessary: s is of
// everything, and of no earlier time. A tombstone that Redis has acknowledged once covers nothing,
// since Redis's records are trusted meanwhile.
func (s *pending) covers(p Past) bool {
	return s != nil && s.all && !s.past.Acked && s.past.Since >= p.Since
}

// overflowLocked replaces all waiting invalidations by one of everything, with the latest of
// their times, if there are too many.
func (q *Queue) overflowLocked() (full bool) {
	m := q.waiting.tombstone
	if q.sizeLocked() <= q.max || len(q.waiting.keys) == 0 && (m == nil || len(m.tags) == 0) {
		return false
	}
	m = q.markLocked()
	var all *Past
	add := func(p Past) {
		if all != nil {
			p = p.and(*all)
		}
		all = &p
	}
	if m.all {
		add(m.past)
	}
	for _, p := range m.tags {
		add(p)
	}
	for _, s := range q.waiting.keys {
		add(s.item.past())
		q.mergeLocked(m, s, s.item.Numbers)
	}
	m.all, m.past = true, *all // at least one is waiting
	clear(m.tags)
	clear(q.waiting.keys)
	q.order = nil
	return true
}

// Has reports whether an invalidation of the key, or of everything, is in the queue, waiting or
// taken. While the queue is empty it costs one atomic load.
func (q *Queue) Has(key string) bool {
	if q.size.Load() == 0 {
		return false
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.waiting.has(key) || q.taken.has(key)
}

func (p *set) has(key string) bool {
	return p.keys[key] != nil || p.tombstone != nil && p.tombstone.all
}

// HasTag is Has for a tag.
func (q *Queue) HasTag(tag string) bool {
	if q.size.Load() == 0 {
		return false
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.waiting.tombstone.has(tag) || q.taken.tombstone.has(tag)
}

func (s *pending) has(tag string) bool {
	if s == nil {
		return false
	}
	_, ok := s.tags[tag]
	return ok || s.all
}

// Find returns the pending invalidation of a key, without its Numbers. It does not consider
// invalidations of everything.
func (q *Queue) Find(key string) (it Item, ok bool) {
	if q.size.Load() == 0 {
		return it, false
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	s := q.waiting.keys[key] // the later one
	if s == nil {
		s = q.taken.keys[key]
	}
	if s == nil {
		return it, false
	}
	it = s.item
	it.Numbers = nil
	return it, true
}

// All reports whether an invalidation of everything is in the queue, waiting or taken.
func (q *Queue) All() bool {
	if q.size.Load() == 0 {
		return false
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.waiting.tombstone != nil && q.waiting.tombstone.all || q.taken.tombstone != nil && q.taken.tombstone.all
}

// Acknowledge records that a later operation on a key was acknowledged, which was sent at the
// local time sent: it replaces the operations that were added before. The invalidation stays
// pending, in case Redis executes one of the others late.
func (q *Queue) Acknowledge(key string, sent, at int64, token string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range [...]*set{&q.waiting, &q.taken} {
		if s := p.keys[key]; s != nil && s.item.Since <= sent {
			s.item.At, s.item.Token, s.item.Acked = at, token, false
		}
	}
}

// Dismiss removes waiting tags that need not be delivered any more, and returns the numbers
// that were open only because of them.
func (q *Queue) Dismiss(tags []string) (numbers []uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.finishLocked()
	m := q.waiting.tombstone
	if m == nil {
		return nil
	}
	for _, tag := range tags {
		delete(m.tags, tag)
	}
	if m.all || len(m.tags) > 0 {
		return nil
	}
	q.waiting.tombstone = nil
	q.releaseLocked(m.period)
	return m.item.Numbers
}

// Len returns the number of keys and tags in the queue, waiting or taken; everything counts as
// one. A key that was added again while it is taken counts twice. It costs one atomic load.
func (q *Queue) Len() int { return int(q.size.Load()) }

// Take takes at most n keys, in the order in which they were added or returned, and the tags or
// everything. A key that is taken already is left until it is settled.
func (q *Queue) Take(n int) Batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	var b Batch
	for range len(q.order) {
		if len(b.Items) >= n {
			break
		}
		key := q.order[0]
		q.order = q.order[1:]
		if q.taken.keys[key] != nil {
			q.order = append(q.order, key)
			continue
		}
		s := q.waiting.keys[key]
		delete(q.waiting.keys, key)
		q.taken.keys[key] = s
		b.Items = append(b.Items, s.item)
	}
	if m := q.waiting.tombstone; m != nil && q.taken.tombstone == nil {
		q.waiting.tombstone, q.taken.tombstone = nil, m
		b.All, b.Past, b.Numbers = m.all, m.past, m.item.Numbers
		for tag := range m.tags {
			b.Tags = append(b.Tags, tag)
		}
		slices.Sort(b.Tags)
		for _, tag := range b.Tags {
			b.Pasts = append(b.Pasts, m.tags[tag])
		}
	}
	return b
}

// TakeKeys is Take for keys that are wanted, and for no tags.
func (q *Queue) TakeKeys(n int, want func(key string) bool) Batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	var b Batch
	order := q.order[:0]
	for _, key := range q.order {
		if len(b.Items) >= n || q.taken.keys[key] != nil || !want(key) {
			order = append(order, key)
			continue
		}
		s := q.waiting.keys[key]
		delete(q.waiting.keys, key)
		q.taken.keys[key] = s
		b.Items = append(b.Items, s.item)
	}
	q.order = order
	return b
}

// Settle removes b, which has been delivered. Invalidations that are not taken are ignored.
func (q *Queue) Settle(b Batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.finishLocked()
	for i := range b.Items {
		if s := q.untakeLocked(b.Items[i].Key); s != nil {
			q.releaseLocked(s.period)
		}
	}
	if m := q.untakeMarkLocked(&b); m != nil {
		q.releaseLocked(m.period)
	}
}

// Return puts back invalidations that could not be delivered, with the numbers in b: the failed
// attempt may have added some. If a key was added meanwhile, the newer addition counts. A tag that was
// not taken is a part of everything, which was delivered in part.
func (q *Queue) Return(b Batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.finishLocked()
	for _, it := range b.Items {
		s := q.untakeLocked(it.Key)
		if s == nil {
			continue
		}
		switch m, newer := q.waiting.tombstone, q.waiting.keys[it.Key]; {
		case newer != nil:
			q.mergeLocked(newer, s, it.Numbers)
		case m.covers(s.item.past()):
			q.mergeLocked(m, s, it.Numbers)
		default:
			s.item.Numbers = nil // the rest is as it was, but for an Acknowledge meanwhile
			q.openLocked(s, it.Numbers)
			q.waiting.keys[it.Key] = s
			q.order = append(q.order, it.Key)
		}
	}
	if s := q.untakeMarkLocked(&b); s != nil {
		if b.All {
			q.addAllLocked(nil, s.past)
		}
		rest := make(map[string]Past, len(b.Tags))
		for _, tag := range b.Tags {
			past, ok := s.tags[tag]
			if !ok {
				past = s.past
				past.At = 0 // by the clock of another node
			}
			rest[tag] = past
		}
		q.addTagsLocked(rest, nil)
		q.mergeLocked(q.waiting.tombstone, s, b.Numbers)
	}
}

func (q *Queue) untakeLocked(key string) *pending {
	s := q.taken.keys[key]
	delete(q.taken.keys, key)
	return s
}

func (q *Queue) untakeMarkLocked(b *Batch) *pending {
	if !b.All && len(b.Tags) == 0 {
		return nil
	}
	s := q.taken.tombstone
	q.taken.tombstone = nil
	return s
}

// Wait waits until everything that is in the queue now has been delivered, however many
// attempts it takes. It does not wait for later additions. The error is ctx's.
func (q *Queue) Wait(ctx context.Context) error {
	q.mu.Lock()
	until := q.period
	q.period++
	for {
		if !q.openUntilLocked(until) {
			q.mu.Unlock()
			return nil
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		q.mu.Lock()
	}
}
