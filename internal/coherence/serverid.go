package coherence

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

const (
	// failoverGrace is how long after a change of the server identity no conclusion is drawn
	// from it. Connections to the previous server may remain, which goes on until it is told,
	// or finds out, that it has been replaced: 8 seconds and more with sentinels, the node
	// timeout of a cluster, 15 seconds by default. What it acknowledges is lost, while its
	// successor answers the requests for the server identity.
	failoverGrace = 30 * time.Second

	// lookPause is how long the server identity is not requested again after a request that got
	// no answer. There are proxies that close the connection at a command that they do not
	// know.
	lookPause = 10 * time.Second

	// lookTime bounds a request for the identity of a cluster during a reconciliation. It is one of
	// all masters, for which the reads of those that answer do not wait longer.
	lookTime = reconcileTime / 2

	// lookTimes is how many times as long as another request it is waited for, and lookLeast how long at
	// least, where an operation has failed lately.
	lookTimes = 10
	lookLeast = 50 * time.Millisecond

	// lookSoon is lookPause while the identity is not known, after a request whose answer did not come
	// in time, as on a busy machine: a failover before it is known is found out by the dates of records
	// alone.
	lookSoon = time.Second
)

// nothing, as the time after which writes are safe, means that none are.
const nothing = math.MaxInt64

// serverID is the server identity as last read by this process. On a busy machine, suspicions
// arise although nothing has happened: the client opened one more connection, or an answer was
// late. To replay all recent writes then is worse than useless: it removes what other processes
// have written at the same time. So the first check is whether Redis is still the server that
// acknowledged them:
//
//  1. the identity is read: it is S
//  2. a write is sent, and acknowledged
//  3. the identity is requested, and read: it is S
//
// By the meaning of equal answers, see [store.Store], the write of 2 can't have been lost; nor
// can it with more such reads between 1 and 3. It is not enough that 2 is acknowledged after 1:
//
//  1. a write is sent, executed, and acknowledged; Redis crashes and loses it
//  2. a read of the identity that was sent before is answered by the restarted server: it is S
//  3. the acknowledgement is recorded
//
// A loss after the answer of 3 raises a suspicion of its own.
type serverID struct {
	mu      sync.Mutex // guards what follows
	is      string     // the last identity read; "": none yet
	since   int64      // local time: what is sent later lies between equal answers
	refused bool       // the last answer had no identity
	resume  int64      // local time before which the identity is not requested
	another uint64     // how often the identity has changed
}

func (l *serverID) init() { l.resume, l.since = never, never }

// look reads the server identity. Redis has not lost what was sent after the returned time and
// acknowledged before the call.
func (a *Coordinator) look(ctx context.Context) (safe int64) {
	if !a.serverID.asks(now(), false) {
		return nothing
	}
	is, err := a.cfg.Client.ServerID(ctx)
	if err != nil && ctx.Err() != nil {
		return nothing // the caller's context has ended: nothing was found out
	}
	return a.serverID.learn(is, err, now())
}

// lookup is a look that the reconciliations of several parts have in common.
type lookup struct {
	reasons uint64        // the suspicions that were there before it began
	done    chan struct{} // closed after safe is written
	safe    int64
}

// lookFor is look for a suspicion, of which there were so many when the reason for it was there. It
// serves all parts: what Redis loses later raises a suspicion of its own. A request to the same servers
// has just taken as long as took.
//
// The identity of a cluster is that of all masters. Where an operation has failed lately, one of them may
// not answer: then it is not waited for much longer than an answer takes, or the reads of all keys would
// wait for the node of some. Without an answer, all recent writes count as unsafe.
func (a *Coordinator) lookFor(ctx context.Context, reasons uint64, took time.Duration) (safe int64) {
	if len(a.parts) == 1 {
		return a.look(ctx)
	}
	wait := lookTime
	if f := a.failed.Load(); f != never && now()-f < int64(lookPause) {
		wait = min(max(lookLeast, lookTimes*took), lookTime)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		l := a.lookup(reasons)
		select {
		case <-l.done:
			if l.reasons >= reasons {
				return l.safe
			}
		case <-t.C:
			return nothing
		case <-ctx.Done():
			return nothing
		}
	}
}

// lookup returns a look for that many suspicions, or another one in progress.
func (a *Coordinator) lookup(reasons uint64) *lookup {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lookedUp; l != nil {
		select {
		case <-l.done:
			if l.reasons >= reasons {
				return l
			}
		default:
			return l
		}
	}
	l := &lookup{reasons: reasons, done: make(chan struct{})}
	a.lookedUp = l
	a.wg.Go(func() {
		defer close(l.done)
		ctx, cancel := context.WithTimeout(a.ctx, lookTime)
		defer cancel()
		if l.safe = a.look(ctx); ctx.Err() != nil && a.ctx.Err() == nil {
			// A node that does not answer raises one suspicion after the other.
			a.serverID.pause(now())
		}
	})
	return l
}

// firstLook reads the server identity before any suspicion arises.
func (a *Coordinator) firstLook() {
	if a.serverID.asks(now(), true) {
		a.look(a.ctx)
	}
}

// asks reports whether to request the identity now. With first, that is only if it has not been
// read yet, for instance because Redis could not be reached, and no answer was without one.
func (l *serverID) asks(now int64, first bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now >= l.resume && !(first && (l.is != "" || l.refused))
}

// pause has the identity not be requested for a while: the last request got no answer in time.
func (l *serverID) pause(now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resume = now + int64(lookPause)
}

// changes returns how often the identity has changed.
func (l *serverID) changes() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.another
}

// known reports whether Redis tells its server identity.
func (l *serverID) known() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.is != "" && !l.refused
}

// changed reports whether the server identity has changed recently: writes that were lost then
// may have been acknowledged.
func (l *serverID) changed(now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.since > now
}

func (l *serverID) learn(is string, err error, at int64) (safe int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || is == "" {
		l.refused = err == nil
		l.resume = at + int64(lookPause)
		if t := (interface{ Timeout() bool })(nil); l.is == "" && errors.As(err, &t) && t.Timeout() {
			l.resume = at + int64(lookSoon)
		}
		return nothing
	}
	l.refused = false
	switch l.is {
	case is:
		return l.since
	case "":
		l.since = at
	default:
		l.since = at + int64(failoverGrace)
		l.another++
	}
	l.is = is
	return l.since
}
