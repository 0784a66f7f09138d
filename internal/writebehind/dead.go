package writebehind

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// lettersAtOnce is the maximum number of dead letters in one request.
const lettersAtOnce = 256

// DeadLetter is a write that has failed for good.
type DeadLetter struct {
	ID       string // for Replay and Discard
	Key      string
	Delete   bool
	Value    []byte
	Meta     []byte
	Error    string // of the last attempt, of a bounded length
	Attempts int
	At       time.Time // of the last attempt, by Redis's clock
}

// Letters are the dead letters of a cache's queue, in all partitions. It needs no [Queue], and
// does not consume: it is also for programs that are none of those that write.
type Letters struct {
	Store  store.Queue
	Prefix string // as for store.NewNames
	Name   string
}

// List lists at most limit dead letters, the oldest first.
func (l *Letters) List(ctx context.Context, limit int) ([]DeadLetter, error) {
	var out []DeadLetter
	for n := range Partitions {
		letters, err := l.of(ctx, n, limit)
		if err != nil {
			return nil, err
		}
		out = append(out, letters...)
	}
	slices.SortStableFunc(out, func(a, b DeadLetter) int { return a.At.Compare(b.At) })
	return out[:min(limit, len(out))], nil
}

func (l *Letters) names(n int) store.QueueNames { return store.NewQueueNames(l.Prefix, l.Name, n) }

// of lists the dead letters of a partition.
func (l *Letters) of(ctx context.Context, n, limit int) (out []DeadLetter, err error) {
	for after := ""; len(out) < limit; {
		letters, err := l.Store.Letters(ctx, l.names(n), after, min(limit-len(out), lettersAtOnce))
		if err != nil || len(letters) == 0 {
			return out, err
		}
		for _, d := range letters {
			after = d.ID
			out = append(out, DeadLetter{
				ID: letterID(n, d.ID), Key: d.Key, Delete: d.Delete, Value: d.Value, Meta: d.Meta,
				Error: d.Error, Attempts: d.Attempts, At: d.At,
			})
		}
	}
	return out, nil
}

func letterID(n int, id string) string { return strconv.Itoa(n) + "/" + id }

// Replay moves dead letters back into the queue, with all their attempts available again, and
// returns how many: all dead letters if ids is empty. An id that is no longer that of a dead
// letter is skipped. The error is [ErrFull] if there was no room for some, and
// [ErrDiscardOnly] if one of them may have been superseded by a later write. Consumers find the
// writes at their next poll.
func (l *Letters) Replay(ctx context.Context, ids ...string) (int, error) {
	return l.revive(ctx, ids, false, func(int) {})
}

// Discard removes dead letters for good; otherwise it is like Replay.
func (l *Letters) Discard(ctx context.Context, ids ...string) (int, error) {
	return l.revive(ctx, ids, true, func(int) {})
}

// revive revives or discards letters, and calls queued for each partition to which it has
// returned some.
func (l *Letters) revive(ctx context.Context, ids []string, discard bool, queued func(n int)) (int, error) {
	var byPartition [Partitions][]string
	for _, id := range ids {
		n, rest, ok := strings.Cut(id, "/")
		i, err := strconv.Atoi(n)
		if !ok || err != nil || i < 0 || i >= Partitions || !isID(rest) {
			return 0, fmt.Errorf("%w: %q", ErrBadID, id)
		}
		byPartition[i] = append(byPartition[i], rest)
	}
	total := 0
	var errs []error
	for i := range Partitions {
		if len(ids) > 0 && len(byPartition[i]) == 0 {
			continue
		}
		n, err := l.reviveOf(ctx, i, byPartition[i], len(ids) == 0, discard)
		if total += n; n > 0 && !discard {
			queued(i)
		}
		errs = append(errs, err)
	}
	return total, errors.Join(errs...)
}

// reviveOf revives or discards letters of a partition; with all, all that exist now.
func (l *Letters) reviveOf(ctx context.Context, partition int, ids []string, all, discard bool) (n int, err error) {
	if all {
		letters, err := l.of(ctx, partition, 2*MaxBacklog)
		if err != nil {
			return 0, err
		}
		for i := range letters {
			_, id, _ := strings.Cut(letters[i].ID, "/")
			ids = append(ids, id)
		}
	}
	for chunk := range slices.Chunk(ids, lettersAtOnce) {
		r := store.Revive{IDs: chunk, Discard: discard, Max: partitionBacklog}
		revived, e := l.Store.Revive(ctx, l.names(partition), r)
		for _, v := range revived {
			switch v {
			case store.Gone:
				n++
			case store.NotKnown:
				err = cmp.Or(err, ErrDiscardOnly)
			case store.NoRoomInLog:
				err = ErrFull
			}
		}
		if e != nil {
			return n, e
		}
	}
	return n, err
}

// DeadLetters lists at most limit dead letters, the oldest first. A key has at most one: a
// later write of the key removes it, since replaying it could only bring back an older value.
func (q *Queue) DeadLetters(ctx context.Context, limit int) ([]DeadLetter, error) {
	if !q.begin() {
		return nil, ErrClosed
	}
	defer q.calls.Done()
	return q.letters().List(ctx, limit)
}

func (q *Queue) letters() *Letters {
	return &Letters{Store: q.store, Prefix: q.cfg.Prefix, Name: q.cfg.Name}
}

// Replay is [Letters.Replay], and has this process's consumers look at once.
func (q *Queue) Replay(ctx context.Context, ids ...string) (int, error) {
	return q.revive(ctx, ids, false)
}

// Discard is [Letters.Discard].
func (q *Queue) Discard(ctx context.Context, ids ...string) (int, error) {
	return q.revive(ctx, ids, true)
}

func (q *Queue) revive(ctx context.Context, ids []string, discard bool) (int, error) {
	if !q.begin() {
		return 0, ErrClosed
	}
	defer q.calls.Done()
	return q.letters().revive(ctx, ids, discard, func(n int) { q.workers[n].wake() })
}

// isID reports whether s has the form of a stream id.
func isID(s string) bool {
	ms, seq, ok := strings.Cut(s, "-")
	if !ok {
		return false
	}
	_, err1 := strconv.ParseUint(ms, 10, 64)
	_, err2 := strconv.ParseUint(seq, 10, 64)
	return err1 == nil && err2 == nil
}
