package remote

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/roomy"
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
// is shared has a context of its own, and nobody waits for longer than the Guard's
// timeout. Only the one who goes alone is under its own context, as every other operation
// is.

const (
	// togetherMost is how many commands an operation has at most that goes with others. A
	// larger one is a batch by itself.
	togetherMost = 4
	// tripMost is how many commands go in one round trip, and tripBytes how large what
	// they store may be together, but for the first of them. More would save little, and
	// the first would wait for the last.
	tripMost  = 256
	tripBytes = 256 << 10
	// perTrip is the time that a round trip takes if it is mostly work: for each such
	// part of the shortest one, one more may be under way, up to tripsMost.
	perTrip   = 200 * time.Microsecond
	tripsMost = 8
	// tooLong is when a round trip is not waited for any more.
	tooLong = 10 * time.Millisecond
)

// together are the reads of a Guard, or its other commands.
type together struct {
	guard    *Guard
	endpoint func(key string) string // nil: there is but one

	// By endpoint: what waits for one does not wait for another.
	mu    sync.RWMutex // guards lines
	lines map[string]*line
	only  line // where there is but one

	// timers are this Guard's own, because those of one bubble of testing/synctest must
	// not be used in another.
	timers sync.Pool
}

func (t *together) init(g *Guard) {
	t.guard, t.endpoint = g, endpointsOf(g.store)
	t.lines = map[string]*line{}
}

// company returns those that commands may go with, nil if they go alone.
func (g *Guard) company(cmds []Command) *together {
	if len(cmds) > togetherMost {
		return nil
	}
	reads, shared := 0, 0
	for i := range cmds {
		if cmds[i].Op == Get {
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

// line is what is under way to one endpoint, and what waits.
type line struct {
	mu         sync.Mutex    // guards what follows
	underway   int           // but for those that are not waited for any more
	lot        int           // which of them are: those that were sent since it changed
	last       time.Time     // when the last one was sent
	shortest   time.Duration // round trip lately, 0: not known
	overtaking bool          // see overtake
	waiting    []*trip       // in the order in which they are to be sent; all but the last are full
}

// trip is a round trip that several callers share.
type trip struct {
	line      *line
	ctx       context.Context // that of its first caller, without its end
	cmds      []Command
	bytes     int       // of what they store
	shared    int       // the place of the command that all may share, -1: there is none
	sent      time.Time // zero: not yet; guarded by the line's mu, as what follows
	overtaken bool
	bounded   bool          // it asks for no large record
	early     chan struct{} // closed after first is written
	first     []Reply       // what is answered before the rest, but for what is cut
	done      chan struct{} // closed after what follows is written

	replies []Reply
	err     error
}

// seat is where the reply to a command will be.
type seat struct {
	trip  *trip // nil: it goes alone
	at    int
	early bool // the reply is in the trip's first
}

// lead is a line that a caller sends something on itself.
type lead struct {
	*line
	lot int
}

// do is Guard.do for what goes together, and comes now.
func (t *together) do(ctx context.Context, cmds []Command, now time.Time) ([]Reply, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var seats [togetherMost]seat
	var led [togetherMost]lead
	leads := 0
	for i := 0; i < len(cmds); {
		l := t.line(cmds[i].Key)
		n := i + 1
		for n < len(cmds) && (t.endpoint == nil || t.line(cmds[n].Key) == l) {
			n++
		}
		if lot, alone := t.join(l, ctx, cmds[i:n], seats[i:n], now); alone {
			led[leads] = lead{l, lot}
			leads++
		}
		i = n
	}
	if leads == 0 {
		return t.wait(ctx, now, seats[:len(cmds)], nil)
	}
	mine := cmds
	for i := range cmds {
		if seats[i].trip != nil {
			mine = unseated(cmds, seats[:len(cmds)])
			break
		}
	}
	got, err := t.guard.do(ctx, mine)
	took := time.Since(now)
	if err != nil {
		took = 0
	}
	for _, l := range led[:leads] {
		if next := l.end(l.lot, took); next != nil {
			t.drain(l.line, next, l.lot)
		}
	}
	if len(mine) == len(cmds) {
		return got, err
	}
	replies := make([]Reply, len(cmds))
	for i := range replies {
		switch {
		case seats[i].trip != nil:
		case err != nil:
			replies[i].Err = err
		default:
			replies[i], got = got[0], got[1:]
		}
	}
	return t.wait(ctx, now, seats[:len(cmds)], replies)
}

// unseated are the commands that go alone.
func unseated(cmds []Command, seats []seat) []Command {
	mine := make([]Command, 0, len(cmds))
	for i := range cmds {
		if seats[i].trip == nil {
			mine = append(mine, cmds[i])
		}
	}
	return mine
}

func (t *together) line(key string) *line {
	if t.endpoint == nil {
		return &t.only
	}
	endpoint := t.endpoint(key)
	t.mu.RLock()
	l := t.lines[endpoint]
	t.mu.RUnlock()
	if l != nil {
		return l
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if l = t.lines[endpoint]; l == nil {
		l = new(line)
		t.lines[endpoint] = l
	}
	return l
}

// join says where the replies to commands will be, or that their caller is to send them
// itself, at once.
func (t *together) join(l *line, ctx context.Context, cmds []Command, seats []seat, now time.Time) (lot int, alone bool) {
	bound, most := 0, tripMost
	if t == &t.guard.reads {
		bound, most = t.guard.sizes.bound(), t.guard.sizes.reads()
	}
	lot, alone, late := l.join(ctx, cmds, seats, now, bound, most)
	if late != nil {
		t.drain(l, late, lot)
	}
	return lot, alone
}

// join also returns the trip that is to be sent at once, nil for none. bound is how much
// is read of a record, 0 for all, and most how many commands go together.
func (l *line) join(ctx context.Context, cmds []Command, seats []seat, now time.Time, bound, most int) (lot int, alone bool, late *trip) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.underway >= l.limitLocked()
	if held && now.Sub(l.last) >= tooLong {
		held = false
		l.writeOffLocked()
	}
	if !held && len(l.waiting) == 0 {
		l.underway++
		l.last = now
		return l.lot, true, nil
	}
	var tr *trip
	if n := len(l.waiting); n > 0 && l.waiting[n-1].hasRoom(cmds, most) {
		tr = l.waiting[n-1]
	} else {
		tr = &trip{line: l, ctx: context.WithoutCancel(ctx), shared: -1, bounded: true, early: make(chan struct{}), done: make(chan struct{})}
		l.waiting = append(l.waiting, tr)
	}
	for i := range cmds {
		seats[i] = tr.add(&cmds[i], bound)
	}
	if held {
		return l.lot, false, nil
	}
	l.underway++
	l.last = now
	return l.lot, false, l.nextLocked()
}

// writeOffLocked has nobody wait for what is under way.
func (l *line) writeOffLocked() {
	l.underway = 0
	l.lot++
}

// hurry returns the trip that is to be sent now, since what is under way takes too long
// and tr waits for it, or in how long that will be; 0 if tr does not wait any more.
func (l *line) hurry(tr *trip) (next *trip, lot int, in time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.waiting, tr) {
		return nil, 0, 0
	}
	now := time.Now()
	if left := tooLong - now.Sub(l.last); left > 0 {
		return nil, 0, left
	}
	l.writeOffLocked()
	l.underway++
	l.last = now
	return l.nextLocked(), l.lot, tooLong
}

func (tr *trip) hasRoom(cmds []Command, most int) bool {
	bytes := tr.bytes
	for i := range cmds {
		bytes += len(cmds[i].Frame)
	}
	return len(tr.cmds) <= most-len(cmds) && bytes <= tripBytes
}

func (tr *trip) add(c *Command, bound int) seat {
	if c.Shared && tr.shared >= 0 && tr.cmds[tr.shared].Key == c.Key {
		return seat{trip: tr, at: tr.shared}
	}
	tr.cmds = append(tr.cmds, *c)
	tr.bytes += len(c.Frame)
	at := len(tr.cmds) - 1
	if c.Shared {
		tr.shared = at
	} else if c.Op == Get && c.Most == 0 {
		tr.cmds[at].Most = bound
		tr.bounded = tr.bounded && bound > 0
	}
	return seat{trip: tr, at: at}
}

// limitLocked is how many round trips may be under way.
func (l *line) limitLocked() int { return 1 + int(min(l.shortest/perTrip, tripsMost-1)) }

// nextLocked takes the next trip that waits, nil if none does.
func (l *line) nextLocked() *trip {
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
func (l *line) end(lot int, took time.Duration) *trip {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lot != l.lot {
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

// drain sends trips until none waits.
func (t *together) drain(l *line, tr *trip, lot int) {
	if t.guard.background(func() { roomy.Grow(); t.send(l, tr, lot) }) {
		return
	}
	for ; tr != nil; tr = l.end(lot, 0) { // the Guard was closed
		tr.err = ErrGuardClosed
		close(tr.done)
	}
}

func (t *together) send(l *line, tr *trip, lot int) {
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
func (t *together) wait(ctx context.Context, start time.Time, seats []seat, replies []Reply) ([]Reply, error) {
	first := min(tooLong, t.guard.timeout)
	if replies != nil {
		first -= time.Since(start)
	}
	timer := t.timer(first)
	defer t.timers.Put(timer)
	defer timer.Stop()
	for i := range seats {
		tr := seats[i].trip
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
					timer.Reset(min(left, t.hurry(seats)))
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
func collect(seats []seat, replies []Reply) []Reply {
	if tr := seats[0].trip; replies == nil && !seats[0].early && tr.err == nil && len(seats) == 1 && !tr.cmds[seats[0].at].Shared {
		return tr.replies[seats[0].at:][:1:1] // nobody else has a seat there
	}
	if replies == nil {
		replies = make([]Reply, len(seats))
	}
	for i, s := range seats {
		switch {
		case s.trip == nil:
		case s.early:
			replies[i] = s.trip.first[s.at]
		case s.trip.err != nil:
			replies[i].Err = s.trip.err
		default:
			replies[i] = s.trip.replies[s.at]
		}
	}
	return replies
}

// hurry sends what seats are in, if it waits for what is stuck, and says when to look
// again.
func (t *together) hurry(seats []seat) time.Duration {
	again := t.guard.timeout
	for _, s := range seats {
		if s.trip == nil {
			continue
		}
		next, lot, in := s.trip.line.hurry(s.trip)
		if next != nil {
			t.drain(s.trip.line, next, lot)
		}
		if in == 0 && t == &t.guard.reads && !s.early {
			var now bool
			if now, in = s.trip.line.mayOvertake(s.trip); now {
				t.overtake(s.trip)
			}
		}
		if in > 0 {
			again = min(again, in)
		}
	}
	return again
}

func (t *together) timer(d time.Duration) *time.Timer {
	if timer, ok := t.timers.Get().(*time.Timer); ok {
		timer.Reset(d)
		return timer
	}
	return time.NewTimer(d)
}

// background runs f in a goroutine that Close waits for, unless the Guard is closed.
func (g *Guard) background(f func()) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return false
	}
	g.pending.Go(f)
	return true
}

// Estimate is Now where it is known already, without asking.
func (g *Guard) Estimate(key string) (now int64, ok bool) {
	return g.estimate(context.Background(), key)
}

// estimate is Now where it is known already, which it mostly is.
func (g *Guard) estimate(ctx context.Context, key string) (now int64, ok bool) {
	if s, is := g.store.(interface {
		Estimate(key string) (int64, bool)
	}); is && ctx.Err() == nil {
		return s.Estimate(key)
	}
	return 0, false
}
