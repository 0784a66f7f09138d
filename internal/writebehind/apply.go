package writebehind

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
)

const (
	// settleAgain is the pause before outcomes that could not be recorded are sent to Redis
	// again.
	settleAgain = 50 * time.Millisecond

	// errorBytes bounds the text of an error in a dead letter.
	errorBytes = 1000
)

var errNoRoom = errors.New("writebehind: there is no room for dead letters, so that a write which has failed for good stays in the queue")

// batch applies entries and records their outcomes.
func (w *worker) batch(entries []Entry) {
	if !w.safe() {
		w.lost() // Redis took its time to answer
		return
	}
	ctx, cancel := context.WithCancelCause(w.q.applying)
	defer cancel(nil)
	done, kept := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(kept)
		w.keep(ctx, cancel, done)
	}()
	began := time.Now()
	verdicts := w.verdicts(ctx, entries)
	r := Report{Took: time.Since(began)}
	close(done)
	<-kept
	if verdicts == nil {
		w.lost() // without giving up the lease: see Close
		w.q.report(Report{Failed: len(entries), Err: ErrAbandoned, Took: r.Took})
		return
	}

	var outcomes []store.Outcome
	var failed []Entry // the entries of outcomes
	for i := range entries {
		e := entries[i]
		o := store.Outcome{Verdict: store.Applied, Key: e.Key, ID: e.ID}
		if v := &verdicts[i]; v.err != nil {
			if ctx.Err() != nil {
				continue // the error is not a verdict on the write
			}
			r.Err = v.err
			e.Attempts++
			o.Verdict, o.Attempts = store.Failed, e.Attempts
			if e.Attempts >= w.q.cfg.MaxAttempts || v.permanent {
				o.Verdict, o.Error = store.Died, bounded(v.text)
				if w.q.cfg.Hide != nil {
					o.Error = w.q.cfg.Hide(e.Key, o.Error)
				}
			}
		}
		outcomes = append(outcomes, o)
		failed = append(failed, e)
	}
	settled, err := w.settle(outcomes)
	if err != nil {
		w.lost()
		r.Err = err
		w.q.report(r)
		return
	}
	w.account(outcomes, settled, failed, &r)
	if len(outcomes) < len(entries) {
		w.leave() // the next holder of the lease applies the others
	}
	w.q.report(r)
	w.q.noteSettled()
}

// account updates the retries and the report from recorded outcomes.
func (w *worker) account(outcomes []store.Outcome, settled []store.Settled, entries []Entry, r *Report) {
	again := map[int][]Entry{} // by attempts
	for i, o := range outcomes {
		w.retries.forget(o.Key)
		switch {
		case o.Verdict == store.Applied:
			r.Applied++
		case settled[i] == store.Superseded:
			r.Failed++ // the newer write is found in its place
		case o.Verdict == store.Died && settled[i] == store.Recorded:
			r.Dead++
		case o.Verdict == store.Died:
			r.Err = fmt.Errorf("%w: %w", errNoRoom, r.Err)
			fallthrough
		default:
			r.Failed++
			again[o.Attempts] = append(again[o.Attempts], entries[i])
		}
	}
	for attempts, es := range again {
		w.retries.add(attempts, es, backoff(attempts, w.q.cfg.Rand()))
	}
}

var errElsewhere = errors.New("cache: this key belongs to another partition of the queue: the entry was moved, or not written by a cache")

// verdicts returns the verdicts of the source, and of this package on entries that are not in
// the partition of their key: their key's writes would have two orders. The result is nil if
// Close has abandoned the call of Apply.
func (w *worker) verdicts(ctx context.Context, entries []Entry) []verdict {
	var ours []Entry
	out := make([]verdict, len(entries))
	for i, e := range entries {
		if Partition(e.Key) == w.n {
			ours = append(ours, e)
		} else {
			out[i] = verdict{errElsewhere, errElsewhere.Error(), true}
		}
	}
	if len(ours) == 0 {
		return out
	}
	got := w.q.apply(ctx, ours)
	if got == nil {
		return nil
	}
	for i := range out {
		if out[i].err == nil {
			out[i], got = got[0], got[1:]
		}
	}
	return out
}

// apply calls Apply. The result is nil if Close has abandoned the call.
func (q *Queue) apply(ctx context.Context, entries []Entry) []verdict {
	if q.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.cfg.Timeout)
		defer cancel()
	}
	done := make(chan []verdict, 1)
	go func() { done <- q.ask(ctx, entries) }()
	select {
	case verdicts := <-done:
		return verdicts
	case <-q.alone:
	}
	select {
	case verdicts := <-done: // both were ready
		return verdicts
	default:
		return nil
	}
}

// verdict is the source's result for a write. The error is a value of the program: its methods
// are called where only this batch waits for them.
type verdict struct {
	err       error
	text      string
	permanent bool
}

// ask calls Apply, and the methods of its errors.
func (q *Queue) ask(ctx context.Context, entries []Entry) []verdict {
	var errs []error
	err := usercode.Contained(func() error {
		errs = q.cfg.Apply(ctx, entries)
		return nil
	})
	if err == nil && len(errs) > 0 && len(errs) != len(entries) {
		err = fmt.Errorf("cache: the source answered %d of %d writes", len(errs), len(entries))
	}
	if err != nil || len(errs) == 0 {
		errs = fill(make([]error, len(entries)), err)
	}
	out := make([]verdict, len(entries))
	usercode.Each(len(errs), func(i int) {
		if errs[i] != nil {
			err := usercode.Checked(errs[i])
			out[i] = verdict{err, usercode.Text(err), usercode.Is(err, ErrPermanent)}
		}
	}, func(i int, err error) { out[i] = verdict{err: err, text: err.Error()} })
	return out
}

// settle records the outcomes in Redis, retrying as long as the lease lasts: writes that were
// applied and not recorded are applied again.
func (w *worker) settle(outcomes []store.Outcome) ([]store.Settled, error) {
	if len(outcomes) == 0 {
		return nil, nil
	}
	s := store.Settle{Owner: w.owner, Lease: lease, MaxDead: partitionBacklog, Outcomes: outcomes}
	for {
		began := time.Now()
		settled, err := w.q.store.Settle(w.q.ctx, w.names, s)
		if err == nil {
			w.until = began.Add(lease)
			return settled, nil
		}
		if errors.Is(err, store.ErrNotOwner) || !w.safe() || w.q.ctx.Err() != nil {
			return nil, err
		}
		select {
		case <-time.After(settleAgain):
		case <-w.q.ctx.Done():
		}
	}
}

// bounded truncates a string to errorBytes, as valid UTF-8.
func bounded(s string) string {
	if len(s) > errorBytes {
		s = s[:errorBytes]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
