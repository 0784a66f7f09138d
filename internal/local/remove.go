package local

// Remove moves the key and removes every entry that is stored under it, and
// reports whether there was something. What is no key's encoding is under nothing.
//
// It moves first, because of
//
//  1. Remove removes the entry
//  2. Put finds that nothing has moved, and stores the old value
//  3. Remove moves the key; the old value stays
//
// and once more when the entry is gone, as put does.
func (t *Tier[K, V]) Remove(encoded string) bool {
	t.fences.Move(encoded)
	if t.index == nil {
		k, ok := t.decode(encoded)
		return ok && t.remove(k, encoded)
	}
	removed := false
	var buf [4]K
	for _, k := range t.index.appendKeys(buf[:0], t.index.hash(encoded)) {
		removed = t.remove(k, encoded) || removed
	}
	return removed
}

// removeOthers removes what other keys hold under k's encoding, after the key has
// moved. A reader may have put something newer there in the meantime: it goes too,
// which costs a miss.
func (t *Tier[K, V]) removeOthers(k K, encoded string) {
	if t.index == nil {
		return
	}
	var buf [4]K
	for _, other := range t.index.appendKeys(buf[:0], t.index.hash(encoded)) {
		if other != k {
			t.remove(other, encoded)
		}
	}
}

func (t *Tier[K, V]) remove(k K, encoded string) bool {
	h := t.hash(k)
	s := t.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, _ := s.table.Load().get(h, k)
	if n == nil {
		return false
	}
	t.removeLocked(s, h, n)
	t.fences.Move(encoded)
	return true
}

// compareAndRemove removes old, nil for nothing, if that is still what is there, and moves
// the key.
func (t *Tier[K, V]) compareAndRemove(k K, encoded string, old *Entry[V]) Outcome {
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
		t.removeLocked(s, h, n)
		t.fences.Move(encoded)
	}
	return Stored
}

// removeLocked removes a node that is there. h is the hash of its key. If not only room is
// needed, its fence has been moved before, and is moved again behind it.
func (t *Tier[K, V]) removeLocked(s *shard[K, V], h uint64, n *node[K, V]) {
	s.table.Load().remove(h, n)
	s.lru.Remove(n)
	s.bytes -= n.entry.size()
	if t.index != nil {
		t.index.remove(s.encodings[n], n.key)
		delete(s.encodings, n)
	}
}

// Flush moves every key and removes everything. It gives the memory back, and
// takes no longer for many entries than for few.
func (t *Tier[K, V]) Flush() {
	t.fences.MoveAll()
	// All locks at once: index and shards are never seen apart, though neither is
	// gone through key by key.
	for i := range t.shards {
		t.shards[i].mu.Lock()
	}
	for i := range t.shards {
		t.shards[i].emptyLocked(t.index != nil)
	}
	t.index.clear()
	t.fences.MoveAll()
	for i := range t.shards {
		t.shards[i].mu.Unlock()
	}
}

// Close empties the tier for good: later Puts are refused. It may be called more
// than once.
func (t *Tier[K, V]) Close() {
	// A Put that did not see this holds a lock that Flush waits for.
	t.closed.Store(true)
	t.Flush()
}
