package remote

import "context"

const ScanCount = scanCount

// MarksInSteps and MarkInSteps are Marks and Mark as they are while a slot moves.
func (s *Redis) MarksInSteps(ctx context.Context, names Names, known Known, tags []string) (Marks, error) {
	return s.marksInSteps(ctx, names, known, tags)
}

func (s *Redis) MarkInSteps(ctx context.Context, names Names, known Known, n *NewMark) (Marks, error) {
	return s.markInSteps(ctx, names, known, n)
}

// ErrSteps says that others have changed the clock each time.
var ErrSteps = errSteps
