package coherence

import (
	"context"
	"math"
	"sync"
	"time"
)

const (
	// failoverGrace is how long after a change of the servers' lineage nothing is concluded
	// from it. There may be connections to the server from before, which goes on until it
	// is told, or finds out, that it has been replaced: 8 seconds and more with sentinels,
	// the node timeout of a cluster, 15 seconds by default. What it acknowledges is lost,
	// while looks are answered by its successor.
	failoverGrace = 30 * time.Second

	// lookPause is how long nobody asks again who has got no answer. There are proxies
	// that close the connection at a command that they do not know.
	lookPause = 10 * time.Second
)

// nothing as the time after which writes are safe says that none are.
const nothing = math.MaxInt64

// serverID is who the servers are, by the looks of this process. A suspicion arises on a
// busy machine where nothing has happened: the client opened one more connection, or an
// answer was late. To tell everything again then is worse than useless: it removes what
// others have written at the same time. So it is asked first whether Redis is still the
// one that acknowledged:
//
//  1. a look is answered: it is S
//  2. a write is sent, and acknowledged
//  3. a look is sent, and answered: it is S
//
// By what equal answers mean, see [store.Store], 2 can't have been lost; nor can it with
// more such looks between 1 and 3. It is not enough that 2 is acknowledged after 1:
//
//  1. a write is sent, carried out, and acknowledged; Redis dies with it
//  2. a look, which was sent before, is answered by the server that comes back: it is S
//  3. the acknowledgement is noted
//
// What is lost after the look of 3 was answered raises a suspicion of its own.
type serverID struct {
	mu      sync.Mutex // guards what follows
	is      string     // the last answer; "": none yet
	since   int64      // local time: what is sent later lies between equal looks
	refused bool       // there was an answer that said nothing
	resume  int64      // local time before which nobody asks
	another uint64     // how often there was another answer than before
}

func (l *serverID) init() { l.resume, l.since = never, never }

// look asks who the servers are. What was sent to Redis after the time that it returns, and
// acknowledged before the call, Redis has not lost.
func (a *Coordinator) look(ctx context.Context) (safe int64) {
	if !a.serverID.asks(now(), false) {
		return nothing
	}
	is, err := a.cfg.Client.ServerID(ctx)
	if err != nil && ctx.Err() != nil {
		return nothing // the caller has no more time: nothing was found out
	}
	return a.serverID.learn(is, err, now())
}

// firstLook sees to it that there is a look before a suspicion.
func (a *Coordinator) firstLook() {
	if a.serverID.asks(now(), true) {
		a.look(a.ctx)
	}
}

// asks reports whether to ask now; for the first time, or because Redis could not be
// reached then.
func (l *serverID) asks(now int64, first bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now >= l.resume && !(first && (l.is != "" || l.refused))
}

// changes counts how often another answer was given than before.
func (l *serverID) changes() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.another
}

// known reports whether it could be asked who Redis is.
func (l *serverID) known() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.is != "" && !l.refused
}

// changed reports whether Redis was seen to be another one not long ago: what it has lost
// then may have been acknowledged.
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
