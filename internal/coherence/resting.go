package coherence

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
)

// While a cache is in use, each of its processes touches the logical clock once a second: its
// tick moves on in Redis, and if Redis goes back in time, it is less than what the process knows.
// See logicalclock.Epoch.
//
// Redis can lose what was written and what was invalidated. So the clock rests from the first
// second on in which a process neither loads, nor writes, nor receives a notification: a process
// that has touched the clock after the last of these events knows a greater tick than any state of
// Redis from before that event has. Meanwhile the session checks from time to time that the clock is
// still there, for all caches of the client together.

const (
	// watchLapse is how long the clock may rest after a check has found it as it should be.
	watchLapse = int64(15 * time.Second)

	// restMin is how much, in µs, the tick moves on at least at the end of a rest.
	restMin = logicalclock.LostFor / 2

	// restCounts is how long a rest counts, from when its end is noted. What was written since then,
	// and in the two seconds before, is replayed: the clock is touched within a second of a write,
	// and its new value is noted half a second later.
	restCounts = int64(logicalclock.LostFor*time.Microsecond - 2*time.Second)
)

// use notes that the clock has to be touched: a change was made or is about to be made, by this
// process or by another one whose message was received, or the clock itself was read.
func (a *Coordinator) use() {
	if !a.used.Load() { // many readers share it
		a.used.Store(true)
	}
}

// touches reports whether the clock is to be touched now.
func (a *Coordinator) touches(now int64) bool {
	return a.used.Swap(false) || now >= a.rest.watched.Load()+watchLapse
}

// Claim returns what this process knows of the clock, as it is passed to the scripts of the logical
// clock. They end the epoch if the tick in Redis is less by more than logicalclock.LostFor: then
// more is lost than processes replay. After a rest that difference includes the time of the rest,
// in which nothing was written:
//
//  1. the clock was touched last at 100 s; then it rests, in all processes
//  2. at 1000 s a process writes, and touches the clock
//  3. a replica that has not received that takes the place of its master: its tick is 100 s
//
// Only what was written since 1000 s is lost. So for a while after a rest, the tick that is claimed
// is that of its beginning plus LostFor, at most. A state of Redis from before the rest still ends
// the epoch.
func (a *Coordinator) Claim() logicalclock.Known {
	k := a.Clock.Known()
	return a.rest.claim(k, now())
}

// rest is the last rest of the clock. A rest counts only if a session was there all the time:
// otherwise other processes may have written in between.
type rest struct {
	watched atomic.Int64 // local time when the session has last found the clock as it should be

	mu    sync.Mutex         // guards what follows
	heard bool               // there is a session
	byKey bool               // it is one by key
	seen  int64              // local time when the last read was sent by which the session has seen the clock
	last  logicalclock.Known // as last noted in the session
	epoch uint64             // of the rest
	from  int64              // the tick before the rest
	until int64              // local time up to which it counts
}

func (r *rest) init() {
	r.watched.Store(never)
	r.until = never
}

// begin is called when a session has subscribed.
func (r *rest) begin(byKey bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard, r.last = true, logicalclock.Known{}
	r.byKey, r.seen = byKey, never
}

// look notes what is known of the clock after a read of the session, which was sent at a local time.
func (r *rest) look(k logicalclock.Known, sent, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noteLocked(k, now)
	r.seen = sent
}

// end is called when a session has ended.
func (r *rest) end(k logicalclock.Known, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noteLocked(k, now)
	r.heard = false
}

// note notes what is known of the clock.
func (r *rest) note(k logicalclock.Known, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noteLocked(k, now)
}

func (r *rest) noteLocked(k logicalclock.Known, now int64) {
	if !r.heard || k.Epoch == 0 {
		return
	}
	if k.Epoch == r.last.Epoch && k.Tick-r.last.Tick > restMin {
		r.epoch, r.from, r.until = k.Epoch, r.last.Tick, now+restCounts
		if r.byKey {
			// Nothing was received of the write of another process that has ended the rest. It was not
			// touched for when the session last saw the clock, and so came a second earlier at most.
			r.until = min(r.until, r.seen+restCounts)
		}
	}
	r.last = k
}

func (r *rest) claim(k logicalclock.Known, now int64) logicalclock.Known {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noteLocked(k, now)
	if k.Epoch == r.epoch && now < r.until {
		k.Tick = min(k.Tick, r.from+logicalclock.LostFor)
	}
	return k
}
