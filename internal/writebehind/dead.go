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

// DeadLetters lists at most limit dead letters, the oldest first. A key has at most one: a
// later write of the key removes it, since replaying it could only bring back an older value.
func (q *Queue) DeadLetters(ctx context.Context, limit int) ([]DeadLetter, error) {
	if !q.begin() {
		return nil, ErrClosed
	}
	defer q.calls.Done()
	var out []DeadLetter
	for _, w := range q.workers {
		letters, err := w.letters(ctx, limit)
		if err != nil {
			return nil, err
		}
		out = append(out, letters...)
	}
	slices.SortStableFunc(out, func(a, b DeadLetter) int { return a.At.Compare(b.At) })
	return out[:min(limit, len(out))], nil
}

func (w *worker) letters(ctx context.Context, limit int) (out []DeadLetter, err error) {
	for after := ""; len(out) < limit; {
		letters, err := w.q.store.Letters(ctx, w.names, after, min(limit-len(out), lettersAtOnce))
		if err != nil || len(letters) == 0 {
			return out, err
		}
		for _, l := range letters {
			after = l.ID
			out = append(out, DeadLetter{
				ID: letterID(w.n, l.ID), Key: l.Key, Delete: l.Delete, Value: l.Value, Meta: l.Meta,
				Error: l.Error, Attempts: l.Attempts, At: l.At,
			})
		}
	}
	return out, nil
}

func letterID(n int, id string) string { return strconv.Itoa(n) + "/" + id }

// Replay moves dead letters back into the queue, with all their attempts available again, and
// returns how many: all dead letters if ids is empty. An id that is no longer that of a dead
// letter is skipped. The error is [ErrFull] if there was no room for some, and
// [ErrDiscardOnly] if one of them may have been superseded by a later write.
func (q *Queue) Replay(ctx context.Context, ids ...string) (int, error) {
	return q.revive(ctx, ids, false)
}

// Discard removes dead letters for good; otherwise it is like Replay.
func (q *Queue) Discard(ctx context.Context, ids ...string) (int, error) {
	return q.revive(ctx, ids, true)
}

func (q *Queue) revive(ctx context.Context, ids []string, discard bool) (int, error) {
	if !q.begin() {
		return 0, ErrClosed
	}
	defer q.calls.Done()
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
	for i, w := range q.workers {
		if len(ids) > 0 && len(byPartition[i]) == 0 {
			continue
		}
		n, err := w.revive(ctx, byPartition[i], len(ids) == 0, discard)
		total += n
		errs = append(errs, err)
	}
	return total, errors.Join(errs...)
}

// revive revives or discards letters; with all, all that exist now.
func (w *worker) revive(ctx context.Context, ids []string, all, discard bool) (n int, err error) {
	if all {
		letters, err := w.letters(ctx, 2*MaxBacklog)
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
		revived, e := w.q.store.Revive(ctx, w.names, r)
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
	if n > 0 && !discard {
		w.wake()
	}
	return n, err
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
