package local

// maxSecondChances bounds the second chances that one Put gives, in each list. Each of them uses
// up a mark that a hit has set, so that hits have paid for it. Without a bound, a Put would be
// O(1) only on average: where hits are many and Puts are few, now and then one would go through
// a whole shard of marked entries, with other writers waiting, and in the end evict the one it
// began with. Of a million entries, that took 10 ms and takes 0.1 ms. It costs no hits: on
// skewed, shifting and uniform traces and on scans, 8 second chances already give as many hits
// as any number of them.
const maxSecondChances = 32

// makeRoomLocked makes room for one more entry of a size. It runs before that entry is added:
// as the only one without a mark, the new entry might be the one that is evicted.
//
// An entry whose deadline has passed is evicted, marked or not, when it is reached from the old
// end of a list. No others are searched for.
func (t *Tier[K, V]) makeRoomLocked(s *shard[K, V], size, now int64) {
	for s.order.len() >= s.capacity || s.budget > 0 && s.bytes+size > s.budget {
		t.evictLocked(s, now)
	}
	if s.order.policy == TinyLFU {
		// Where there is room, nodes leave the window all the same: two for each that is added,
		// so that it reaches its size.
		t.shrinkWindowLocked(s, timeOf(now), s.order.len()+1, 2)
	}
}

// timeOf is the time of a put.
func timeOf(now int64) int64 {
	if now == unread {
		return Now()
	}
	return now
}

// evictLocked removes one node.
func (t *Tier[K, V]) evictLocked(s *shard[K, V], now int64) {
	now = timeOf(now)
	if s.order.policy == TinyLFU {
		s.order.history.fit(s.order.len())
		n, how := t.tinyVictimLocked(s, now)
		t.evictNodeLocked(s, t.hash(n.key), n, how, now)
	} else {
		n := t.lruVictimLocked(s, now)
		t.evictNodeLocked(s, t.highHash(n), n, displaced, now)
	}
}

func (t *Tier[K, V]) evictNodeLocked(s *shard[K, V], h uint64, n *node[K, V], how departure, now int64) {
	t.removeLocked(s, h, n, how)
	t.leave(n, Evicted)
	if now < n.entry.Deadline {
		s.evictions.Add(1)
	}
}

// lruVictimLocked returns the node to be evicted by LRU.
func (t *Tier[K, V]) lruVictimLocked(s *shard[K, V], now int64) *node[K, V] {
	all := &s.order.lists[window]
	for range maxSecondChances {
		n := all.oldest
		if now >= n.entry.Deadline || !t.usedLocked(s, n) {
			break
		}
		s.order.move(n, window)
	}
	return all.oldest
}

// tinyVictimLocked returns the node to be evicted by TinyLFU, and how it leaves.
func (t *Tier[K, V]) tinyVictimLocked(s *shard[K, V], now int64) (*node[K, V], departure) {
	o := s.order
	candidate, over := t.shrinkWindowLocked(s, now, o.len(), maxSecondChances)
	if over == nil {
		over = t.shrinkProtectedLocked(s, now)
	}
	var victim *node[K, V]
	for range maxSecondChances {
		if victim = o.lists[probation].oldest; over != nil || victim == nil {
			break
		}
		if now >= victim.entry.Deadline {
			over = victim
		} else if t.usedLocked(s, victim) {
			o.move(victim, protected)
		} else {
			break
		}
	}
	if over != nil {
		return over, removed
	}
	for _, r := range []region{probation, protected, window} {
		if victim = o.lists[r].oldest; victim != nil {
			break
		}
	}
	switch {
	case victim.region == window || victim == candidate:
		return victim, refused
	case candidate != nil && candidate.region == probation && o.clock.uses(candidate.frequency) <= o.clock.uses(victim.frequency):
		return candidate, refused
	}
	return victim, displaced
}

// shrinkWindowLocked examines at most so many nodes of the window, while that has no room for
// another one, and moves those that were not used to probation. It returns the last of them, or
// else a node whose deadline has passed.
//
// nodes is how many the order will have when a node has been added. It is the same before and
// after an eviction, and so is the room of the window. Were the room larger before, the window
// would be too small each time for an eviction to find a candidate, and shrink after it: all
// nodes would pass through without being compared.
func (t *Tier[K, V]) shrinkWindowLocked(s *shard[K, V], now int64, nodes, most int) (last, over *node[K, V]) {
	o := s.order
	for range most {
		n := o.lists[window].oldest
		switch {
		case n == nil || o.lists[window].len < o.windowRoom(nodes):
			return last, nil
		case now >= n.entry.Deadline:
			return last, n
		case t.usedLocked(s, n):
			o.move(n, window)
		default:
			o.move(n, probation)
			last = n
		}
	}
	return last, nil
}

// shrinkProtectedLocked moves nodes that were not used to probation while too many are
// protected. It returns a node whose deadline has passed, or nil.
func (t *Tier[K, V]) shrinkProtectedLocked(s *shard[K, V], now int64) *node[K, V] {
	o := s.order
	for range maxSecondChances {
		n := o.lists[protected].oldest
		switch {
		case n == nil || o.lists[protected].len <= o.protectedRoom(o.len()):
			return nil
		case now >= n.entry.Deadline:
			return n
		case t.usedLocked(s, n):
			o.move(n, protected)
		default:
			o.move(n, probation)
		}
	}
	return nil
}

// usedLocked reports whether a node was used since it was last asked, and counts that.
func (t *Tier[K, V]) usedLocked(s *shard[K, V], n *node[K, V]) bool {
	if !s.table.Load().find(t.highHash(n), n).clearRef() {
		return false
	}
	s.order.use(n)
	return true
}

// highHash returns the highest 32 bits of the hash of a node's key. A node that is old mostly has them
// at hand, and its key is not in a processor's cache.
func (t *Tier[K, V]) highHash(n *node[K, V]) uint64 {
	if t.index == nil {
		return uint64(n.encoding) << 32
	}
	return t.hash(n.key)
}
