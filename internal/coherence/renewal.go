package coherence

import (
	"context"
	"sync"
	"time"
)

const (
	// After a renewal of connections that has failed, no other is tried for such a pause:
	// a client may stay on a replica, and each attempt makes connections.
	renewFirst = 100 * time.Millisecond
	renewMost  = 2 * time.Second
)

// renewal is what has become of the connections to servers that were replaced or demoted.
type renewal struct {
	mu        sync.Mutex // guards what follows
	demotions uint64     // those after which connections were renewed
	changes   uint64     // likewise, of the lineage
	err       error      // of the last attempt; nil: none has failed since
	pause     time.Duration
	resume    int64 // local time of the next attempt
}

// refuses returns why there was no renewal lately, until it is tried again.
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

// renew leaves the connections to what is no master, if a server was found to be none any
// more, or to be another one, since that was last done; or if there is another reason.
func (a *Coordinator) renew(ctx context.Context, reason bool) error {
	demotions, changes := a.cfg.Client.Demotions(), a.serverID.changes()
	if !reason && !a.renewal.due(demotions, changes) {
		return nil
	}
	err := a.cfg.Client.Renew(ctx)
	a.renewal.note(demotions, changes, err, now())
	if err == nil {
		a.flushed() // what was read there since the session began
	}
	return err
}

// unverifyConnections raises a suspicion if connections are to be renewed.
func (a *Coordinator) unverifyConnections() {
	if a.renewal.due(a.cfg.Client.Demotions(), a.serverID.changes()) {
		a.Suspect()
	}
}
