package redisstore

import (
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
)

import "context"

const ScanCount = scanCount

// ReadClockInSteps and AddTombstonesInSteps are Marks and Mark as they are while a slot moves.
func (s *Redis) ReadClockInSteps(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (logicalclock.Reading, error) {
	return s.readClockInSteps(ctx, names, known, tags)
}

func (s *Redis) AddTombstonesInSteps(ctx context.Context, names store.Names, known logicalclock.Known, n *logicalclock.NewTombstone) (logicalclock.Reading, error) {
	return s.addTombstonesInSteps(ctx, names, known, n)
}

// ErrSteps says that others have changed the clock each time.
var ErrSteps = errSteps
