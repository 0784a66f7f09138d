package remote

import "context"

// MarksAt is Marks at a given time; era is that of a new epoch.
func (m *Memory) MarksAt(names Names, known Known, now int64, era uint64, tags []string) Marks {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.marksLocked(names, known, now, era, tags)
}

// MarkAt is Mark at a given time; era is that of a new epoch.
func (m *Memory) MarkAt(names Names, known Known, now int64, era uint64, n NewMark) Marks {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.markLocked(names, known, now, era, &n)
}

// SetMaxTags sets how many tags are remembered, and returns what undoes it.
func SetMaxTags(n int) (restore func()) {
	old := maxTags
	maxTags = n
	return func() { maxTags = old }
}

const (
	LostFor   = lostFor
	TagSample = tagSample
	ScanCount = scanCount
)

// MarksInSteps and MarkInSteps are Marks and Mark as they are while a slot moves.
func (s *Redis) MarksInSteps(ctx context.Context, names Names, known Known, tags []string) (Marks, error) {
	return s.marksInSteps(ctx, names, known, tags)
}

func (s *Redis) MarkInSteps(ctx context.Context, names Names, known Known, n *NewMark) (Marks, error) {
	return s.markInSteps(ctx, names, known, n)
}

// ErrSteps says that others have changed the clock each time.
var ErrSteps = errSteps
