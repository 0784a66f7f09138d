// Package client bounds and batches the operations of a [store.Store].
//
// A [Client] makes two guarantees that a client library alone does not make: an operation
// returns when its context ends, and it returns after the configured timeout. Operations of
// concurrent callers share round trips; large operations are sent by themselves, in pieces; and
// while an endpoint does not answer, its circuit breaker refuses operations.
package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/stackgrow"
	"github.com/delqhi/cache/internal/store"
)

// ErrClosed is the error of every operation after Close.
var ErrClosed = errors.New("client: closed")

// TimeoutError says that Redis did not answer within the operation timeout, or within a shorter
// one of the client library. It does not match context.DeadlineExceeded: the caller's own
// deadline has not passed.
type TimeoutError struct{ After time.Duration }

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("no answer from Redis within %v", e.After)
}

// Timeout marks it as a timeout in the manner of net.Error.
func (e *TimeoutError) Timeout() bool { return true }

// Client stands in front of a Store and makes two guarantees: an operation returns as soon as
// its context is done, and at the latest after the timeout. A client library that is blocked in
// a read notices neither a cancellation nor, unless configured so, a deadline; the operation is
// then left behind, and its late answer dropped. It does not end with its caller: its
// connection would have to be closed, and whether Redis answers in time has to be known however
// early callers give up.
//
// With [Client.Break], operations are refused while the endpoint that they are for does not
// answer.
//
// All methods are safe for concurrent use.
type Client struct {
	store          store.Store
	timeout        time.Duration
	honorsDeadline bool // the store itself ends an operation at its deadline

	// Observe, if set before first use, is called for every operation that has ended.
	Observe func(context.Context, Observation)

	// The number of operations that have ended, and the number of connections after so many of
	// them: both in one word, so that they belong together. See Connections.
	ended   atomic.Uint32
	counted atomic.Uint64

	deadlines deadlines // of operations
	waits     deadlines // of callers

	sizes   sizes
	window  window
	wide    chan struct{}    // has a place for each large operation that may be in flight
	breaker *endpointBreaker // nil: none
	reads   batcher
	others  batcher // commands that are not reads

	mu      sync.RWMutex
	closed  bool
	pending sync.WaitGroup // operations in goroutines of their own
}

// Observation is an operation that has ended.
type Observation struct {
	Op       string          // its name, "mixed" for several kinds
	Keys     int             // how many it was for
	Commands []store.Command // those of Do, nil for other operations; not to be kept
	Duration time.Duration
	Err      error // the first error; nil if the caller's context ended the operation
}

// New returns a Client in front of st; timeout must be positive.
func New(st store.Store, timeout time.Duration) *Client {
	g := &Client{store: st, timeout: timeout, deadlines: deadlines{timeout: timeout}, waits: deadlines{timeout: timeout}}
	g.ended.Store(1) // counted is 0 and belongs to no operation yet
	if p, ok := st.(deadliner); ok {
		g.honorsDeadline = p.HonorsDeadline()
	}
	wide := 8
	if p, ok := st.(pooled); ok && p.PoolSize() > 0 {
		wide = max(p.PoolSize()/2, 1)
	}
	g.wide = make(chan struct{}, wide)
	g.reads.init(g)
	g.others.init(g)
	return g
}

// Close makes later operations fail, waits for the operations in flight, including those that
// were left behind, and closes the store. It may be called more than once. An operation that
// was left behind ends when the client library stops waiting, at the latest after its read
// timeout.
func (g *Client) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.breaker.close()
	g.pending.Wait()
	g.deadlines.close()
	g.waits.close()
	g.store.Close()
}

// Get reads one key.
func (g *Client) Get(ctx context.Context, key string) (store.Record, error) {
	r := g.Do(ctx, []store.Command{{Op: store.Get, Key: key}})[0]
	return r.Record, r.Err
}

// Do carries out cmds; see Store. More commands than one round trip should have are sent in
// pieces, several at a time, each within the timeout: a piece that fails affects only its own
// commands. A unit of commands ([store.Command].With) is not split. An error of the caller's
// context is in every reply, unwrapped. Neither cmds nor the frames in it may be modified
// afterwards if there was an error: the operation may still be in flight.
func (g *Client) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	replies, _ := g.DoAt(ctx, cmds, now())
	return replies
}

// DoAt is Do for a caller that knows the time, and is to know when Do has ended: to read the clock is
// not for nothing. Both times have a monotonic reading.
func (g *Client) DoAt(ctx context.Context, cmds []store.Command, start time.Time) (replies []store.Reply, ended time.Time) {
	if len(cmds) == 0 {
		return nil, start
	}
	var err error
	if t := g.batcherFor(cmds); t != nil && g.sizes.anyLarge(cmds) {
		replies, err = g.alone(ctx, cmds, start)
	} else if t == &g.reads {
		replies, err = g.readTogether(ctx, cmds, start)
	} else if t != nil {
		replies, err = t.do(ctx, cmds, start)
	} else if to, _, _ := g.cut(cmds, 0); to == len(cmds) {
		replies, err = g.do(ctx, cmds)
	} else {
		replies = g.pieces(ctx, cmds)
	}
	if err != nil {
		replies = make([]store.Reply, len(cmds))
		for i := range replies {
			replies[i].Err = err
		}
	} else {
		for i := range replies {
			if replies[i].Err != nil {
				replies[i].Err = g.explain(ctx, start, replies[i].Err)
			}
		}
	}
	took := time.Since(start)
	if g.Observe != nil {
		keys := len(cmds)
		if keys > 1 && cmds[0].Shared {
			keys--
		}
		g.Observe(ctx, Observation{kind(cmds), keys, cmds, took, failure(ctx, replies)})
	}
	return replies, start.Add(took)
}

// do carries out commands in one round trip.
func (g *Client) do(ctx context.Context, cmds []store.Command) ([]store.Reply, error) {
	return g.sendBatch(ctx, cmds, false, g.timeout, nil)
}

// sendBatch carries out commands in one round trip, within the given time. The failure of a
// large batch says nothing about the endpoint; see Break. over, if not nil, is called when no
// part of the batch is in flight any more, however long ago its caller has left.
func (g *Client) sendBatch(ctx context.Context, cmds []store.Command, large bool, within time.Duration, over func()) ([]store.Reply, error) {
	if g.inline(ctx) {
		var a admission
		if err := g.admit(ctx, &a, cmds, large, over); err != nil {
			return nil, err
		}
		defer g.pending.Done()
		inner, release := g.bound(ctx, within)
		if release != nil {
			defer release()
		}
		return g.carryOut(inner, &a, cmds, over), nil
	}
	b := &roundTrip{client: g, cmds: cmds, over: over}
	if err := g.admit(ctx, &b.admission, cmds, large, over); err != nil {
		return nil, err
	}
	start := time.Now()
	b.ctx, b.release = g.bound(ctx, within)
	b.done = make(chan struct{})
	if b.admission.all.tracked() && !g.honorsDeadline {
		b.settles = context.AfterFunc(b.ctx, b.settle)
	}
	soon, due := b.ctx.Done(), start
	if within == g.timeout {
		soon, due = g.waits.soon(start).Done(), start.Add(within)
	}
	go b.run()
	if waitFor(ctx, b.done, soon, due) {
		return b.replies, nil
	}
	err := ctx.Err()
	if err == nil {
		err = context.DeadlineExceeded
	}
	return nil, g.explain(ctx, start, err)
}

// inline reports whether an operation of ctx is carried out by its caller's goroutine: only the
// timeout can end it, and the store itself enforces that.
func (g *Client) inline(ctx context.Context) bool { return g.honorsDeadline && ctx.Done() == nil }

// admit begins an operation of commands.
func (g *Client) admit(ctx context.Context, a *admission, cmds []store.Command, large bool, over func()) error {
	err := g.begin(ctx)
	if err == nil {
		if err = g.breaker.admit(a, cmds, large); err != nil {
			g.pending.Done()
		}
	}
	if err != nil && over != nil {
		over()
	}
	return err
}

// carryOut carries out commands that were admitted.
func (g *Client) carryOut(ctx context.Context, a *admission, cmds []store.Command, over func()) []store.Reply {
	if over != nil {
		defer over()
	}
	defer g.ended.Add(1)
	replies := a.carryOut(ctx, g.store, cmds)
	g.sizes.note(cmds, replies)
	return replies
}

// roundTrip is a round trip in a goroutine of its own.
type roundTrip struct {
	client    *Client
	ctx       context.Context
	release   context.CancelFunc // nil: none
	settles   func() bool        // stops settle from being called; nil: it is not going to be
	cmds      []store.Command
	over      func()
	admission admission
	replies   []store.Reply
	done      chan struct{} // closed after replies is written
}

func (b *roundTrip) run() {
	stackgrow.Grow()
	defer b.client.pending.Done()
	if b.release != nil {
		defer b.release()
	}
	b.replies = b.client.carryOut(b.ctx, &b.admission, b.cmds, b.over)
	if b.settles != nil {
		b.settles()
	}
	close(b.done)
}

// settle counts a round trip that did not end in time as failed.
func (b *roundTrip) settle() { b.admission.all.settle(b.ctx.Err()) }

// Now estimates the clock of the node that holds key, in µs of Unix time.
func (g *Client) Now(ctx context.Context, key string) (int64, error) {
	if ctx.Err() == nil {
		if now, ok := g.Estimate(key); ok { // which is the usual case
			return now, nil
		}
	}
	start := time.Now()
	now, err := call(g, ctx, key, func(ctx context.Context) (int64, error) { return g.store.Now(ctx, key) })
	// Most calls do no I/O; a call that failed did.
	if err != nil && g.Observe != nil && ctx.Err() == nil {
		g.Observe(ctx, Observation{Op: "time", Keys: 1, Duration: time.Since(start), Err: err})
	}
	return now, err
}

// Estimate is Now where the estimate is known already, without I/O.
func (g *Client) Estimate(key string) (micros int64, ok bool) { return g.EstimateAt(key, now()) }

// EstimateAt is Estimate as of the time at, which is past by no more than an operation takes and has a
// monotonic reading.
func (g *Client) EstimateAt(key string, at time.Time) (micros int64, ok bool) {
	if s, is := g.store.(interface {
		EstimateAt(key string, at time.Time) (int64, bool)
	}); is {
		return s.EstimateAt(key, at)
	}
	return 0, false
}

// ClockError is by how much, in µs, what Now and Estimate say, or have said lately, may be wrong,
// either way; 0 where the store does not tell. To decide what came later, a value counts as
// earlier by that, and an invalidation as later.
func (g *Client) ClockError(key string) int64 {
	if s, is := g.store.(clocked); is {
		return s.ClockError(key)
	}
	return 0
}

// ask runs f, which is about key if that is not "", and reports it to Observe.
func ask[T any](g *Client, ctx context.Context, op, key string, keys int, f func(context.Context) (T, error)) (T, error) {
	start := time.Now()
	val, err := call(g, ctx, key, f)
	if g.Observe != nil {
		observed := err
		if ctx.Err() != nil {
			observed = nil
		}
		g.Observe(ctx, Observation{Op: op, Keys: keys, Duration: time.Since(start), Err: observed})
	}
	return val, err
}

// Masters names the nodes to scan; see Store.
func (g *Client) Masters(ctx context.Context) ([]string, error) {
	return ask(g, ctx, "masters", "", 0, g.store.Masters)
}

// Scan reads one batch of keys; see Store.
func (g *Client) Scan(ctx context.Context, master, pattern string, cursor uint64) (keys []string, next uint64, err error) {
	type batch struct {
		keys []string
		next uint64
	}
	b, err := ask(g, ctx, "scan", "", 0, func(ctx context.Context) (b batch, err error) {
		b.keys, b.next, err = g.store.Scan(ctx, master, pattern, cursor)
		return b, err
	})
	return b.keys, b.next, err
}

// ReadClock reads a logical clock; see Store.
func (g *Client) ReadClock(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (logicalclock.Reading, error) {
	return ask(g, ctx, "read_clock", names.Epoch, len(tags), func(ctx context.Context) (logicalclock.Reading, error) {
		return g.store.ReadClock(ctx, names, known, tags)
	})
}

// AddTombstones writes a mark, of tags or of all; see Store.
func (g *Client) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, m logicalclock.NewTombstone) (logicalclock.Reading, error) {
	return ask(g, ctx, "add_tombstones", names.Epoch, len(m.Tags), func(ctx context.Context) (logicalclock.Reading, error) {
		return g.store.AddTombstones(ctx, names, known, m)
	})
}

// Publish publishes a message; see Store.
func (g *Client) Publish(ctx context.Context, t store.Notify) error {
	key := ""
	if s, ok := g.store.(publisher); ok {
		key = s.PublisherKey(t.Channel)
	}
	_, err := ask(g, ctx, "publish", key, 0, func(ctx context.Context) (struct{}, error) { return struct{}{}, g.store.Publish(ctx, t) })
	return err
}

// Subscribe receives messages; see Store. It is not bounded by the timeout, and its caller ends it
// by its context before Close.
func (g *Client) Subscribe(ctx context.Context, l store.Subscription, s store.Subscriber) error {
	return g.store.Subscribe(ctx, l, s)
}

// call runs f, which is about key if that is not "", within the timeout and no longer than ctx,
// unless the breaker refuses it. The error is the result of explain.
func call[T any](g *Client, ctx context.Context, key string, f func(context.Context) (T, error)) (val T, err error) {
	if err := g.begin(ctx); err != nil {
		return val, err
	}
	e := new(entry)
	if err := g.breaker.enter(e, key, false); err != nil {
		g.pending.Done()
		return val, err
	}
	start := time.Now()
	val, err = run(g, ctx, e, g.timeout, func(ctx context.Context) (T, error) {
		val, err := f(ctx)
		g.ended.Add(1)
		e.settle(err)
		return val, err
	})
	if err != nil {
		err = g.explain(ctx, start, err)
	}
	return val, err
}

// begin counts an operation as pending, unless the Client is closed or ctx is done.
func (g *Client) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return ErrClosed
	}
	g.pending.Add(1)
	return nil
}

// run runs f, which begin has counted, within the given time. f settles e, if that is not nil;
// if f does not return in time, e is settled as failed. The error is that of f, or says that run
// stopped waiting for it.
func run[T any](g *Client, ctx context.Context, e *entry, within time.Duration, f func(context.Context) (T, error)) (T, error) {
	type answer struct {
		val T
		err error
	}
	start := time.Now()
	inner, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	if g.inline(ctx) {
		defer g.pending.Done()
		defer cancel()
		return f(inner)
	}
	if e.tracked() && !g.honorsDeadline {
		// f settles e before it cancels inner, if it returns in time.
		context.AfterFunc(inner, func() { e.settle(inner.Err()) })
	}
	done := make(chan answer, 1) // buffered: a caller that left does not block the operation
	go func() {
		stackgrow.Grow()
		defer g.pending.Done()
		defer cancel()
		val, err := f(inner)
		done <- answer{val, err}
	}()
	select {
	case a := <-done:
		return a.val, a.err
	case <-inner.Done():
	case <-ctx.Done():
	}
	// Several may be ready; prefer an answer to a timeout.
	select {
	case a := <-done:
		return a.val, a.err
	default:
	}
	err := ctx.Err()
	if err == nil {
		err = inner.Err()
	}
	var zero T
	return zero, g.explain(ctx, start, err)
}

// explain translates an error of an operation that began at start for the caller: its own
// context has ended, or the timeout has passed, or neither.
func (g *Client) explain(ctx context.Context, start time.Time, err error) error {
	timeout := isTimeout(err)
	if own := ended(ctx, timeout); own != nil {
		return own
	}
	passed := time.Since(start)
	switch {
	case timeout && passed >= g.timeout:
		return &TimeoutError{After: g.timeout}
	case errors.Is(err, context.DeadlineExceeded):
		// A shorter timeout of the client library, such as that for dialing.
		return &TimeoutError{After: passed}
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("client: %v", err) // not the caller's context: it must not match
	}
	return err
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

// endedSoon is far longer than a context takes to end after its deadline has passed.
const endedSoon = 100 * time.Millisecond

// ended returns the error of ctx, if it has one. A connection with the same deadline may report
// the timeout a moment before the context does: after a timeout, ended waits for that moment,
// since otherwise the caller's deadline would be taken for another error.
func ended(ctx context.Context, timeout bool) error {
	if deadline, ok := ctx.Deadline(); ok && timeout && !time.Now().Before(deadline) {
		t := time.NewTimer(endedSoon)
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C: // a context that does not obey its deadline
		}
	}
	return ctx.Err()
}

// kind names the operation of commands, not counting a shared read in front of them.
func kind(cmds []store.Command) string {
	if len(cmds) > 1 && cmds[0].Shared {
		cmds = cmds[1:]
	}
	for i := range cmds[1:] {
		if cmds[i+1].Op != cmds[0].Op {
			return "mixed"
		}
	}
	return cmds[0].Op.String()
}

func failure(ctx context.Context, replies []store.Reply) error {
	if ctx.Err() != nil {
		return nil
	}
	for i := range replies {
		if replies[i].Err != nil {
			return replies[i].Err
		}
	}
	return nil
}
