package coherence

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/client"
)

// reconcileTime bounds a Reconcile, beside the timeouts of what it asks Redis.
const reconcileTime = time.Second

// replayAgain is how often a Reconcile tries to tell.
const replayAgain = 4

// suspicion is a reason to doubt, as often as there was one, until it is settled.
type suspicion struct {
	raised, settled atomic.Uint64
}

func (s *suspicion) raise() { s.raised.Add(1) }

// open returns how many reasons there are, and whether there are some that are not settled.
func (s *suspicion) open() (reasons uint64, open bool) {
	reasons = s.raised.Load()
	return reasons, reasons != s.settled.Load()
}

// isSettled reports whether so many reasons are settled.
func (s *suspicion) isSettled(reasons uint64) bool { return s.settled.Load() >= reasons }

// settle settles that many reasons. Those that came since stay. It is not called by two at
// a time.
func (s *suspicion) settle(reasons uint64) { s.settled.Store(reasons) }

// Suspect is called when Redis may be another one from now on, which lacks what this
// process has written and Redis had acknowledged: a session has ended, Redis could not be
// reached, or it has gone back in time.
func (a *Coordinator) Suspect() {
	a.suspicion.raise()
}

// reconciling is one reconciliation under way, for all callers that it is early enough for.
type reconciling struct {
	done chan struct{} // closed after err is written
	err  error
}

// Reconcile makes sure, where that is in doubt, that Redis has nothing older than what
// this process wrote or invalidated lately: before anything is read from it again. It is
// done once for all who call meanwhile, and goes on if they leave.
//
//  1. this process invalidates a key; Redis acknowledges, and dies
//  2. it comes back with what it had saved a while ago, the old value included
//  3. a read of this process would find it
//
// A reconciliation settles the suspicions that there were when it looked. A caller with a
// later one waits for its end, and then for the next:
//
//  1. a reconciliation has taken what is to be told again, and tells it
//  2. a write is acknowledged; a failover loses it, and raises another suspicion
//  3. a read that went on at the end of 1 would find what was there before that write
func (a *Coordinator) Reconcile(ctx context.Context) error {
	reasons, suspect := a.suspicion.open()
	for suspect {
		r := a.beginReconciling()
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
		suspect = !a.suspicion.isSettled(reasons)
	}
	return nil
}

func (a *Coordinator) beginReconciling() *reconciling {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return nil
	case a.reconciling != nil:
		return a.reconciling
	}
	if err := a.renewal.refuses(now()); err != nil {
		r := &reconciling{done: make(chan struct{}), err: err}
		close(r.done)
		return r
	}
	r := &reconciling{done: make(chan struct{})}
	a.reconciling = r
	a.wg.Go(func() {
		err := a.reconcile()
		a.mu.Lock()
		a.reconciling = nil
		a.mu.Unlock()
		r.err = err
		close(r.done)
	})
	return r
}

func (a *Coordinator) reconcile() error {
	ctx, cancel := context.WithTimeout(a.ctx, reconcileTime)
	defer cancel()
	err := a.reconcileUntil(ctx)
	switch {
	case err == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()):
		return err
	case a.ctx.Err() != nil:
		return client.ErrClosed
	}
	return &client.TimeoutError{After: reconcileTime} // no caller's own time is over
}

func (a *Coordinator) reconcileUntil(ctx context.Context) error {
	if err := a.renew(ctx, false); err != nil {
		return err
	}
	if err := a.readEpochNow(ctx); err != nil && err != ErrSuspect {
		return err
	}
	reasons, _ := a.suspicion.open()
	backs, back := a.rollbackSeen.open() // later: each is raised before the suspicion
	if err := a.FetchTombstones(ctx, nil); err != nil {
		return err
	}
	safe := int64(nothing)
	if !back {
		// Most suspicions are about a server that never was another one.
		safe = a.look(ctx)
	}
	// Other connections may lead to the server before, which was replaced.
	if err := a.renew(ctx, back); err != nil {
		return err
	}
	a.replayRecent(ctx, safe)
	// What can't be told now is looked at record by record until it is; see Outdated. So is
	// what would take long, which reads need not wait for. Others may write meanwhile, and
	// are then looked at once more.
	for range replayAgain {
		if n := a.queue.Len(); n == 0 || n > 4*retryBatch || a.notify(ctx) {
			break
		}
	}
	a.rollbackSeen.settle(backs)
	a.suspicion.settle(reasons)
	return nil
}

// Connections counts the connections to Redis for [Coordinator.Reconnected], where that has to
// know how many there were before an operation that begins now: 0 if it does not.
func (a *Coordinator) Connections(now int64) uint32 {
	if a.serverID.known() || !a.recent.Any(now) {
		return 0
	}
	return a.cfg.Client.Connections()
}

// Reconnected reports whether connections to Redis were made, and then raises a suspicion: a
// server that was restarted or replaced between two operations shows in nothing else.
// Where this process has nothing to lose by that, it reports that there were none.
//
// A suspicion is soon settled where it can be asked who Redis is. There, every connection
// since the last call counts, whatever operation made it. Elsewhere all that was written
// and invalidated lately has to be told again, which may take what others have stored
// since: only those count that were made since before, the answer of
// [Coordinator.Connections], which is since a read began, at the local time at.
func (a *Coordinator) Reconnected(before uint32, at int64) bool {
	if !a.recent.Any(at) {
		return false
	}
	n := a.cfg.Client.Connections()
	if (before == 0 || n == before) && (n == a.dialed.Load() || !a.serverID.known()) {
		return false
	}
	// In this order: who finds it known must find the suspicion as well.
	a.Suspect()
	a.dialed.Store(n)
	return true
}
