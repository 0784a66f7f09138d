package coherence

import (
	"context"
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
func (p *Part) use() {
	if !p.used.Load() { // many readers share it
		p.used.Store(true)
	}
}

// use notes that the clocks of all parts have to be touched.
func (a *Coordinator) use() {
	for _, p := range a.parts {
		p.use()
	}
}

// useOf notes that the clock of a key has to be touched, of which only the encoding is at hand.
func (a *Coordinator) useOf(encoded string) {
	if len(a.parts) == 1 {
		a.parts[0].use()
		return
	}
	a.Of(a.cfg.Names.Data + encoded).use()
}

// touch touches the clocks that are to be touched now. odd says which of them where there are
// several and nothing is received: then it is called twice a second, and each is touched once.
func (a *Coordinator) touch(ctx context.Context, odd bool) {
	var due []*Part
	for i, p := range a.parts {
		switch {
		case a.cfg.Transport != None:
			if p.touches(now()) {
				due = append(due, p)
			}
		case len(a.parts) > 1 && (i%2 == 1) != odd:
		case p.used.Swap(false):
			due = append(due, p)
		}
	}
	if len(due) == 0 {
		return
	}
	a.eachPart(due, func(p *Part) error {
		err := p.FetchTombstones(ctx, nil)
		if err != nil && a.cfg.Transport != None {
			p.use() // try again
		}
		return err
	})
}

// touches reports whether the clock is to be touched now.
func (p *Part) touches(now int64) bool {
	return p.used.Swap(false) || now >= p.rest.watched.Load()+watchLapse
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
func (p *Part) Claim() logicalclock.Known {
	k := p.Clock.Known()
	return p.rest.claim(k, now())
}

// rest is the last rest of the clock. A rest counts only if a session was there all the time:
// otherwise other processes may have written in between.
type rest struct {
	watched atomic.Int64 // local time when the session has last found the clock as it should be

	mu    sync.Mutex         // guards what follows
	heard bool               // there is a session
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
func (r *rest) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard, r.last = true, logicalclock.Known{}
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
