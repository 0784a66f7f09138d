package local

import "time"

// Remove moves the key's fence and removes every entry that is stored under the encoded key,
// and reports whether there was one. Bytes that are no key's encoding have none.
//
// It moves the fence first, because of this interleaving:
//
//  1. Remove removes the entry
//  2. Put finds that the fence has not moved, and stores the old value
//  3. Remove moves the fence; the old value stays
//
// and once more when the entry is removed, as put does.
func (t *Tier[K, V]) Remove(encoded string) bool { return t.removeAll(encoded, Invalidated) }

// Delete is Remove for a key that the program has deleted.
func (t *Tier[K, V]) Delete(encoded string) bool { return t.removeAll(encoded, Deleted) }

func (t *Tier[K, V]) removeAll(encoded string, why Reason) bool {
	t.fences.Move(encoded)
	if t.index == nil {
		k, ok := t.decode(encoded)
		return ok && t.remove(k, encoded, why)
	}
	removed := false
	var buf [4]K
	for _, k := range t.index.appendKeys(buf[:0], t.index.hash(encoded)) {
		removed = t.remove(k, encoded, why) || removed
	}
	return removed
}

// removeOthers removes the entries of other keys with k's encoding, after the fence has moved.
// A reader may have put a newer entry in the meantime: it is removed too, which costs a miss.
func (t *Tier[K, V]) removeOthers(k K, encoded string) {
	if t.index == nil {
		return
	}
	var buf [4]K
	for _, other := range t.index.appendKeys(buf[:0], t.index.hash(encoded)) {
		if other != k {
			t.remove(other, encoded, Replaced)
		}
	}
}

func (t *Tier[K, V]) remove(k K, encoded string, why Reason) bool {
	h := t.hash(k)
	s := t.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, _ := s.table.Load().get(h, k)
	if n == nil {
		return false
	}
	t.removeLocked(s, h, n, removed)
	t.leave(n, why)
	t.fences.Move(encoded)
	return true
}

// compareAndRemove removes old, nil for no entry, if old is still the current entry, and moves
// the key's fence.
func (t *Tier[K, V]) compareAndRemove(k K, encoded string, old *Head) Outcome {
	h := t.hash(k)
	s := t.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case t.closed.Load():
		return Closed
	case !t.holds(k, old):
		return Refused
	}
	t.fences.Move(encoded)
	if n, _ := s.table.Load().get(h, k); n != nil {
		t.removeLocked(s, h, n, removed)
		t.leave(n, Deleted)
		t.fences.Move(encoded)
	}
	return Stored
}

// removeLocked removes a node of the shard. h is the hash of its key. Unless the node is
// evicted for room, its fence has been moved before, and is moved again afterwards.
func (t *Tier[K, V]) removeLocked(s *shard[K, V], h uint64, n *node[K, V], how departure) {
	used := s.table.Load().remove(h, n)
	s.order.remove(n)
	s.order.remember(h, n, used, how)
	s.bytes -= n.entry.size()
	t.index.remove(n.encoding, n.key)
}

// Flush moves every fence and removes everything. It gives the memory back, and
// takes no longer for many entries than for few.
func (t *Tier[K, V]) Flush() { t.flush(Invalidated) }

func (t *Tier[K, V]) flush(why Reason) {
	t.fences.MoveAll()
	// All locks at once: index and shards are never seen in different states, though neither is
	// cleared key by key.
	for i := range t.shards {
		t.shards[i].mu.Lock()
	}
	for i := range t.shards {
		if t.left != nil { // takes longer for many entries, then
			for _, n := range t.shards[i].order.nodes() {
				t.leave(n, why)
			}
		}
		t.shards[i].emptyLocked()
	}
	t.index.clear()
	t.fences.MoveAll()
	for i := range t.shards {
		t.shards[i].mu.Unlock()
	}
}

// closeWait bounds how long Close waits for the function of OnLeave.
const closeWait = 5 * time.Second

// Close empties the tier for good: later Puts are refused. It may be called more
// than once. It waits until the function of OnLeave was called for every value, for closeWait at most.
func (t *Tier[K, V]) Close() {
	// A Put that did not see this holds a lock that Flush waits for.
	t.closed.Store(true)
	t.flush(Evicted)
	t.left.wait(closeWait)
}
