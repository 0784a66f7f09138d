package writebehind

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// attendFor is how long a process is counted after it has last registered: less than a lease,
// so that other processes may have its partitions as soon as they are free.
const attendFor = lease - poll

// assignment keeps partitions spread evenly: with n processes none takes more than the nth part
// of them, rounded up, and a process that holds more releases some.
type assignment struct {
	mu    sync.Mutex
	share int // how many partitions this process may hold
	held  int // how many it holds, or is about to acquire

	// Workers that found no place, in the order in which they asked. Without this list, a free
	// partition may be acquired late, or never:
	//
	//  1. a process may hold one more; others hold all partitions but one
	//  2. the worker of one that is held reserves a place, and tries to acquire it
	//  3. meanwhile the worker of the free one finds no place, and pauses
	//  4. the partition in 2 is held; another worker reserves the place, as in 2
	waiting []*worker
}

// reserve counts a partition, if there may be one more. If not, its worker is woken when there
// may be.
func (s *assignment) reserve(w *worker) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held < s.share {
		s.held++
		return true
	}
	if !slices.Contains(s.waiting, w) {
		s.waiting = append(s.waiting, w)
	}
	return false
}

// giveBack stops counting a partition.
func (s *assignment) giveBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
	s.wakeLocked()
}

// allow sets how many partitions this process may hold.
func (s *assignment) allow(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.share = n
	s.wakeLocked()
}

// wakeLocked wakes as many workers as there are places.
func (s *assignment) wakeLocked() {
	n := min(max(s.share-s.held, 0), len(s.waiting))
	for _, w := range s.waiting[:n] {
		w.flush()
	}
	s.waiting = slices.Delete(s.waiting, 0, n)
}

// exceeded stops counting a partition, if there is one too many.
func (s *assignment) exceeded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held <= s.share {
		return false
	}
	s.held--
	return true
}

// attend registers this process for d, 0 to unregister, and updates its share. If Redis can't
// be reached, the share stays as it is.
func (q *Queue) attend(ctx context.Context, d time.Duration) {
	n, err := q.store.Join(ctx, store.MembersName(q.cfg.Prefix, q.cfg.Name), q.sender, d)
	if err != nil || n <= 0 {
		return
	}
	q.assignment.allow((Partitions + n - 1) / n)
}
