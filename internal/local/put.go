package local

import "github.com/delqhi/cache/internal/fence"

// Outcome is the result of storing an entry.
type Outcome uint8

const (
	Refused Outcome = iota // the condition does not hold: nothing was changed
	Stored
	NoRoom // the condition holds, and the entry is too large for the tier: it was evicted at once
	Closed
)

// Put stores e unless the key's fence has moved since f, and reports whether it did. A Put that
// is refused changes nothing. encoded is k's encoding.
func (t *Tier[K, V]) Put(k K, encoded string, e *Entry[V], f fence.Token) bool {
	return t.put(k, encoded, e, func() bool { return t.fences.Valid(encoded, f) }, keep, fence.Place{}, unread) == Stored
}

// PutAndBump is a writer's Put at the acknowledgement of its write: it moves the key's fence,
// and stores e if the fence had not moved since f. Otherwise it removes the existing entry:
// which of two writes is the newer one is not known here. Entries of other keys with the same
// encoding are removed in any case: they are older than the write.
func (t *Tier[K, V]) PutAndBump(k K, encoded string, e *Entry[V], f fence.Token) bool {
	out := t.put(k, encoded, e, func() bool {
		if t.fences.MoveIf(encoded, f) {
			return true
		}
		t.fences.Move(encoded)
		return false
	}, moved|removeElse, t.fences.Place(encoded), unread)
	t.removeOthers(k, encoded)
	return out == Stored
}

// Swap stores e and moves the key's fence, if it has not moved since f; otherwise it changes
// nothing. Of several callers with one token, one succeeds, and removes the entries of other
// keys with the same encoding.
func (t *Tier[K, V]) Swap(k K, encoded string, e *Entry[V], f fence.Token) bool {
	out := t.put(k, encoded, e, func() bool { return t.fences.MoveIf(encoded, f) }, moved|same, t.fences.Place(encoded), unread)
	if out == Stored {
		t.removeOthers(k, encoded)
	}
	return out == Stored
}

// Replace stores e in the place of the entry with the head old, if that is still the current
// one, and does not move the fence: it is the same value.
func (t *Tier[K, V]) Replace(k K, old *Head, e *Entry[V], encoded string) bool {
	return t.put(k, encoded, e, func() bool { return t.holds(k, old) }, same, fence.Place{}, unread) == Stored
}

// Set stores e unconditionally at the time now, and moves the key's fence. It is the write of a tier
// without Redis: of two concurrent Sets the one that gets the shard's lock last is the newer one.
func (t *Tier[K, V]) Set(k K, encoded string, e *Entry[V], now int64) Outcome {
	return t.written(k, encoded, e, func() bool { return true }, now)
}

// CompareAndSwap stores e in the place of old, nil for no entry, if old is still the current
// entry, and moves the key's fence. A nil e removes old.
func (t *Tier[K, V]) CompareAndSwap(k K, encoded string, old *Head, e *Entry[V]) Outcome {
	if e == nil {
		return t.compareAndRemove(k, encoded, old)
	}
	return t.written(k, encoded, e, func() bool { return t.holds(k, old) }, unread)
}

// written is a put that moves the key's fence if the condition holds.
func (t *Tier[K, V]) written(k K, encoded string, e *Entry[V], holds func() bool, now int64) Outcome {
	at := t.fences.Place(encoded)
	out := t.put(k, encoded, e, func() bool {
		if !holds() {
			return false
		}
		t.fences.MoveAt(at)
		return true
	}, moved, at, now)
	if out == Stored || out == NoRoom {
		t.removeOthers(k, encoded)
	}
	return out
}

// Fill stores the value of a load, or of a write to the source, that has claimed the key, if
// the claim was not lost. It is now, or was a little earlier.
func (t *Tier[K, V]) Fill(k K, encoded string, e *Entry[V], c *fence.Claim, now int64) Outcome {
	out := t.put(k, encoded, e, func() bool { return t.fences.Take(c) }, filled, c.Place, now)
	if out == Stored || out == NoRoom {
		t.removeOthers(k, encoded)
	}
	return out
}

// holds reports whether the current entry of k is the one with that head, nil for none. The
// caller holds the shard's lock.
func (t *Tier[K, V]) holds(k K, head *Head) bool {
	e, ok := t.Peek(k)
	if !ok {
		return head == nil
	}
	return &e.Head == head
}

// putMode is the mode of a put.
type putMode uint8

const (
	keep       putMode = 0      // the fence has not been moved; an entry that may not be replaced stays
	moved      putMode = 1 << 0 // where e may be stored, the fence has been moved
	removeElse putMode = 1 << 1 // where it may not, the existing entry is removed
	filled     putMode = 1 << 2 // likewise moved, and later claims of the key are kept
	same       putMode = 1 << 3 // e has the same value as the entry that it replaces
)

// unread is the time of a put that has not read the clock: it does so if an entry has to make room.
const unread int64 = 0

// put stores e if allowed says so; if not, it leaves the key's entry or removes it. at is where the
// fences have the key, if how has moved or filled.
//
// The fence is checked under the shard's lock, and not before, because of this interleaving:
//
//  1. put finds that the fence has not moved
//  2. Remove moves the fence, takes the lock and finds no entry
//  3. put takes the lock and stores the old value, where it stays
//
// Remove moves the fence first and takes the lock afterwards. So if put finds it not moved,
// Remove still has to take the lock, and finds the entry.
//
// The key is added to the index before the fence is checked, because of this interleaving:
//
//  1. put takes the lock and finds that the fence has not moved
//  2. Remove moves the fence and searches the index, which has no key
//  3. put adds the key to the index and stores the old value, where it stays
//
// Remove moves the fence first and searches the index afterwards. So if put finds it not moved,
// Remove still has to search, and finds the key.
//
// A fence that was moved is moved once more when e is stored, because of this interleaving:
//
//  1. put moves the fence
//  2. a reader takes the new token, and reads the old entry: hits wait for no lock
//  3. put stores e
//  4. the reader derives a value from the old one, and swaps it in with its token
//
// A reader that takes a token after the second move finds e. The same holds for removals; see
// removeLocked.
func (t *Tier[K, V]) put(k K, encoded string, e *Entry[V], allowed func() bool, how putMode, at fence.Place, now int64) Outcome {
	if same := k; same != k {
		// A NaN, or a key that contains one: it could be stored again and again, and neither
		// found nor removed. It is treated as if it had been evicted at once.
		switch {
		case t.closed.Load():
			return Closed
		case !allowed():
			return Refused
		}
		return Stored
	}
	enc, h := t.index.hash(encoded), t.hash(k)
	if t.index == nil {
		enc = uint32(h >> 32)
	}
	s := t.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	tab := s.table.Load()
	old, was := tab.get(h, k)
	t.index.add(enc, k)
	if !allowed() || t.closed.Load() {
		if old != nil && how&removeElse != 0 {
			t.removeLocked(s, h, old, removed)
			t.leave(old, Invalidated)
			t.fences.Move(encoded)
			old = nil
		}
		if old == nil || old.encoding != enc {
			t.index.remove(enc, k)
		}
		if t.closed.Load() {
			return Closed
		}
		return Refused
	}
	if s.budget > 0 && e.size() > s.budget {
		// No existing entry would have to make room: it does not fit even alone.
		if old != nil {
			t.removeLocked(s, h, old, removed)
			t.leave(old, Replaced)
		}
		t.moveAgain(at, how)
		t.index.remove(enc, k)
		s.evictions.Add(1)
		return NoRoom
	}
	if old != nil && old.encoding != enc {
		// The program's own encoding has returned another result than before.
		t.removeLocked(s, h, old, removed)
		if how&same == 0 {
			t.leave(old, Replaced)
		}
		t.index.add(enc, k)
		old = nil
	}
	n := &node[K, V]{key: k, entry: *e, encoding: enc}
	if old != nil {
		// The old node stays in the table until e replaces it, since hits wait for no lock. It
		// has left the order, and so is not evicted to make room.
		s.order.remove(old)
		s.bytes -= old.entry.size()
		for s.budget > 0 && s.bytes+e.size() > s.budget {
			t.evictLocked(s, now)
		}
		s.order.replace(old, n, was.replace(n))
		if how&same == 0 {
			t.leave(old, Replaced)
		}
	} else {
		t.makeRoomLocked(s, e.size(), now)
		if tab.full() {
			tab = tab.grown(t.hash, s.capacity)
			s.table.Store(tab)
		}
		tab.add(h, n)
		s.order.add(h, n)
	}
	s.bytes += e.size()
	t.moveAgain(at, how)
	return Stored
}

// moveAgain moves a key's fence after an entry was stored.
func (t *Tier[K, V]) moveAgain(at fence.Place, how putMode) {
	switch {
	case how&moved != 0:
		t.fences.MoveAt(at)
	case how&filled != 0:
		t.fences.BumpAt(at)
	}
}

// size is the size of an entry where bytes are counted.
func (e *Head) size() int64 {
	if e.Meta == nil {
		return 0
	}
	return e.Meta.Size
}
