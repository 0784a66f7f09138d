package writebehind

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// Pauses of Sync between its requests to Redis; it also asks whenever outcomes were recorded
// here.
const (
	syncFirst = 5 * time.Millisecond
	syncMost  = 100 * time.Millisecond
)

// Newest returns the newest pending writes of those keys that have one: a read that does not
// find the key in the cache has to see them.
func (q *Queue) Newest(ctx context.Context, keys []string) (map[string]Entry, error) {
	if !q.begin() {
		return nil, ErrClosed
	}
	defer q.calls.Done()
	var asks []store.Ask
	var place [Partitions]int // in asks, from 1
	for _, k := range keys {
		n := Partition(k)
		if place[n] == 0 {
			asks = append(asks, store.Ask{Queue: q.workers[n].names})
			place[n] = len(asks)
		}
		a := &asks[place[n]-1]
		a.Keys = append(a.Keys, k)
	}
	found, err := q.store.Newest(ctx, asks)
	if err != nil {
		return nil, err
	}
	newest := map[string]Entry{}
	for _, entries := range found {
		for _, e := range entries {
			if e.ID != "" {
				newest[e.Key] = e
			}
		}
	}
	return newest, nil
}

// Stats is the size of the queue of all processes.
type Stats struct {
	Depth int // pending entries; a key of which an older write is being applied counts twice
	Dead  int
	Lag   time.Duration // the age of the oldest pending entry, by Redis's clock
}

// Stats asks Redis for the size of the queue.
func (q *Queue) Stats(ctx context.Context) (Stats, error) {
	if !q.begin() {
		return Stats{}, ErrClosed
	}
	defer q.calls.Done()
	var s Stats
	depths, err := q.store.Depths(ctx, q.names(q.workers[:]))
	for _, d := range depths {
		s.Depth += d.Log
		s.Dead += d.Dead
		s.Lag = max(s.Lag, d.Age)
	}
	return s, err
}

func (q *Queue) names(workers []*worker) []store.QueueNames {
	names := make([]store.QueueNames, len(workers))
	for i, w := range workers {
		names[i] = w.names
	}
	return names
}

// Sync returns when all writes that this process has queued before the call have been applied
// or are dead letters. It also waits for earlier writes of other processes in the same
// partitions. Its error is that of ctx, with the error of Redis if that could not be reached,
// or ErrClosed. Batches do not wait to be filled meanwhile.
func (q *Queue) Sync(ctx context.Context) error {
	marks := map[*worker]string{}
	for _, w := range q.workers {
		if mark, _ := w.mark.Load().(string); mark != "" {
			marks[w] = mark
		}
	}
	q.syncing.Add(1)
	defer q.syncing.Add(-1)
	for w := range marks {
		w.flush()
	}
	t := time.NewTimer(0)
	defer t.Stop()
	var err error
	for pause := syncFirst; ; pause = min(2*pause, syncMost) {
		settled := q.nextSettled()
		if err = q.behindOf(ctx, marks); len(marks) == 0 {
			return nil
		}
		t.Reset(pause)
		select {
		case <-settled:
		case <-t.C:
		case <-q.over:
			return ErrClosed
		case <-ctx.Done():
			if err != nil && !errors.Is(err, ctx.Err()) {
				return fmt.Errorf("%w; %v", ctx.Err(), err)
			}
			return ctx.Err()
		}
	}
}

// behindOf removes the marks that all pending entries have passed.
func (q *Queue) behindOf(ctx context.Context, marks map[*worker]string) error {
	workers := make([]*worker, 0, len(marks))
	for w := range marks {
		workers = append(workers, w)
	}
	depths, err := q.store.Depths(ctx, q.names(workers))
	if err != nil {
		return err
	}
	for i, w := range workers {
		if first := depths[i].First; first == "" || store.CompareIDs(first, marks[w]) > 0 {
			w.mark.CompareAndSwap(marks[w], "") // later calls do not wait for it again
			delete(marks, w)
		}
	}
	return nil
}
