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

// Small operations that arrive at about the same time share a round trip: group commit. A
// caller that finds no batch in flight sends immediately, alone, as if there were no other
// callers. A caller that arrives while a round trip is in flight joins the batch that waits for
// its end, and is sent with it in the next one. No timer decides when to send, so that no
// caller waits for others that may not arrive; under load the round trips fill up by
// themselves, and the cost of an operation falls to the part of it that can't be shared.
//
// Reads are batched apart from commands that change keys: no read waits for another caller's
// large value on its way to Redis. Large operations are sent by themselves; see lanes.go. The
// order of operations of callers that do not wait for each other was never guaranteed, so that
// batching loses no order.
//
// One round trip at a time is best where a round trip is mostly work. Where it is mostly
// latency, several are in flight, as many as the shortest recent one suggests. One that takes
// far longer than usual, because its connection is stuck, delays others only briefly: a caller
// that has waited for tooLong, or that arrives later than that, no longer waits for it.
//
// A caller's context is its own. A canceled caller does not cancel the operation for the
// others, since a shared round trip has a context of its own, and no caller waits for longer
// than the Client's timeout. Only an operation that is sent alone runs under its caller's
// context, as every other operation does.

const (
	// batchedMost is the maximum number of commands of an operation that shares a round trip. A
	// larger operation is a batch by itself.
	batchedMost = 4
	// batchMost is the maximum number of commands in one round trip, and batchBytes the maximum
	// total size of what they store, not counting the first of them. More would save little,
	// and the first command would wait for the last.
	batchMost  = 256
	batchBytes = 256 << 10
	// perBatch is the duration of a round trip that is mostly work: for each perBatch of the
	// shortest recent round trip, one more may be in flight, up to batchesMost.
	perBatch    = 200 * time.Microsecond
	batchesMost = 8
	// tooLong is the time after which callers no longer wait for a round trip in flight.
	tooLong = 10 * time.Millisecond
)

// batcher batches the reads of a Client, or its other commands.
type batcher struct {
	client   *Client
	endpoint func(key string) string // nil: there is only one

	// By endpoint: commands for one endpoint do not wait for another.
	mu     sync.RWMutex // guards queues
	queues map[string]*endpointQueue
	only   *endpointQueue // where there is only one endpoint
}

func (t *batcher) init(g *Client) {
	t.client, t.endpoint = g, endpointsOf(g.store)
	t.queues = map[string]*endpointQueue{}
	t.only = &endpointQueue{batcher: t}
}

// batcherFor returns the batcher that commands join, nil if they are sent alone.
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
	case shared: // a shared read is small
		return &g.others
	}
	return nil
}

// endpointQueue holds what is in flight to one endpoint, and the batches that wait.
type endpointQueue struct {
	batcher *batcher

	mu         sync.Mutex      // guards the fields below
	underway   int             // round trips in flight, except abandoned ones
	generation int             // incremented by abandonLocked: round trips of older generations are abandoned
	last       time.Time       // when the last one was sent
	shortest   time.Duration   // shortest recent round trip, 0: not known
	waiting    []*batch        // in the order in which they are sent; all but the last are full
	open       []*batch        // not ended: those that wait, and those in flight, in the order in which they began
	overtaking bool            // see overtake
	watch      *time.Timer     // calls watched
	watching   bool            // watch is set
	spare      []store.Command // memory for the next batch's commands
}

// batch is a round trip that several callers share.
type batch struct {
	line      *endpointQueue
	ctx       context.Context // of its first caller, without its cancellation
	cmds      []store.Command // nil after a round trip in which all were answered
	bytes     int             // of what they store
	shared    int             // the index of the shared command, -1: there is none
	slots     int             // for the commands of its callers: those that share one have one each
	began     time.Time       // when its first caller arrived; guarded by line.mu, as are the following
	sent      time.Time       // zero: not yet
	overtaken bool
	bounded   bool // it reads no large record in full
	ended     bool

	// progress is closed after the result is written; or when the time of the first caller is over; or
	// after first is written. In the latter two cases late is not nil, and is closed after the result is
	// written.
	progress chan struct{}
	first    []store.Reply // replies to the bounded reads of overtake; those that are cut do not count
	late     chan struct{}

	replies []store.Reply
	out     []store.Reply // where a command is shared, has a place for each slot, which its caller fills; else nil
	err     error
}

// slot is where the reply to a command will be.
type slot struct {
	batch *batch // nil: the command is sent alone
	at    int
	place int  // in the batch's out
	early bool // the reply is in the batch's first
}

// sender is a queue for which a caller sends commands itself, with the queue's generation.
type sender struct {
	*endpointQueue
	generation int
}

// do is Client.do for commands that may share a round trip and that arrive at now.
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
	got, err := t.client.do(ctx, mine)
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

// unslotted returns the commands that are sent alone.
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
		return t.only
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
		l = &endpointQueue{batcher: t}
		t.queues[endpoint] = l
	}
	return l
}

// join sets where the replies to commands will be, or reports that the caller is to send them
// itself, at once.
func (t *batcher) join(l *endpointQueue, ctx context.Context, cmds []store.Command, seats []slot, now time.Time) (lot int, alone bool) {
	bound, most := 0, batchMost
	if t == &t.client.reads {
		bound, most = t.client.sizes.bound(), t.client.sizes.reads()
	}
	lot, alone, late := l.join(ctx, cmds, seats, now, bound, most)
	if late != nil {
		t.flush(l, late, lot)
	}
	return lot, alone
}

// join also returns the batch to send at once, nil for none. bound is how many bytes are read
// of a record, 0 for all, and most how many commands share a round trip.
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
		tr = &batch{line: l, ctx: uncanceled(ctx), cmds: l.spare, began: now, shared: -1, bounded: true, progress: make(chan struct{})}
		l.spare = nil
		l.waiting, l.open = append(l.waiting, tr), append(l.open, tr)
		l.watchLocked()
	}
	if now.Before(tr.began) {
		tr.began = now
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

func (tr *batch) hasRoom(cmds []store.Command, most int) bool {
	bytes := tr.bytes
	for i := range cmds {
		bytes += len(cmds[i].Frame)
	}
	return len(tr.cmds) <= most-len(cmds) && bytes <= batchBytes
}

func (tr *batch) add(c *store.Command, bound int) slot {
	place := tr.slots
	tr.slots++
	if c.Shared && tr.shared >= 0 && tr.cmds[tr.shared].Key == c.Key {
		return slot{batch: tr, at: tr.shared, place: place}
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
	return slot{batch: tr, at: at, place: place}
}

// uncanceled returns a context with the values of ctx that is not canceled.
func uncanceled(ctx context.Context) context.Context {
	if ctx.Done() == nil {
		return ctx
	}
	return context.WithoutCancel(ctx)
}

// limitLocked is how many round trips may be in flight.
func (l *endpointQueue) limitLocked() int { return 1 + int(min(l.shortest/perBatch, batchesMost-1)) }

// nextLocked takes the next waiting batch from the queue, nil if there is none.
func (l *endpointQueue) nextLocked() *batch {
	if len(l.waiting) == 0 {
		return nil
	}
	tr := l.waiting[0]
	tr.sent = time.Now()
	l.waiting = slices.Delete(l.waiting, 0, 1)
	return tr
}

// done publishes the result of a batch. Its commands are not used any more, unless they were
// sent once more.
func (l *endpointQueue) done(tr *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.open, tr); i >= 0 {
		l.open = slices.Delete(l.open, i, i+1)
	}
	tr.ended = true
	reusable := tr.answered() && !tr.overtaken // before the callers have the replies
	if tr.late != nil {
		close(tr.late)
	} else {
		close(tr.progress)
	}
	if reusable && l.spare == nil && cap(tr.cmds) <= 2*batchMost {
		clear(tr.cmds)
		l.spare, tr.cmds = tr.cmds[:0], nil
	}
}

// answered reports whether all commands were answered without an error: else they may still be
// in flight.
func (tr *batch) answered() bool {
	return tr.err == nil && !slices.ContainsFunc(tr.replies, func(r store.Reply) bool { return r.Err != nil })
}

// end is called when a round trip of the generation lot has ended; took is its duration, 0 if
// it is not to be used as a sample. It returns the batch to send in its place, if any.
func (l *endpointQueue) end(lot int, took time.Duration) *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lot != l.generation {
		return nil // it was abandoned
	}
	if took > 0 {
		// The estimate falls to a shorter round trip at once and rises slowly.
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

// flush sends batches until none waits.
func (t *batcher) flush(l *endpointQueue, tr *batch, lot int) {
	if t.client.background(func() { stackgrow.Grow(); t.send(l, tr, lot) }) {
		return
	}
	for ; tr != nil; tr = l.end(lot, 0) { // the Client was closed
		tr.err = ErrClosed
		l.done(tr)
	}
}

func (t *batcher) send(l *endpointQueue, tr *batch, lot int) {
	for tr != nil {
		began := time.Now()
		tr.replies, tr.err = t.client.do(tr.ctx, tr.cmds)
		took := time.Since(began)
		if tr.err != nil {
			took = 0
		}
		if tr.slots > len(tr.cmds) {
			tr.out = make([]store.Reply, tr.slots)
		}
		l.done(tr)
		// The callers that wake up now may read again: let them join the next batch.
		runtime.Gosched()
		tr = l.end(lot, took)
	}
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
