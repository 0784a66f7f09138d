package retryqueue

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// Queue is what is to be told: a bounded set of keys and tags, or everything. Of
// several operations on a key the last one counts.
//
// What is taken to be told stays in the queue until it is settled. A key that is
// added meanwhile is told again after that: the invalidation that is under way may
// reach Redis before the new write does.
//
// Once there are more keys and tags than fit, those that wait are replaced by one
// invalidation of everything. It is of the latest of their times, so it covers them.
//
// All methods are safe for concurrent use.
type Queue struct {
	max  int
	size atomic.Int64 // written under mu

	mu      sync.RWMutex // guards what follows
	waiting set
	taken   set
	order   []string // the keys of waiting, in the order in which to take them
	numbers int      // not less than waiting has

	// For Wait. A slot belongs to the period of its oldest addition; each Wait ends
	// a period.
	period  uint64
	live    map[uint64]int // how many slots belong to a period; never 0
	changed chan struct{}  // closed and replaced when a period has no slots left
}

// set is what waits, or what is taken.
type set struct {
	keys map[string]*pending
	mark *pending // tags or everything; nil: neither
}

// pending is something to be told.
type pending struct {
	item   Item            // of a mark only the Numbers
	all    bool            // a mark of everything
	past   Past            // of that
	tags   map[string]Past // of a mark: those that everything does not cover
	period uint64
}

// NewQueue returns an empty queue for so many keys and tags.
func NewQueue(max int) *Queue {
	return &Queue{
		max:     max,
		waiting: set{keys: map[string]*pending{}},
		taken:   set{keys: map[string]*pending{}},
		live:    map[uint64]int{},
		changed: make(chan struct{}),
	}
}

// Add adds a key. A later At and Token take the place of earlier ones, and Numbers
// add up. full is true if this was the one that did not fit, so that everything is to
// be invalidated now.
func (q *Queue) Add(it Item) (full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.finishLocked()
	return q.addLocked(it)
}

func (q *Queue) addLocked(it Item) (full bool) {
	if m := q.waiting.mark; m.covers(it.past()) {
		q.openLocked(m, it.Numbers)
		return false
	}
	if s := q.waiting.keys[it.Key]; s != nil {
		s.item.At, s.item.Token, s.item.Acked, s.item.Since = it.At, it.Token, it.Acked, it.Since
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

// AddTags adds tags, if there are any, that were invalidated at the time past. The rest is
// as with Add.
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

// markLocked returns the mark that waits.
func (q *Queue) markLocked() *pending {
	if q.waiting.mark == nil {
		q.waiting.mark = q.newSlotLocked()
		q.waiting.mark.tags = map[string]Past{}
	}
	return q.waiting.mark
}

// AddAll has everything invalidated, as of the time past. What waits and was called for by
// then is covered by that. What was called for later goes on waiting by itself, or else all
// that was stored in between would go for the sake of one key:
//
//  1. a process invalidates everything; Redis does not acknowledge
//  2. another process stores a value
//  3. the first one invalidates another key; Redis does not acknowledge
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

// covers reports whether what was called for at the time p need not be told besides s: that
// is of everything, and of no earlier time. What Redis has acknowledged once covers nothing,
// since what it holds is believed meanwhile.
func (s *pending) covers(p Past) bool {
	return s != nil && s.all && !s.past.Acked && s.past.Since >= p.Since
}

// overflowLocked replaces all that waits by one invalidation of everything, of the latest of
// its times, if there is too much of it.
func (q *Queue) overflowLocked() (full bool) {
	m := q.waiting.mark
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
	m.all, m.past = true, *all // something waits
	clear(m.tags)
	clear(q.waiting.keys)
	q.order = nil
	return true
}

// Has reports whether the key, or everything, is to be told or being told. While the
// queue is empty it costs one atomic load.
func (q *Queue) Has(key string) bool {
	if q.size.Load() == 0 {
		return false
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.waiting.has(key) || q.taken.has(key)
}

func (p *set) has(key string) bool { return p.keys[key] != nil || p.mark != nil && p.mark.all }

// HasTag is Has for a tag.
func (q *Queue) HasTag(tag string) bool {
	if q.size.Load() == 0 {
		return false
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.waiting.mark.has(tag) || q.taken.mark.has(tag)
}

func (s *pending) has(tag string) bool {
	if s == nil {
		return false
	}
	_, ok := s.tags[tag]
	return ok || s.all
}

// Find returns what is to be told of a key, without its Numbers. It does not say that
// everything is to be told.
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

// All reports whether everything is to be told or being told.
func (q *Queue) All() bool {
	if q.size.Load() == 0 {
		return false
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.waiting.mark != nil && q.waiting.mark.all || q.taken.mark != nil && q.taken.mark.all
}

// Acknowledge says that a later operation on a key was acknowledged, which was sent at
// the local time sent: of what was added before, it is the one that counts now. It is
// still to be told, in case that one of the others is carried out late.
func (q *Queue) Acknowledge(key string, sent, at int64, token string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range [...]*set{&q.waiting, &q.taken} {
		if s := p.keys[key]; s != nil && s.item.Since <= sent {
			s.item.At, s.item.Token, s.item.Acked = at, token, false
		}
	}
}

// Dismiss takes out tags that wait to be told, since they need not be any more, and
// returns the numbers that are open because of them, if they are not because of others.
func (q *Queue) Dismiss(tags []string) (numbers []uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.finishLocked()
	m := q.waiting.mark
	if m == nil {
		return nil
	}
	for _, tag := range tags {
		delete(m.tags, tag)
	}
	if m.all || len(m.tags) > 0 {
		return nil
	}
	q.waiting.mark = nil
	q.releaseLocked(m.period)
	return m.item.Numbers
}

// Len returns how many keys and tags are to be told or being told; everything counts
// as one. A key counts twice that was added again while it is being told. It costs
// one atomic load.
func (q *Queue) Len() int { return int(q.size.Load()) }

// Take takes at most n keys, in the order in which they were added or came back, and
// the tags or everything. What is being told already has to wait for that.
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
	if m := q.waiting.mark; m != nil && q.taken.mark == nil {
		q.waiting.mark, q.taken.mark = nil, m
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

// Settle says that b has been told. What is not being told is ignored.
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

// Return puts back what could not be told, with the numbers that are in b: the failed
// attempt may have added some. Of a key that was added meanwhile, that is what counts.
func (q *Queue) Return(b Batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.finishLocked()
	for _, it := range b.Items {
		s := q.untakeLocked(it.Key)
		if s == nil {
			continue
		}
		switch m, newer := q.waiting.mark, q.waiting.keys[it.Key]; {
		case newer != nil:
			q.mergeLocked(newer, s, it.Numbers)
		case m.covers(s.item.past()):
			q.mergeLocked(m, s, it.Numbers)
		default:
			s.item.Numbers = nil // but for what was acknowledged meanwhile, the rest is as it was
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
			rest[tag] = s.tags[tag]
		}
		q.addTagsLocked(rest, nil)
		q.mergeLocked(q.waiting.mark, s, b.Numbers)
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
	s := q.taken.mark
	q.taken.mark = nil
	return s
}

// Wait waits until all that is in the queue now has been told, however often it has
// to be tried. What is added later is not waited for. The error is ctx's.
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
