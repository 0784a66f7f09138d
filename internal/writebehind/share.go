package writebehind

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// attendFor is how long a process counts that has not said so again: less than a lease,
// so that others may have its partitions as soon as they are free.
const attendFor = lease - poll

// assignment sees to it that partitions are spread evenly: with n processes nobody takes
// more than the nth part of them, rounded up, and who has more gives some up.
type assignment struct {
	mu    sync.Mutex
	share int // what this process may hold
	held  int // what it holds, or is about to take

	// Those that would have asked for their partitions, in their order. Without it, one that
	// is free may be asked for late, or never:
	//
	//  1. a process may hold one more; others hold all partitions but one
	//  2. the consumer of one that is held reserves, and asks for it
	//  3. meanwhile the consumer of the free one finds no place, and pauses
	//  4. the partition asked for is held; another consumer reserves, as in 2
	waiting []*worker
}

// reserve counts a partition in, if there may be one more. If not, its consumer is woken when
// there may be.
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

// giveBack counts a partition out.
func (s *assignment) giveBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
	s.wakeLocked()
}

// allow says how many this process may hold.
func (s *assignment) allow(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.share = n
	s.wakeLocked()
}

// wakeLocked wakes as many as there are places.
func (s *assignment) wakeLocked() {
	n := min(max(s.share-s.held, 0), len(s.waiting))
	for _, w := range s.waiting[:n] {
		w.flush()
	}
	s.waiting = slices.Delete(s.waiting, 0, n)
}

// exceeded counts a partition out, if there is one too many.
func (s *assignment) exceeded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held <= s.share {
		return false
	}
	s.held--
	return true
}

// attend counts this process in for d, and finds out what its share is. If Redis can't
// be asked, that stays as it is.
func (q *Queue) attend(ctx context.Context, d time.Duration) {
	n, err := q.store.Join(ctx, store.MembersName(q.cfg.Prefix, q.cfg.Name), q.sender, d)
	if err != nil || n <= 0 {
		return
	}
	q.assignment.allow((Partitions + n - 1) / n)
}
