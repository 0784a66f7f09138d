package cache

import (
	"context"
	"time"
)

// DeadLetter is a write of a write-behind cache that the source has rejected for good.
type DeadLetter[K comparable, V any] struct {
	ID       string // for ReplayDeadLetters and DiscardDeadLetters
	Key      K
	Value    V
	Deleted  bool      // the write is a Delete, without a value
	Attempts int       // number of attempts
	At       time.Time // time of the last attempt, by Redis's clock
	Reason   string    // text of the source's error at that attempt
	Err      error     // why Key or Value can't be decoded; nil for most
}

// DeadLetters lists at most limit writes that the source has rejected for good
// (strategy.MaxAttempts times, or with a permanent error), the oldest first, of all
// processes. A key has at most one dead letter: a later write removes it. Without
// strategy.WriteBehind the error wraps [errors.ErrUnsupported].
func (c *Cache[K, V]) DeadLetters(ctx context.Context, limit int) ([]DeadLetter[K, V], error) {
	letters, err := c.engine.DeadLetters(ctx, limit)
	if letters == nil {
		return nil, err
	}
	out := make([]DeadLetter[K, V], 0, len(letters))
	for i := range letters {
		l := &letters[i]
		d := DeadLetter[K, V]{ID: l.ID, Value: valueOf[V](l.Value), Deleted: l.Delete, Attempts: l.Attempts, At: l.At, Reason: l.Reason, Err: l.Err}
		if k, ok := l.Key.(*K); ok {
			d.Key = *k
		}
		out = append(out, d)
	}
	return out, err
}

// ReplayDeadLetters queues dead letters again, all of them if no ids are given, and returns
// how many it queued; dead letters that no longer exist, since their keys were written, are
// no error. The error matches [ErrOverload] if the queue is full, and [ErrInvalidOption] if
// an id does not have the form of an ID. If it is not known whether a later write has been
// applied, a dead letter can only be discarded, and replaying it is an error. The other
// errors are those of [Cache.DeadLetters].
func (c *Cache[K, V]) ReplayDeadLetters(ctx context.Context, ids ...string) (int, error) {
	return c.engine.ReplayDeadLetters(ctx, ids...)
}

// DiscardDeadLetters deletes dead letters, all of them if no ids are given, and returns how
// many there were. The error matches [ErrInvalidOption] if an id does not have the form of an
// ID. The other errors are those of [Cache.DeadLetters].
func (c *Cache[K, V]) DiscardDeadLetters(ctx context.Context, ids ...string) (int, error) {
	return c.engine.DiscardDeadLetters(ctx, ids...)
}
