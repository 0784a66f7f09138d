package coherence

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
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
//
// On a cluster there are as many clocks as parts of the keys, and a notification of a key concerns
// each process. So there a process looks first whether another one has touched the clock; see
// [Coordinator.touchByNode].

const (
	// watchLapse is how long the clock may rest after a check has found it as it should be.
	watchLapse = int64(15 * time.Second)

	// restMin is how much, in µs, the tick moves on at least at the end of a rest.
	restMin = logicalclock.LostFor / 2

	// restCounts is how long a rest counts, from when its end is noted. What was written since then,
	// and in the two seconds before, is replayed: the clock is touched within a second of a write,
	// and its new value is noted half a second later.
	restCounts = int64(logicalclock.LostFor*time.Microsecond - 2*time.Second)

	// restCountsParted is restCounts where there are several parts: a clock is touched within two
	// seconds of a write.
	restCountsParted = restCounts - int64(time.Second)
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

// touch touches the clock if it is to be touched now. Where there are several clocks, and nothing is
// received, it is called twice a second; second is true each other time.
func (a *Coordinator) touch(ctx context.Context, second bool) {
	if len(a.parts) > 1 {
		if second || a.cfg.Transport != None {
			a.touchByNode(ctx)
		}
		return
	}
	p := a.parts[0]
	if a.cfg.Transport == None && !p.used.Swap(false) || a.cfg.Transport != None && !p.touches(now()) {
		return
	}
	if p.FetchTombstones(ctx, nil) != nil && a.cfg.Transport != None {
		p.use() // try again
	}
}

// touches reports whether the clock is to be touched now.
func (p *Part) touches(now int64) bool {
	return p.used.Swap(false) || now >= p.rest.watched.Load()+watchLapse
}

// touchByNode is touch where there are several clocks. What a cache costs its servers then does not grow
// by 16 scripts a second for each process: a process reads the clock, those of one node together, and
// touches it only if no process has since its last round.
//
// After an event, a process is to know a greater tick than any state of Redis from before it has:
//
//  1. an event is noted
//  2. the next round reads the tick: no state from before 1 has a greater one
//  3. the round after that reads a greater tick: another process has touched the clock since 2. Or it
//     does not, and touches the clock itself
//
// It is not enough that the tick of 2 is greater than the one that was known, since the clock may have
// been touched before 1. So the lag is up to two seconds, and of all processes that hear of an event
// those touch the clock that come first.
//
// Nodes do not wait for each other, nor does the caller for any of them.
func (a *Coordinator) touchByNode(ctx context.Context) {
	due := map[string][]*Part{}
	for _, p := range a.parts {
		if p.touching.Load() || a.cfg.Transport != None && !p.Connected(now()) || !p.used.Load() && p.seen == 0 && (a.cfg.Transport == None || now() < p.rest.watched.Load()+watchLapse) {
			continue
		}
		p.touching.Store(true)
		node := a.nodeOf(p.names.Epoch)
		due[node] = append(due[node], p)
	}
	for _, parts := range due {
		a.wg.Go(func() {
			a.touchNode(ctx, parts)
			for _, p := range parts {
				p.touching.Store(false)
			}
		})
	}
}

// nodeOf names the node that has a key; where that is not known, the part that the key is in.
func (a *Coordinator) nodeOf(key string) string {
	if node, ok := a.cfg.Client.Endpoint(key); ok {
		return node
	}
	return string([]byte{a.Of(key).of})
}

// touchNode is a round of parts whose clocks are on one node.
func (a *Coordinator) touchNode(ctx context.Context, parts []*Part) {
	used, looks := make([]bool, len(parts)), make([]EpochRead, len(parts))
	cmds := make([]store.Command, len(parts))
	end := a.cfg.Client.Turn(ctx, parts[0].names.Epoch)
	for i, p := range parts {
		used[i] = p.used.Swap(false)
		looks[i] = p.beginLook()
		cmds[i] = store.Command{Op: store.Get, Key: p.names.Epoch}
	}
	replies := a.cfg.Client.Do(ctx, cmds)
	end()
	var due []*Part
	for i, p := range parts {
		if replies[i].Err != nil {
			p.roundFailed(used[i])
		} else if !p.touched(ctx, looks[i], replies[i].Record.Raw, used[i]) {
			due = append(due, p)
		}
	}
	if len(due) == 0 {
		return
	}
	a.eachPart(due, func(p *Part) error {
		err := p.FetchTombstones(ctx, nil)
		if err != nil {
			p.roundFailed(true)
		} else {
			p.seen = 0
		}
		return err
	})
}

// roundFailed has the clock be touched in a later round, or with the next operation where nothing is
// received.
func (p *Part) roundFailed(used bool) {
	switch {
	case p.a.cfg.Transport == None:
		p.seen = 0
	case used:
		p.use()
	}
}

// touched takes the reply to a read of the clock, which was in use before that or not, and reports
// whether the clock need not be touched in this round. What is wrong with it is found out, and mended,
// by touching it.
func (p *Part) touched(ctx context.Context, l EpochRead, raw []byte, used bool) bool {
	e, ok := p.parseEpoch(ctx, raw)
	if !ok || e.ID != l.known.Epoch || e.Tick < l.known.Tick {
		return false
	}
	var redisNow int64
	if e.All.Next != 0 && !e.All.Dated() {
		var err error
		if redisNow, err = p.a.cfg.Client.Now(ctx, p.names.Epoch); err != nil {
			return false
		}
	}
	if !p.learnEpoch(e, redisNow, l) {
		return false
	}
	p.rest.watched.Store(now())
	p.rest.look(p.Clock.Known(), l.at, now())
	if p.seen != 0 && e.Tick <= p.seen {
		return false
	}
	if p.seen = 0; used {
		p.seen = e.Tick
	}
	return true
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
	watched atomic.Int64 // local time when the session, or touchByNode, has last found the clock as it should be
	counts  int64        // restCounts

	mu    sync.Mutex         // guards what follows
	heard bool               // there is a session
	byKey bool               // it is one by key
	seen  int64              // local time when the last read was sent by which the session has seen the clock
	last  logicalclock.Known // as last noted in the session
	epoch uint64             // of the rest
	from  int64              // the tick before the rest
	until int64              // local time up to which it counts
}

func (r *rest) init(parts int) {
	r.watched.Store(never)
	r.until = never
	if r.counts = restCounts; parts > 1 {
		r.counts = restCountsParted
	}
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
		r.epoch, r.from, r.until = k.Epoch, r.last.Tick, now+r.counts
		if r.byKey {
			// Nothing was received of the write of another process that has ended the rest. The clock was not
			// touched for it when the session last saw it, so that it came a second or two earlier at most.
			r.until = min(r.until, r.seen+r.counts)
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
