package client

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/stackgrow"
	"github.com/delqhi/cache/internal/store"
)

// Small operations that come at about the same time share a round trip: group commit.
// Who finds nothing under way sends at once, alone and as if there were no others. Who
// comes while a round trip is under way joins those who wait for its end, and goes with
// them in the next one. No timer decides when to send, so that nobody waits for others
// who may not come; under load the round trips fill up by themselves, and what an
// operation costs falls to the part of it that can't be shared.
//
// Reads and what changes keys do so apart from each other: no read waits for somebody's
// large value on its way to Redis. What is large goes by itself; see lanes.go. Nothing is said of the order of operations of callers
// who do not wait for each other, so that none is lost.
//
// One round trip at a time is best where a round trip is mostly work. Where it is mostly
// distance, several are under way, as many as the shortest one lately suggests. One that
// takes far longer than usual, since its connection is stuck, holds others up for a
// moment only: whoever has waited so long, or comes after that, does not wait for it.
//
// A caller's context is its own. Who leaves takes nobody along, since a round trip that
// is shared has a context of its own, and nobody waits for longer than the Client's
// timeout. Only the one who goes alone is under its own context, as every other operation
// is.

const (
	// batchedMost is how many commands an operation has at most that goes with others. A
	// larger one is a batch by itself.
	batchedMost = 4
	// batchMost is how many commands go in one round trip, and batchBytes how large what
	// they store may be together, but for the first of them. More would save little, and
	// the first would wait for the last.
	batchMost  = 256
	batchBytes = 256 << 10
	// perBatch is the time that a round trip takes if it is mostly work: for each such
	// part of the shortest one, one more may be under way, up to batchesMost.
	perBatch    = 200 * time.Microsecond
	batchesMost = 8
	// tooLong is when a round trip is not waited for any more.
	tooLong = 10 * time.Millisecond
)

// batcher are the reads of a Client, or its other commands.
type batcher struct {
	guard    *Client
	endpoint func(key string) string // nil: there is but one

	// By endpoint: what waits for one does not wait for another.
	mu     sync.RWMutex // guards lines
	queues map[string]*endpointQueue
	only   endpointQueue // where there is but one

	// timers are this Client's own, because those of one bubble of testing/synctest must
	// not be used in another.
	timers sync.Pool
}

func (t *batcher) init(g *Client) {
	t.guard, t.endpoint = g, endpointsOf(g.store)
	t.queues = map[string]*endpointQueue{}
}

// batcherFor returns those that commands may go with, nil if they go alone.
func (g *Client) batcherFor(cmds []store.Command) *batcher {
	if len(cmds) > batchedMost {
		return nil
	}
	reads, shared := 0, 0
	for i := range cmds {
		if cmds[i].Op == store.Get {
			if reads++; cmds[i].Shared {
				shared++
			}
		}
	}
	switch reads {
	case len(cmds):
		return &g.reads
	case shared: // a look is small
		return &g.others
	}
	return nil
}

// queueFor is what is under way to one endpoint, and what waits.
type endpointQueue struct {
	mu         sync.Mutex    // guards what follows
	underway   int           // but for those that are not waited for any more
	generation int           // which of them are: those that were sent since it changed
	last       time.Time     // when the last one was sent
	shortest   time.Duration // round trip lately, 0: not known
	overtaking bool          // see overtake
	waiting    []*batch      // in the order in which they are to be sent; all but the last are full
}

// batch is a round trip that several callers share.
type batch struct {
	line      *endpointQueue
	ctx       context.Context // that of its first caller, without its end
	cmds      []store.Command
	bytes     int       // of what they store
	shared    int       // the place of the command that all may share, -1: there is none
	sent      time.Time // zero: not yet; guarded by the line's mu, as what follows
	overtaken bool
	bounded   bool          // it asks for no large record
	early     chan struct{} // closed after first is written
	first     []store.Reply // what is answered before the rest, but for what is cut
	done      chan struct{} // closed after what follows is written

	replies []store.Reply
	err     error
}

// slot is where the reply to a command will be.
type slot struct {
	batch *batch // nil: it goes alone
	at    int
	early bool // the reply is in the trip's first
}

// sender is a line that a caller sends something on itself.
type sender struct {
	*endpointQueue
	generation int
}

// do is Client.do for what goes together, and comes now.
func (t *batcher) do(ctx context.Context, cmds []store.Command, now time.Time) ([]store.Reply, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var seats [batchedMost]slot
	var led [batchedMost]sender
	leads := 0
	for i := 0; i < len(cmds); {
		l := t.queueFor(cmds[i].Key)
		n := i + 1
		for n < len(cmds) && (t.endpoint == nil || t.queueFor(cmds[n].Key) == l) {
			n++
		}
		if lot, alone := t.join(l, ctx, cmds[i:n], seats[i:n], now); alone {
			led[leads] = sender{l, lot}
			leads++
		}
		i = n
	}
	if leads == 0 {
		return t.wait(ctx, now, seats[:len(cmds)], nil)
	}
	mine := cmds
	for i := range cmds {
		if seats[i].batch != nil {
			mine = unslotted(cmds, seats[:len(cmds)])
			break
		}
	}
	got, err := t.guard.do(ctx, mine)
	took := time.Since(now)
	if err != nil {
		took = 0
	}
	for _, l := range led[:leads] {
		if next := l.end(l.generation, took); next != nil {
			t.flush(l.endpointQueue, next, l.generation)
		}
	}
	if len(mine) == len(cmds) {
		return got, err
	}
	replies := make([]store.Reply, len(cmds))
	for i := range replies {
		switch {
		case seats[i].batch != nil:
		case err != nil:
			replies[i].Err = err
		default:
			replies[i], got = got[0], got[1:]
		}
	}
	return t.wait(ctx, now, seats[:len(cmds)], replies)
}

// unslotted are the commands that go alone.
func unslotted(cmds []store.Command, seats []slot) []store.Command {
	mine := make([]store.Command, 0, len(cmds))
	for i := range cmds {
		if seats[i].batch == nil {
			mine = append(mine, cmds[i])
		}
	}
	return mine
}

func (t *batcher) queueFor(key string) *endpointQueue {
	if t.endpoint == nil {
		return &t.only
	}
	endpoint := t.endpoint(key)
	t.mu.RLock()
	l := t.queues[endpoint]
	t.mu.RUnlock()
	if l != nil {
		return l
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if l = t.queues[endpoint]; l == nil {
		l = new(endpointQueue)
		t.queues[endpoint] = l
	}
	return l
}

// join says where the replies to commands will be, or that their caller is to send them
// itself, at once.
func (t *batcher) join(l *endpointQueue, ctx context.Context, cmds []store.Command, seats []slot, now time.Time) (lot int, alone bool) {
	bound, most := 0, batchMost
	if t == &t.guard.reads {
		bound, most = t.guard.sizes.bound(), t.guard.sizes.reads()
	}
	lot, alone, late := l.join(ctx, cmds, seats, now, bound, most)
	if late != nil {
		t.flush(l, late, lot)
	}
	return lot, alone
}

// join also returns the trip that is to be sent at once, nil for none. bound is how much
// is read of a record, 0 for all, and most how many commands go together.
func (l *endpointQueue) join(ctx context.Context, cmds []store.Command, seats []slot, now time.Time, bound, most int) (lot int, alone bool, late *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.underway >= l.limitLocked()
	if held && now.Sub(l.last) >= tooLong {
		held = false
		l.abandonLocked()
	}
	if !held && len(l.waiting) == 0 {
		l.underway++
		l.last = now
		return l.generation, true, nil
	}
	var tr *batch
	if n := len(l.waiting); n > 0 && l.waiting[n-1].hasRoom(cmds, most) {
		tr = l.waiting[n-1]
	} else {
		tr = &batch{line: l, ctx: context.WithoutCancel(ctx), shared: -1, bounded: true, early: make(chan struct{}), done: make(chan struct{})}
		l.waiting = append(l.waiting, tr)
	}
	for i := range cmds {
		seats[i] = tr.add(&cmds[i], bound)
	}
	if held {
		return l.generation, false, nil
	}
	l.underway++
	l.last = now
	return l.generation, false, l.nextLocked()
}

// abandonLocked has nobody wait for what is under way.
func (l *endpointQueue) abandonLocked() {
	l.underway = 0
	l.generation++
}

// flushStuck returns the trip that is to be sent now, since what is under way takes too long
// and tr waits for it, or in how long that will be; 0 if tr does not wait any more.
func (l *endpointQueue) flushStuck(tr *batch) (next *batch, lot int, in time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.waiting, tr) {
		return nil, 0, 0
	}
	now := time.Now()
	if left := tooLong - now.Sub(l.last); left > 0 {
		return nil, 0, left
	}
	l.abandonLocked()
	l.underway++
	l.last = now
	return l.nextLocked(), l.generation, tooLong
}

func (tr *batch) hasRoom(cmds []store.Command, most int) bool {
	bytes := tr.bytes
	for i := range cmds {
		bytes += len(cmds[i].Frame)
	}
	return len(tr.cmds) <= most-len(cmds) && bytes <= batchBytes
}

func (tr *batch) add(c *store.Command, bound int) slot {
	if c.Shared && tr.shared >= 0 && tr.cmds[tr.shared].Key == c.Key {
		return slot{batch: tr, at: tr.shared}
	}
	tr.cmds = append(tr.cmds, *c)
	tr.bytes += len(c.Frame)
	at := len(tr.cmds) - 1
	if c.Shared {
		tr.shared = at
	} else if c.Op == store.Get && c.Most == 0 {
		tr.cmds[at].Most = bound
		tr.bounded = tr.bounded && bound > 0
	}
	return slot{batch: tr, at: at}
}

// limitLocked is how many round trips may be under way.
func (l *endpointQueue) limitLocked() int { return 1 + int(min(l.shortest/perBatch, batchesMost-1)) }

// nextLocked takes the next trip that waits, nil if none does.
func (l *endpointQueue) nextLocked() *batch {
	if len(l.waiting) == 0 {
		return nil
	}
	tr := l.waiting[0]
	tr.sent = time.Now()
	l.waiting = append(l.waiting[:0], l.waiting[1:]...)
	return tr
}

// end is called when a round trip of a lot has ended; took is 0 if that says nothing. It
// returns the one to be sent in its place, if any.
func (l *endpointQueue) end(lot int, took time.Duration) *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lot != l.generation {
		return nil // nobody waits for it
	}
	if took > 0 {
		// It follows the shortest down at once and others up slowly.
		if slower := l.shortest + l.shortest/16 + time.Microsecond; l.shortest == 0 || took < slower {
			l.shortest = took
		} else {
			l.shortest = slower
		}
	}
	if l.underway > l.limitLocked() {
		l.underway--
		return nil
	}
	next := l.nextLocked()
	if next == nil {
		l.underway--
	} else {
		l.last = time.Now()
	}
	return next
}

// flush sends trips until none waits.
func (t *batcher) flush(l *endpointQueue, tr *batch, lot int) {
	if t.guard.background(func() { stackgrow.Grow(); t.send(l, tr, lot) }) {
		return
	}
	for ; tr != nil; tr = l.end(lot, 0) { // the Client was closed
		tr.err = ErrClosed
		close(tr.done)
	}
}

func (t *batcher) send(l *endpointQueue, tr *batch, lot int) {
	for tr != nil {
		began := time.Now()
		tr.replies, tr.err = t.guard.do(tr.ctx, tr.cmds)
		took := time.Since(began)
		if tr.err != nil {
			took = 0
		}
		close(tr.done)
		// Those who are woken now may have something to read again: let them come along.
		runtime.Gosched()
		tr = l.end(lot, took)
	}
}

// wait collects the replies to what others send, for a caller who came at start. replies
// are those to what he has sent himself, nil if that is nothing.
func (t *batcher) wait(ctx context.Context, start time.Time, seats []slot, replies []store.Reply) ([]store.Reply, error) {
	first := min(tooLong, t.guard.timeout)
	if replies != nil {
		first -= time.Since(start)
	}
	timer := t.timer(first)
	defer t.timers.Put(timer)
	defer timer.Stop()
	for i := range seats {
		tr := seats[i].batch
		if tr == nil {
			continue
		}
		early := tr.early
		for waits := true; waits; {
			waits = false
			select {
			case <-tr.done:
			case <-early:
				if r := &tr.first[seats[i].at]; r.Err != nil || r.Cut {
					early, waits = nil, true
				} else {
					seats[i].early = true
				}
			case <-ctx.Done():
			case <-timer.C:
				if left := t.guard.timeout - time.Since(start); left > 0 {
					waits = true
					timer.Reset(min(left, t.flushStuck(seats)))
				}
			}
		}
		if seats[i].early {
			continue
		}
		// Several may be ready; an answer is worth more than a timeout.
		select {
		case <-tr.done:
		default:
			if err := ended(ctx, true); err != nil {
				return nil, err
			}
			return nil, &TimeoutError{After: t.guard.timeout}
		}
	}
	return collect(seats, replies), nil
}

// collect returns the replies to what is in seats, beside those that are there already.
func collect(seats []slot, replies []store.Reply) []store.Reply {
	if tr := seats[0].batch; replies == nil && !seats[0].early && tr.err == nil && len(seats) == 1 && !tr.cmds[seats[0].at].Shared {
		return tr.replies[seats[0].at:][:1:1] // nobody else has a seat there
	}
	if replies == nil {
		replies = make([]store.Reply, len(seats))
	}
	for i, s := range seats {
		switch {
		case s.batch == nil:
		case s.early:
			replies[i] = s.batch.first[s.at]
		case s.batch.err != nil:
			replies[i].Err = s.batch.err
		default:
			replies[i] = s.batch.replies[s.at]
		}
	}
	return replies
}

// flushStuck sends what seats are in, if it waits for what is stuck, and says when to look
// again.
func (t *batcher) flushStuck(seats []slot) time.Duration {
	again := t.guard.timeout
	for _, s := range seats {
		if s.batch == nil {
			continue
		}
		next, lot, in := s.batch.line.flushStuck(s.batch)
		if next != nil {
			t.flush(s.batch.line, next, lot)
		}
		if in == 0 && t == &t.guard.reads && !s.early {
			var now bool
			if now, in = s.batch.line.mayOvertake(s.batch); now {
				t.overtake(s.batch)
			}
		}
		if in > 0 {
			again = min(again, in)
		}
	}
	return again
}

func (t *batcher) timer(d time.Duration) *time.Timer {
	if timer, ok := t.timers.Get().(*time.Timer); ok {
		timer.Reset(d)
		return timer
	}
	return time.NewTimer(d)
}

// background runs f in a goroutine that Close waits for, unless the Client is closed.
func (g *Client) background(f func()) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return false
	}
	g.pending.Go(f)
	return true
}

// Estimate is Now where it is known already, without asking.
func (g *Client) Estimate(key string) (now int64, ok bool) {
	return g.estimate(context.Background(), key)
}

// estimate is Now where it is known already, which it mostly is.
func (g *Client) estimate(ctx context.Context, key string) (now int64, ok bool) {
	if s, is := g.store.(interface {
		Estimate(key string) (int64, bool)
	}); is && ctx.Err() == nil {
		return s.Estimate(key)
	}
	return 0, false
}
