package writebehind

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// worker consumes one partition while this process holds its lease.
type worker struct {
	q     *Queue
	n     int
	names store.QueueNames

	nudged  chan struct{} // there may be new writes
	flushed chan struct{} // the next batch is not to wait until it fills
	fresh   atomic.Int64  // number of writes that this process has appended since the last batch
	holds   atomic.Bool   // whether it holds the lease, to its own knowledge
	mark    atomic.Value  // string: the last id that this process has appended

	// The following fields are owned by the goroutine of run. They belong to the current term,
	// the time for which the partition is held.
	term    int // number of the current term
	owner   string
	unsure  bool      // Redis may have granted the lease to owner, and the answer was lost
	until   time.Time // the lease's end
	cursor  string    // entries after it have not been read
	rescan  time.Time // when the cursor was last at the beginning
	retries retries
	polls   int
}

func newWorker(q *Queue, n int) *worker {
	return &worker{
		q: q, n: n, names: store.NewQueueNames(q.cfg.Prefix, q.cfg.Name, n),
		nudged: make(chan struct{}, 1), flushed: make(chan struct{}, 1),
	}
}

func (w *worker) wake() { signal(w.nudged) }

func (w *worker) flush() { signal(w.flushed) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// appended records the ids that this process has put into the partition.
func (w *worker) appended(ids []string) {
	last, n := "", int64(0)
	for _, id := range ids {
		if id != "" {
			last, n = id, n+1
		}
	}
	if n == 0 {
		return
	}
	// One Append at a time: no other goroutine stores. Redis may go back in time.
	w.mark.Store(last)
	size := int64(w.q.cfg.BatchSize)
	if sum := w.fresh.Add(n); sum/size > (sum-n)/size {
		w.flush() // a batch may be full
	}
	w.wake()
}

// pause is the result of a poll: how long to wait for the next one.
type pause struct {
	d    time.Duration
	deaf bool // new writes do not end it, only a flush does
}

func (w *worker) run() {
	defer w.leave()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		// Only a poll that began after the last write could be queued has seen all writes.
		last := w.q.isClosing()
		p := w.poll()
		if w.q.applying.Err() != nil || p.d > 0 && last {
			return
		}
		if p.d <= 0 {
			continue
		}
		nudged := w.nudged
		if p.deaf {
			nudged = nil
		}
		t.Reset(p.d)
		select {
		case <-t.C:
		case <-nudged:
		case <-w.flushed:
		case <-w.q.closing:
		}
	}
}

// poll does one step of work, and returns how long to pause after it.
func (w *worker) poll() pause {
	if !w.holds.Load() {
		// While closing, a process that lived only briefly takes over the writes that it has
		// queued.
		if w.q.isClosing() && w.mark.Load() == nil || !w.take() {
			return pause{poll, true}
		}
	}
	if w.q.assignment.exceeded() {
		w.release()
		return pause{poll, true}
	}
	f, group := w.pick()
	began, fresh := time.Now(), w.fresh.Load()
	got, err := w.q.store.Fetch(w.q.ctx, w.names, f)
	if err != nil {
		w.failed(err)
		return pause{poll, true}
	}
	w.until = began.Add(lease)
	if group != nil {
		w.retries.looked(group, got.Looked)
		if len(got.Entries) > 0 {
			w.batch(got.Entries)
		}
		return pause{}
	}
	if got.Wait == 0 {
		w.fresh.Add(-fresh)
	}
	moved := got.Last != w.cursor
	w.cursor = got.Last
	entries := got.Entries[:0]
	for i := range got.Entries {
		if e := &got.Entries[i]; !w.retries.has(e.Key, e.ID) {
			entries = append(entries, *e)
		}
	}
	switch {
	case len(entries) > 0:
		w.batch(entries)
		return pause{}
	case moved:
		return pause{}
	case got.Wait > 0:
		return pause{min(got.Wait, w.retries.next(poll)), true}
	case got.Len > 0 && time.Since(w.rescan) >= rescanEvery:
		w.cursor, w.rescan = "", time.Now()
		return pause{}
	}
	return pause{d: w.retries.next(poll)}
}

// pick decides what to fetch: writes to retry or new writes, alternating if there are both.
func (w *worker) pick() (store.Fetch, *group) {
	f := store.Fetch{Owner: w.owner, Lease: lease, Bytes: fetchBytes}
	w.polls++
	if w.polls%2 == 0 {
		if g := w.retries.due(); g != nil {
			f.Keys = w.retries.keys(g, w.atOnce(g.attempts))
			if len(f.Keys) > 0 {
				return f, g
			}
		}
	}
	f.After, f.Count = w.cursor, w.q.cfg.BatchSize
	if w.q.syncing.Load() == 0 && !w.q.isClosing() {
		f.Delay, f.Full = w.q.cfg.BatchDelay, w.q.cfg.BatchSize+w.retries.len()
	}
	return f, nil
}

// atOnce is how many writes with so many failed attempts are retried together. One of them may
// make all of them fail: so the number shrinks with each attempt, and the last attempt of each
// is alone.
func (w *worker) atOnce(attempts int) int {
	if attempts+1 >= w.q.cfg.MaxAttempts {
		return 1
	}
	return max(w.q.cfg.BatchSize>>min(attempts, 30), 1)
}

// take tries to begin a term.
func (w *worker) take() bool {
	if !w.q.assignment.reserve(w) {
		return false
	}
	// If a lease was granted and the answer lost, the next attempt uses the same owner:
	// otherwise that lease would exclude all processes, this one included, until it ends.
	if !w.unsure {
		w.term++
		w.owner = fmt.Sprintf("%s:%d", w.q.sender, w.term)
	}
	began := time.Now()
	ok, err := w.q.store.Acquire(w.q.ctx, w.names, w.owner, lease, false)
	if w.unsure = err != nil; err != nil || !ok {
		w.q.assignment.giveBack()
		return false
	}
	w.until, w.rescan, w.cursor, w.retries = began.Add(lease), began, "", newRetries()
	w.holds.Store(true)
	return true
}

// lost ends a term whose lease is over already.
func (w *worker) lost() {
	w.holds.Store(false)
	w.q.assignment.giveBack()
}

// release ends a term that is no longer counted in the assignment.
func (w *worker) release() {
	w.holds.Store(false)
	// If this fails, the lease runs out.
	_ = w.q.store.Leave(w.q.ctx, w.names, w.owner)
}

func (w *worker) leave() {
	if w.holds.Load() {
		w.q.assignment.giveBack()
		w.release()
	}
}

// failed handles an error of Redis.
func (w *worker) failed(err error) {
	if errors.Is(err, store.ErrNotOwner) || !w.safe() {
		w.lost()
	}
	if !errors.Is(err, store.ErrNotOwner) && w.q.ctx.Err() == nil {
		w.q.report(Report{Err: err})
	}
}

// safe reports whether the lease lasts longer than leaseMargin.
func (w *worker) safe() bool { return time.Until(w.until) > leaseMargin }

// keep renews the lease until done is closed, and cancels the term's context when the lease
// runs out. Afterwards w.until is again owned by the goroutine of run.
func (w *worker) keep(ctx context.Context, lost context.CancelCauseFunc, done <-chan struct{}) {
	end := time.NewTimer(time.Until(w.until) - leaseMargin)
	defer end.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-end.C:
			lost(errLost)
			return
		case <-tick.C:
		}
		ok, began, err := w.renew(ctx)
		switch {
		case err == nil && !ok:
			lost(errLost)
			return
		case err == nil:
			w.until = began.Add(lease)
			end.Reset(time.Until(w.until) - leaseMargin)
		}
	}
}

func (w *worker) renew(ctx context.Context) (ok bool, began time.Time, err error) {
	began = time.Now()
	ctx, cancel := context.WithDeadline(ctx, w.until.Add(-leaseMargin))
	defer cancel()
	ok, err = w.q.store.Acquire(ctx, w.names, w.owner, lease, true)
	return ok, began, err
}
