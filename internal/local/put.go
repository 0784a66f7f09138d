package local

import "github.com/delqhi/cache/internal/fence"

// Outcome is what became of an entry.
type Outcome uint8

const (
	Refused Outcome = iota // the condition does not hold: nothing was changed
	Stored
	NoRoom // the condition holds, and the entry is too large for the tier: it has left at once
	Closed
)

// Put stores e unless the key has moved since f, and reports whether it did. A Put
// that is refused changes nothing. encoded is k's encoding.
func (t *Tier[K, V]) Put(k K, encoded string, e *Entry[V], f fence.Token) bool {
	return t.put(k, encoded, e, func() bool { return t.fences.Valid(encoded, f) }, keep) == Stored
}

// PutAndBump is a writer's Put at the acknowledgement of its write: it moves the
// key, and stores e if the key had not moved since f. Otherwise it removes what is
// there: which of two writes is the newer one is not known here. What other keys
// of the same encoding hold is removed in any case: it is older than the write.
func (t *Tier[K, V]) PutAndBump(k K, encoded string, e *Entry[V], f fence.Token) bool {
	out := t.put(k, encoded, e, func() bool {
		if t.fences.MoveIf(encoded, f) {
			return true
		}
		t.fences.Move(encoded)
		return false
	}, moved|removeElse)
	t.removeOthers(k, encoded)
	return out == Stored
}

// Swap stores e and moves the key, if it has not moved since f, and else leaves
// everything as it is. Of several callers with one token, one succeeds. What other
// keys of the same encoding hold is removed by the one that does.
func (t *Tier[K, V]) Swap(k K, encoded string, e *Entry[V], f fence.Token) bool {
	out := t.put(k, encoded, e, func() bool { return t.fences.MoveIf(encoded, f) }, moved)
	if out == Stored {
		t.removeOthers(k, encoded)
	}
	return out == Stored
}

// Replace stores e in the place of old, if that is still what is there, and moves
// nothing: it is the same value.
func (t *Tier[K, V]) Replace(k K, old, e *Entry[V], encoded string) bool {
	return t.put(k, encoded, e, func() bool { return t.holds(k, old) }, keep) == Stored
}

// Set stores e, whatever is there, and moves the key. It is the write of a tier that has no
// Redis behind it: of two Sets at a time the one that gets the shard's lock last is the
// newer one.
func (t *Tier[K, V]) Set(k K, encoded string, e *Entry[V]) Outcome {
	return t.written(k, encoded, e, func() bool { return true })
}

// CompareAndSwap stores e in the place of old, nil for nothing, if that is still what is
// there, and moves the key. A nil e removes old.
func (t *Tier[K, V]) CompareAndSwap(k K, encoded string, old, e *Entry[V]) Outcome {
	if e == nil {
		return t.compareAndRemove(k, encoded, old)
	}
	return t.written(k, encoded, e, func() bool { return t.holds(k, old) })
}

// written is a put that moves the key if the condition holds.
func (t *Tier[K, V]) written(k K, encoded string, e *Entry[V], holds func() bool) Outcome {
	out := t.put(k, encoded, e, func() bool {
		if !holds() {
			return false
		}
		t.fences.Move(encoded)
		return true
	}, moved)
	if out == Stored || out == NoRoom {
		t.removeOthers(k, encoded)
	}
	return out
}

// Fill stores what a load, or a write to the source, has claimed the key for, if the claim
// was not lost.
func (t *Tier[K, V]) Fill(k K, encoded string, e *Entry[V], c *fence.Claim) Outcome {
	out := t.put(k, encoded, e, func() bool { return t.fences.Take(c) }, filled)
	if out == Stored || out == NoRoom {
		t.removeOthers(k, encoded)
	}
	return out
}

// holds reports whether e is what is there for k, nil for nothing. The caller holds the
// shard's lock.
func (t *Tier[K, V]) holds(k K, e *Entry[V]) bool {
	is, _ := t.Peek(k)
	return is == e
}

// putMode says more of a put.
type putMode uint8

const (
	keep       putMode = 0      // the fence is as it was; what may not be replaced stays
	moved      putMode = 1 << 0 // where e may be stored, the fence has been moved
	removeElse putMode = 1 << 1 // where it may not, what is there goes
	filled     putMode = 1 << 2 // likewise moved, and what is claimed of the key later stays claimed
)

// put stores e if allowed says so; if not, it leaves the key's entry or removes it.
//
// The fence is looked at under the shard's lock, and not before, because of
//
//  1. put finds that nothing has moved
//  2. Remove moves the key, takes the lock and finds no entry
//  3. put takes the lock and stores the old value, where it stays
//
// Remove moves first and takes the lock afterwards. So if put finds nothing moved,
// Remove still has to take the lock, and finds the entry.
//
// The index is told before the fence is looked at, because of
//
//  1. put takes the lock and finds that nothing has moved
//  2. Remove moves the key and asks the index, which knows of no key
//  3. put tells the index and stores the old value, where it stays
//
// Remove moves first and asks the index afterwards. So if put finds nothing moved,
// Remove still has to ask, and learns of the key.
//
// A fence that was moved is moved once more when e is there, because of
//
//  1. put moves it
//  2. somebody takes the new token, and looks the key up: hits wait for no lock
//  3. put stores e
//  4. he makes something of the old value, and swaps it in with his token
//
// Whoever takes a token after the second move finds e. The same holds for what goes; see
// removeLocked.
func (t *Tier[K, V]) put(k K, encoded string, e *Entry[V], allowed func() bool, how putMode) Outcome {
	if same := k; same != k {
		// A NaN, or something that has one: it could be stored again and again, and
		// neither found nor removed. It is as if it had been evicted at once.
		switch {
		case t.closed.Load():
			return Closed
		case !allowed():
			return Refused
		}
		return Stored
	}
	enc, h := t.index.hash(encoded), t.hash(k)
	s := t.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	tab := s.table.Load()
	old, _ := tab.get(h, k)
	t.index.add(enc, k)
	if !allowed() || t.closed.Load() {
		if old != nil && how&removeElse != 0 {
			t.removeLocked(s, h, old)
			t.fences.Move(encoded)
			old = nil
		}
		if old == nil || s.encodings[old] != enc {
			t.index.remove(enc, k)
		}
		if t.closed.Load() {
			return Closed
		}
		return Refused
	}
	if s.budget > 0 && e.size() > s.budget {
		// Nothing that is there would be worth more than it, and it does not fit.
		if old != nil {
			t.removeLocked(s, h, old)
		}
		t.moveAgain(encoded, how)
		t.index.remove(enc, k)
		s.evictions.Add(1)
		return NoRoom
	}
	if old != nil && s.encodings[old] != enc {
		// The program's own encoding has changed its mind.
		t.removeLocked(s, h, old)
		t.index.add(enc, k)
		old = nil
	}
	if old != nil && s.budget > 0 {
		// It stays until e takes its place: hits wait for no lock. As the youngest one,
		// and used, it is the last to make room, and hardly ever has to.
		s.lru.Get(old)
		tab.find(h, old).use()
		for old != nil && s.bytes-old.entry.size()+e.size() > s.budget {
			if t.evictLocked(s) == old {
				t.index.add(enc, k)
				old = nil
			}
		}
	}
	n := &node[K, V]{k, *e}
	if old != nil {
		tab.replace(h, old, n)
		s.lru.Remove(old)
		s.bytes -= old.entry.size()
		delete(s.encodings, old)
	} else {
		t.makeRoomLocked(s, e.size())
		if tab.full() {
			tab = tab.grown(t.hash, s.capacity)
			s.table.Store(tab)
		}
		tab.add(h, n)
	}
	s.lru.Add(n, struct{}{})
	if t.index != nil {
		s.encodings[n] = enc
	}
	s.bytes += e.size()
	t.moveAgain(encoded, how)
	return Stored
}

// moveAgain moves a key behind what was stored.
func (t *Tier[K, V]) moveAgain(encoded string, how putMode) {
	switch {
	case how&moved != 0:
		t.fences.Move(encoded)
	case how&filled != 0:
		t.fences.Bump(encoded)
	}
}

// size is what an entry counts for where bytes are counted.
func (e *Entry[V]) size() int64 {
	if e.Meta == nil {
		return 0
	}
	return e.Meta.Size
}

// maxSecondChances bounds the second chances that one Put gives. Each of them uses up a
// mark that a hit has set, so that hits have paid for it. Without a bound, a Put
// would be O(1) only on average: where hits are many and Puts are few, now and then
// one would pass by a whole shard of marked entries, with other writers waiting, and
// in the end evict the one it began with. Of a million entries, that took 10 ms and
// takes 0.1 ms. It costs no hits: on skewed, shifting and uniform traces and on
// scans, 8 turns already hit as often as any number of them.
const maxSecondChances = 32

// makeRoomLocked makes room for one more of a size. That one is not there yet: as the only
// one without a mark, it might be the one that leaves.
//
// An entry whose deadline has passed leaves, marked or not, if the way from the old
// end comes by. simplelru shows none but the oldest one, so that no others are
// looked for.
func (t *Tier[K, V]) makeRoomLocked(s *shard[K, V], size int64) {
	for s.lru.Len() >= s.capacity || s.budget > 0 && s.bytes+size > s.budget {
		t.evictLocked(s)
	}
}

// evictLocked removes one node, and returns it.
func (t *Tier[K, V]) evictLocked(s *shard[K, V]) *node[K, V] {
	now := Now()
	for range maxSecondChances {
		n, _, _ := s.lru.GetOldest()
		if now >= n.entry.Deadline || !s.table.Load().find(t.hash(n.key), n).clearRef() {
			break
		}
		s.lru.Get(n) // makes it the youngest
	}
	n, _, _ := s.lru.GetOldest()
	t.removeLocked(s, t.hash(n.key), n)
	if now < n.entry.Deadline {
		s.evictions.Add(1)
	}
	return n
}
