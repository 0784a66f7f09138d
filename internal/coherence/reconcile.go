package coherence

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/client"
)

// reconcileTime bounds a Reconcile, in addition to the timeouts of its requests to Redis.
const reconcileTime = time.Second

// replayAgain is how often a Reconcile tries to deliver.
const replayAgain = 4

// patternWait is how long it waits, where there are several parts, until patterns are delivered. A node
// that is down keeps them from it.
const patternWait = 50 * time.Millisecond

// suspicion counts the reasons for a doubt, and how many of them are settled. A reason is one for all
// parts of the keys, and is settled for each part by itself.
type suspicion struct {
	raised  *atomic.Uint64 // of all parts
	settled atomic.Uint64
}

func (s *suspicion) raise() { s.raised.Add(1) }

// open returns the number of reasons, and whether some of them are not settled.
func (s *suspicion) open() (reasons uint64, open bool) {
	reasons = s.raised.Load()
	return reasons, reasons != s.settled.Load()
}

// isSettled reports whether that many reasons are settled.
func (s *suspicion) isSettled(reasons uint64) bool { return s.settled.Load() >= reasons }

// settle settles that many reasons. Later ones stay open. It must not be called concurrently.
func (s *suspicion) settle(reasons uint64) { s.settled.Store(reasons) }

// Suspect is called when Redis may be another server from now on, which lacks writes of this
// process that Redis had acknowledged: a session has ended, Redis could not be reached, or it
// has gone back in time.
func (a *Coordinator) Suspect() {
	a.suspicions.Add(1)
}

// suspect is Suspect for the node of this part alone: its session has ended. What the other parts have
// settled stays so.
func (p *Part) suspect() {
	p.a.suspectMu.Lock() // the sessions of a node end together
	defer p.a.suspectMu.Unlock()
	reasons := p.a.suspicions.Add(1)
	for _, o := range p.a.parts {
		if o != p {
			o.suspicion.settled.CompareAndSwap(reasons-1, reasons)
		}
	}
}

// OperationFailed is Suspect for an operation that has failed: a server may not answer.
func (a *Coordinator) OperationFailed() {
	a.failed.Store(now())
	a.Suspect()
}

// reconciling is one reconciliation in flight, shared by all callers whose suspicion it covers.
type reconciling struct {
	done chan struct{} // closed after err is written
	err  error
}

// Reconcile makes sure, where that is in doubt, that Redis has nothing older than this
// process's recent writes and invalidations of this part's keys, before one of them is read from
// Redis again. One
// reconciliation serves all concurrent callers, and a canceled caller does not cancel it.
//
//  1. this process invalidates a key; Redis acknowledges, and crashes
//  2. it restarts with data saved a while ago, the old value included
//  3. a read of this process would find that value
//
// A reconciliation settles the suspicions that were open when it read the clock. A caller with
// a later one waits for it to end, and then for the next:
//
//  1. a reconciliation has collected the writes to replay, and sends them
//  2. a write is acknowledged; a failover loses it, and raises another suspicion
//  3. a read that went on at the end of 1 would find the value from before that write
func (p *Part) Reconcile(ctx context.Context) error {
	reasons, suspect := p.suspicion.open()
	for suspect {
		r := p.beginReconciling()
		if r == nil {
			return client.ErrClosed
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if r.err != nil {
			return r.err
		}
		suspect = !p.suspicion.isSettled(reasons)
	}
	return nil
}

func (p *Part) beginReconciling() *reconciling {
	a := p.a
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return nil
	case p.reconciling != nil:
		return p.reconciling
	}
	if err := a.renewal.refuses(now()); err != nil {
		r := &reconciling{done: make(chan struct{}), err: err}
		close(r.done)
		return r
	}
	r := &reconciling{done: make(chan struct{})}
	p.reconciling = r
	a.wg.Go(func() {
		err := p.reconcile()
		a.mu.Lock()
		p.reconciling = nil
		a.mu.Unlock()
		r.err = err
		close(r.done)
	})
	return r
}

func (p *Part) reconcile() error {
	a := p.a
	ctx, cancel := context.WithTimeout(a.ctx, reconcileTime)
	defer cancel()
	err := p.reconcileUntil(ctx)
	switch {
	case err == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()):
		return err
	case a.ctx.Err() != nil:
		return client.ErrClosed
	}
	return &client.TimeoutError{After: reconcileTime} // the deadline is not a caller's
}

func (p *Part) reconcileUntil(ctx context.Context) error {
	a := p.a
	if err := a.renew(ctx, false); err != nil {
		return err
	}
	if err := p.readEpochNow(ctx); err != nil && err != ErrSuspect {
		return err
	}
	reasons, _ := p.suspicion.open()
	backs, back := p.rollbackSeen.open() // later: each is raised before the suspicion
	began := now()
	if err := p.FetchTombstones(ctx, nil); err != nil {
		return err
	}
	safe := int64(nothing)
	if !back {
		// Most suspicions are about a server that has never changed.
		safe = a.lookFor(ctx, reasons, time.Duration(now()-began))
	}
	// Other connections may still lead to the server that was replaced.
	if err := a.renew(ctx, back); err != nil {
		return err
	}
	p.replayRecent(ctx, safe, reasons)
	// Records with an invalidation that can't be delivered now are checked one by one until it
	// is; see Outdated. The same goes for a long queue, for which reads need not wait. Other
	// processes may write meanwhile, and those keys are then read once more.
	notify := a.notify
	if len(a.parts) > 1 {
		notify = p.notifyKeys // the reads of one part do not wait for a node that has the keys of another
	}
	for range replayAgain {
		if n := a.queue.Len(); n == 0 || n > 4*retryBatch || notify(ctx) {
			break
		}
	}
	if len(a.parts) > 1 && a.queue.Len() > 0 {
		a.wakeUp()
		if a.pending.anyPattern() {
			// It is delivered for all parts at once, and concerns the keys of this one until then.
			ctx, cancel := context.WithTimeout(ctx, patternWait)
			_ = a.queue.Wait(ctx)
			cancel()
		}
	}
	p.rollbackSeen.settle(backs)
	p.suspicion.settle(reasons)
	return nil
}
