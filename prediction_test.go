package cache

import (
	"context"
	"fmt"
	"sync"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// ops is a store that notes what it is asked to do.
type ops struct {
	*storetest.Memory
	mu   sync.Mutex
	done []string
	fail error // of every Add
}

func (s *ops) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	s.mu.Lock()
	for _, c := range cmds {
		op := c.Op.String()
		if c.With > 0 {
			op += fmt.Sprintf("+%d", c.With)
		}
		s.done = append(s.done, op)
	}
	fail := s.fail
	s.mu.Unlock()
	if fail != nil && cmds[0].Op == store.SetNX {
		replies := make([]store.Reply, len(cmds))
		for i := range replies {
			replies[i].Err = fail
		}
		return replies
	}
	return s.Memory.Do(ctx, cmds)
}

// take returns what was done since the last time.
func (s *ops) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.done = nil }()
	return fmt.Sprint(s.done)
}
