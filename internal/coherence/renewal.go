package coherence

import (
	"context"
	"sync"
	"time"
)

const (
	// Backoff, at first and at most, after connections could not be renewed: a client may stay
	// on a replica, and each attempt makes connections.
	renewFirst = 100 * time.Millisecond
	renewMost  = 2 * time.Second
)

// renewal is the state of the renewal of connections after servers were replaced or demoted.
type renewal struct {
	mu        sync.Mutex // guards what follows
	demotions uint64     // the demotions seen at the last renewal
	changes   uint64     // the changes of the server identity seen then
	err       error      // of the last attempt; nil: it succeeded
	pause     time.Duration
	resume    int64 // local time of the next attempt
}

// refuses returns the error of the last renewal, until the next attempt is due.
func (r *renewal) refuses(now int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil || now >= r.resume {
		return nil
	}
	return r.err
}

func (r *renewal) due(demotions, changes uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return demotions != r.demotions || changes != r.changes
}

func (r *renewal) note(demotions, changes uint64, err error, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	if err == nil {
		r.demotions, r.changes, r.pause = demotions, changes, 0
		return
	}
	r.pause = min(max(2*r.pause, renewFirst), renewMost)
	r.resume = now + int64(r.pause)
}

// renew closes the connections to servers that are no master any more, if a server was demoted
// or its identity has changed since the last renewal, or if there is another reason.
func (a *Coordinator) renew(ctx context.Context, reason bool) error {
	demotions, changes := a.cfg.Client.Demotions(), a.serverID.changes()
	if !reason && !a.renewal.due(demotions, changes) {
		return nil
	}
	err := a.cfg.Client.Renew(ctx)
	a.renewal.note(demotions, changes, err, now())
	if err == nil {
		a.flushed() // drop what was read there since the session began
	}
	return err
}

// unverifyConnections raises a suspicion if a renewal of connections is due.
func (a *Coordinator) unverifyConnections() {
	if a.renewal.due(a.cfg.Client.Demotions(), a.serverID.changes()) {
		a.Suspect()
	}
}
