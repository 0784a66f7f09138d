package redisstore

import (
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
)

import "context"

const ScanCount = scanCount

// MarksInSteps and MarkInSteps are Marks and Mark as they are while a slot moves.
func (s *Redis) MarksInSteps(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (logicalclock.Marks, error) {
	return s.marksInSteps(ctx, names, known, tags)
}

func (s *Redis) MarkInSteps(ctx context.Context, names store.Names, known logicalclock.Known, n *logicalclock.NewMark) (logicalclock.Marks, error) {
	return s.markInSteps(ctx, names, known, n)
}

// ErrSteps says that others have changed the clock each time.
var ErrSteps = errSteps
