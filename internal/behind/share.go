package behind

import (
	"context"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/remote"
)

// attendFor is how long a process counts that has not said so again: less than a lease,
// so that others may have its partitions as soon as they are free.
const attendFor = lease - poll

// shares sees to it that partitions are spread evenly: with n processes nobody takes
// more than the nth part of them, rounded up, and who has more gives some up.
type shares struct {
	mu    sync.Mutex
	share int // what this process may hold
	held  int // what it holds, or is about to take
}

// reserve counts a partition in, if there may be one more.
func (s *shares) reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held >= s.share {
		return false
	}
	s.held++
	return true
}

// giveBack counts a partition out.
func (s *shares) giveBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
}

// exceeded counts a partition out, if there is one too many.
func (s *shares) exceeded() bool {
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
	n, err := q.store.Attend(ctx, remote.MembersName(q.cfg.Prefix, q.cfg.Name), q.sender, d)
	if err != nil || n <= 0 {
		return
	}
	q.shares.mu.Lock()
	defer q.shares.mu.Unlock()
	q.shares.share = (Partitions + n - 1) / n
}
