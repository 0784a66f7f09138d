package local

import "fmt"

// resizeAtOnce is how many entries Resize evicts before it lets other writers of the shard pass.
const resizeAtOnce = 256

// Resize changes the capacity, and evicts what is too much. The number of shards stays: the error
// says if there are more of them than entries.
func (t *Tier[K, V]) Resize(capacity int) error {
	if capacity < len(t.shards) {
		return fmt.Errorf("the tier is divided into %d parts, and each needs room for an entry: write at least %[1]d", len(t.shards))
	}
	t.resize.Lock()
	defer t.resize.Unlock()
	for i := range t.shards {
		want := capacity / len(t.shards)
		if i < capacity%len(t.shards) {
			want++
		}
		for !t.resizeShard(&t.shards[i], want) {
		}
	}
	return nil
}

// resizeShard takes a step towards a capacity, and reports whether that is reached.
func (t *Tier[K, V]) resizeShard(s *shard[K, V], want int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.capacity
	s.capacity = max(want, min(s.capacity, s.order.len())-resizeAtOnce)
	for s.order.len() > s.capacity {
		t.evictLocked(s, unread)
	}
	if s.capacity != want {
		return false
	}
	if want < before {
		// The memory of a table and of a history that were larger is given back. A table that has
		// not grown so far stays as it is.
		if tab := s.table.Load(); bucketsFor(want) < len(tab.buckets) {
			s.table.Store(tab.resized(t.hash, bucketsFor(want)))
		}
		s.order.history.shrink(want)
	}
	return true
}

// Capacity returns how many entries there is room for.
func (t *Tier[K, V]) Capacity() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += s.capacity
		s.mu.Unlock()
	}
	return n
}
