// Package flight deduplicates concurrent loads: callers that need the same keys share one load
// for each key.
//
// A [Call] is the load of one key; a unit of work resolves one call, or many when a batch loads
// them together. A caller that asks for a key in flight joins its call, so that batches that
// overlap, and single reads among them, share key by key.
//
// Three rules make sharing safe:
//
//   - The work runs in a goroutine of its own, with the values of the first caller's context
//     but not its cancellation. A canceled caller does not cancel the load for the others; the
//     work is canceled when all callers that waited for any of its calls have left. Only where
//     the first caller can't leave, the work may run in that one's goroutine.
//   - Every caller waits under its own context.
//   - A caller joins only a call that began at the same fence: if the key was written or
//     invalidated since then, the call may return the value from before, and the caller starts
//     its own. Where fences do not show every change, a caller also says how old a call may be.
package flight

import (
	"cmp"
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/delqhi/cache/internal/stackgrow"
)

// ErrAbandoned is the cause of the cancellation of work that has no callers left.
var ErrAbandoned = errors.New("flight: all callers have left")

// errUnresolved is the error of calls that the work left unresolved: its goroutine exited
// (runtime.Goexit), or it missed a call.
var errUnresolved = errors.New("cache: the load ended without a result")

// Group holds the calls in flight. The zero value is not usable; see [New].
type Group[K, F comparable, V any] struct {
	// NewContext makes the context of a work from that of its first caller: with its values, and
	// without its cancellation. It may be set before the group is used.
	NewContext func(caller context.Context) Context

	recovered func(value any, stack []byte) error

	mu     sync.Mutex     // guards what follows, and the fields of work and Call that say so
	calls  calls[K, F, V] // to be joined
	works  *work          // running, linked
	closed error
	idle   sync.Cond // with mu: there are no works, once the group is closed
}

// Context is a context that can be canceled. Cause returns the cause; the first one counts.
type Context interface {
	context.Context
	Cancel(cause error)
	Cause() error
}

// standard is a Context of package context.
type standard struct {
	context.Context
	cancel context.CancelCauseFunc
}

func newStandard(caller context.Context) Context {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(caller))
	return standard{ctx, cancel}
}

func (c standard) Cancel(cause error) { c.cancel(cause) }

func (c standard) Cause() error { return context.Cause(c.Context) }

// Call is one key in flight. Key, Fence and Index may be read by any goroutine.
//
// The fence is a part of what requests must have in common to share a call, rather than compared
// afterwards, so that late readers from before a move and early ones from after it share among
// themselves instead of replacing each other's calls.
type Call[K, F comparable, V any] struct {
	Key   K
	Fence F
	Index int // index among the requests of the caller that began it

	began int64 // Request.Now of the request that began it

	work  *work
	over  atomic.Bool    // resolved; set under Group.mu, after val and err are written
	ready sync.WaitGroup // done then, if a caller waits for it
	done  chan struct{}  // closed then, if there is one: for those who wait for more than that; guarded by Group.mu
	val   V
	err   error

	joined  bool // by another caller; guarded by Group.mu
	awaited bool // a caller waits for ready; guarded by Group.mu
	waiters int  // guarded by Group.mu

	hash   uint64         // Request.Hash
	next   *Call[K, F, V] // in Group.calls; guarded by Group.mu, as is the following
	listed bool           // it is there
}

// work is one goroutine that answers one or more calls.
type work struct {
	ctx     Context
	over    atomic.Bool // ended, or taken over: see Group.TakeOver
	waiters int         // the sum of those of its open calls; guarded by Group.mu
	open    int         // calls not resolved; guarded by Group.mu
	dead    bool        // canceled as abandoned: not to be joined; guarded by Group.mu
	here    bool        // it runs in its caller's goroutine: it counts as running until its call is resolved

	next, previous *work // in Group.works; guarded by Group.mu
	running        bool  // it is there; changed under Group.mu by who runs the work
}

// firstCall is a work with its first call.
type firstCall[K, F comparable, V any] struct {
	work  work
	call  Call[K, F, V]
	calls [1]*Call[K, F, V]
}

// Single is the memory of a work with one call, for [Group.DoSingle]. It is used once, unless the work
// has ended, no other caller has joined it (see [Result]), and it was not taken over.
type Single[K, F comparable, V any] struct {
	firstCall[K, F, V]
	lead Leader[K, F, V]
}

// Leader leads the work of a [Single].
type Leader[K, F comparable, V any] interface {
	// NewContext is Group.NewContext for this work.
	NewContext(caller context.Context) Context
	// Lead does the work, as the function that is given to [Group.Do].
	Lead(ctx context.Context, mine []*Call[K, F, V])
}

// cancelIfAbandonedLocked cancels the work if it has unresolved calls and no callers. Group.mu
// is held.
func (w *work) cancelIfAbandonedLocked() {
	if w.waiters == 0 && w.open > 0 && !w.dead {
		w.dead = true
		w.ctx.Cancel(ErrAbandoned)
	}
}

// Request asks for a key as of a fence.
type Request[K, F comparable] struct {
	Key   K
	Hash  uint64 // of Key, by which its call is found: that of equal keys is equal
	Fence F
	// Now is the time of the request, and of the beginning of a call that it begins. A call
	// that began before NotBefore is not joined. Both are on the caller's clock, whatever that
	// is.
	Now, NotBefore int64
	// Soft, if not nil, ends the wait for this key when it is closed, and leaves the work
	// running: the caller still counts as waiting until the call is resolved.
	Soft <-chan struct{}
	// Alone: do not join a call that began earlier. Later requests may join the
	// one that this begins.
	Alone bool
	// Apart: nor may later requests join the one that this begins.
	Apart bool
	// Here: if the caller can't leave, since its context never ends and Soft is nil, the work that
	// the request begins may run in the caller's goroutine. If it is taken over, the caller goes on
	// when user code returns; if user code ends the goroutine, that is the caller's.
	Here bool
}

// Result is the outcome of one request.
type Result[V any] struct {
	Val V
	Err error
	// Shared reports that another caller began the call.
	Shared bool
	// Joined reports that other callers have joined the call that this request began.
	Joined bool
	// Late reports that Soft ended the wait.
	Late bool
	// Refused reports that there was no call: the caller's context had ended, or the group was
	// closed.
	Refused bool
}

// New returns a Group. recovered turns a panic of the work into the error that
// its callers get; it is called once for each panic.
func New[K, F comparable, V any](recovered func(value any, stack []byte) error) *Group[K, F, V] {
	g := &Group[K, F, V]{NewContext: newStandard, recovered: recovered}
	g.idle.L = &g.mu
	return g
}

// Do answers reqs, whose keys must differ: it joins the calls in flight, and runs lead for the
// others, all at once, if there are any. lead runs in a goroutine of its own and must Resolve
// each of its calls. Calls that it leaves unresolved are resolved with an error: that of its
// panic, else the cause of the cancellation of its context, else that there is no result. Do
// returns when every request is answered or ctx is done, then with ctx's error for the
// unanswered ones.
func (g *Group[K, F, V]) Do(ctx context.Context, reqs []Request[K, F], lead func(ctx context.Context, mine []*Call[K, F, V])) []Result[V] {
	results := make([]Result[V], len(reqs))
	if err := ctx.Err(); err != nil {
		return fail(results, err)
	}
	for _, r := range reqs {
		equal(r.Key, r.Key) // panics for a key that can't be compared: here, not under the lock
	}
	var one [1]*Call[K, F, V]
	waiting := one[:]
	if len(reqs) != 1 {
		waiting = make([]*Call[K, F, V], len(reqs))
	}
	var mine []*Call[K, F, V]

	g.mu.Lock()
	if g.closed != nil {
		g.mu.Unlock()
		return fail(results, g.closed)
	}
	var w *work
	for i := range reqs {
		r := &reqs[i]
		if c := g.joinLocked(r); c != nil {
			waiting[i] = c
			results[i].Shared = true
			continue
		}
		// A work's first call is allocated with it: most have no other.
		var c *Call[K, F, V]
		if w == nil {
			first := new(firstCall[K, F, V])
			w, c, mine = &first.work, &first.call, first.calls[:0]
		} else {
			c = new(Call[K, F, V])
		}
		g.beginLocked(w, c, i, r)
		waiting[i] = c
		mine = append(mine, c)
	}
	if w != nil {
		g.startLocked(w, g.NewContext(ctx))
		go g.begin(w.ctx, w, mine, lead)
	}
	g.mu.Unlock()

	for i, c := range waiting {
		switch c.wait(g, ctx, reqs[i].Soft) {
		case waitedSoft:
			results[i].Late = true
			continue // without leaving: the work goes on even if all other callers leave
		case waitedEnough:
			g.leave(results[i:], waiting[i:], ctx.Err())
			return results
		}
		results[i].Val, results[i].Err, results[i].Joined = c.val, c.err, c.joined
	}
	return results
}

// DoSingle is [Group.Do] of one request, and heeds Here. begin returns the memory for a work, and what
// leads it. here says whether it is to run in the caller's goroutine: then begin is called before it
// is known whether there is a call to join, and else if there is none, though there may be one by then
// after all.
func (g *Group[K, F, V]) DoSingle(ctx context.Context, r *Request[K, F], begin func(here bool) (*Single[K, F, V], Leader[K, F, V])) (res Result[V]) {
	if err := ctx.Err(); err != nil {
		return Result[V]{Err: err, Refused: true}
	}
	equal(r.Key, r.Key) // as in Do
	here := r.Here && r.Soft == nil && ctx.Done() == nil
	var c *Call[K, F, V]
	var closed error
	if !here { // whose memory costs something
		c, closed = g.join(r)
	}
	if res.Shared = c != nil; c == nil && closed == nil {
		space, lead := begin(here) // not under the lock, for which all others would wait
		c, res.Shared, closed = g.joinOrBegin(ctx, r, here, space, lead)
		switch {
		case res.Shared || closed != nil:
		case here:
			g.runSingle(space)
		default:
			go func() {
				stackgrow.Grow() // here, where there are the fewest frames to copy
				g.runSingle(space)
			}()
		}
	}
	if closed != nil {
		return Result[V]{Err: closed, Refused: true}
	}
	switch c.wait(g, ctx, r.Soft) {
	case waitedSoft:
		res.Late = true
	case waitedEnough:
		all := [1]Result[V]{res}
		g.leave(all[:], []*Call[K, F, V]{c}, ctx.Err())
		res = all[0]
	default:
		res.Val, res.Err, res.Joined = c.val, c.err, c.joined
	}
	return res
}

// join joins the call that a request may share, if there is one. closed says why no request is
// answered any more.
func (g *Group[K, F, V]) join(r *Request[K, F]) (c *Call[K, F, V], closed error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		return nil, g.closed
	}
	return g.joinLocked(r), nil
}

// joinOrBegin is join, and if there is no call to join, begins the work of space, which is then to be
// run.
func (g *Group[K, F, V]) joinOrBegin(ctx context.Context, r *Request[K, F], here bool, space *Single[K, F, V], lead Leader[K, F, V]) (c *Call[K, F, V], joined bool, closed error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		return nil, false, g.closed
	}
	if c = g.joinLocked(r); c != nil {
		return c, true, nil
	}
	c = &space.call
	space.lead, space.calls[0], space.work.here = lead, c, here
	g.beginLocked(&space.work, c, 0, r)
	g.startLocked(&space.work, lead.NewContext(ctx))
	return c, false, nil
}

func (g *Group[K, F, V]) runSingle(s *Single[K, F, V]) {
	g.run(s.work.ctx, &s.work, s.calls[:], s.lead.Lead)
}

// begin is run on a new goroutine.
func (g *Group[K, F, V]) begin(ctx Context, w *work, mine []*Call[K, F, V], lead func(context.Context, []*Call[K, F, V])) {
	stackgrow.Grow()
	g.run(ctx, w, mine, lead)
}

// joinLocked joins the call in flight that a request may share, and returns nil if there is none.
func (g *Group[K, F, V]) joinLocked(r *Request[K, F]) *Call[K, F, V] {
	if r.Alone || r.Apart {
		return nil
	}
	c := g.calls.find(r)
	if c == nil || c.work.dead || c.began < r.NotBefore {
		return nil
	}
	c.joined = true
	c.waiters++
	c.work.waiters++
	return c
}

// beginLocked makes c the call of the i-th request, and a part of w.
func (g *Group[K, F, V]) beginLocked(w *work, c *Call[K, F, V], i int, r *Request[K, F]) {
	c.Key, c.Fence, c.Index, c.began, c.hash, c.work, c.waiters = r.Key, r.Fence, i, r.Now, r.Hash, w, 1
	w.waiters++
	w.open++
	// A key that differs from itself (NaN) could never be found again.
	if r.Apart || !equal(r.Key, r.Key) || !equal(r.Fence, r.Fence) {
		return
	}
	// A call that may not be joined is replaced. Its own callers keep it.
	if old := g.calls.find(r); old != nil {
		g.calls.remove(old)
	}
	g.calls.add(c)
}

// startLocked counts a work as running.
func (g *Group[K, F, V]) startLocked(w *work, ctx Context) {
	w.ctx, w.running = ctx, true
	if w.next = g.works; w.next != nil {
		w.next.previous = w
	}
	g.works = w
}

// waited says why a wait for a call has ended.
type waited uint8

const (
	waitedOut    waited = iota // the call is resolved
	waitedSoft                 // Request.Soft was closed, and it is not
	waitedEnough               // the caller's context has ended
)

// wait waits for a call.
func (c *Call[K, F, V]) wait(g *Group[K, F, V], ctx context.Context, soft <-chan struct{}) waited {
	if c.over.Load() {
		return waitedOut
	}
	ended := ctx.Done()
	alone := ended == nil && soft == nil
	g.mu.Lock()
	switch {
	case c.over.Load():
		g.mu.Unlock()
		return waitedOut
	case alone && !c.awaited:
		c.awaited = true
		c.ready.Add(1)
	case !alone && c.done == nil:
		c.done = make(chan struct{})
	}
	done := c.done
	g.mu.Unlock()
	if alone {
		c.ready.Wait()
		return waitedOut
	}
	select {
	case <-done:
		return waitedOut
	case <-soft:
		if c.Resolved() {
			return waitedOut
		}
		return waitedSoft
	case <-ended:
		return waitedEnough
	}
}

func equal[T comparable](a, b T) bool { return a == b }

func fail[V any](results []Result[V], err error) []Result[V] {
	for i := range results {
		results[i].Err = err
		results[i].Refused = true
	}
	return results
}

// leave removes a caller from calls that it waited for. It keeps the results that are already
// there, which are worth more than an error, and gets err for the rest. The lock is held for
// both, or this could happen:
//
//  1. the last caller leaves, and the work is canceled
//  2. the work detects that, and resolves its calls with the cancellation
//  3. the caller returns that error, instead of its own context's
func (g *Group[K, F, V]) leave(results []Result[V], calls []*Call[K, F, V], err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, c := range calls {
		if c.over.Load() {
			results[i].Val, results[i].Err, results[i].Joined = c.val, c.err, c.joined
			continue
		}
		results[i].Err = err
		c.waiters--
		c.work.waiters--
	}
	for _, c := range calls {
		c.work.cancelIfAbandonedLocked()
	}
}

// Resolved reports whether the call has its result.
func (c *Call[K, F, V]) Resolved() bool { return c.over.Load() }

// Resolve sets the result of a call; the first one counts.
func (g *Group[K, F, V]) Resolve(c *Call[K, F, V], v V, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.over.Load() {
		return
	}
	if c.listed { // it is not joined any more
		g.calls.remove(c)
	}
	c.val, c.err = v, err
	c.over.Store(true)
	if c.awaited {
		c.ready.Done()
	}
	if c.done != nil {
		close(c.done)
	}
	c.work.open--
	c.work.waiters -= c.waiters
	c.work.cancelIfAbandonedLocked()
	if c.work.here {
		g.overLocked(c.work)
	}
}

func (g *Group[K, F, V]) run(ctx Context, w *work, mine []*Call[K, F, V], lead func(context.Context, []*Call[K, F, V])) {
	defer func() {
		v := recover()
		if w.over.CompareAndSwap(false, true) {
			g.end(ctx, w, mine, v)
		}
	}()
	lead(ctx, mine)
}

// TakeOver takes the work of a call from the goroutine that runs it, which user code holds. Its
// end is [Group.Finish], which must follow: the end of that goroutine is not, whenever it comes.
func (g *Group[K, F, V]) TakeOver(c *Call[K, F, V]) { c.work.over.Store(true) }

// Finish ends a work that was taken over and has this call alone. It is to be deferred: a panic
// becomes the call's error, as one of the work itself does.
func (g *Group[K, F, V]) Finish(c *Call[K, F, V]) {
	v := recover()
	g.end(c.work.ctx, c.work, []*Call[K, F, V]{c}, v)
}

// end ends a work. panicked is what it has panicked with, nil if it has not.
func (g *Group[K, F, V]) end(ctx Context, w *work, mine []*Call[K, F, V], panicked any) {
	defer g.over(w)
	open := 0
	for _, c := range mine {
		if !c.Resolved() {
			open++
		}
	}
	if open > 0 || panicked != nil {
		// Canceled work need not resolve each of its calls.
		err := cmp.Or(ctx.Cause(), errUnresolved)
		if panicked != nil {
			err = g.recovered(panicked, debug.Stack())
		}
		var zero V
		for _, c := range mine {
			g.Resolve(c, zero, err)
		}
	}
	ctx.Cancel(nil)
}

// over counts a work as ended.
func (g *Group[K, F, V]) over(w *work) {
	if !w.running {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.overLocked(w)
}

func (g *Group[K, F, V]) overLocked(w *work) {
	w.running = false
	if w.previous == nil {
		g.works = w.next
	} else {
		w.previous.next = w.next
	}
	if w.next != nil {
		w.next.previous = w.previous
	}
	if w.next, w.previous = nil, nil; g.works == nil && g.closed != nil {
		g.idle.Broadcast()
	}
}

// Len returns the number of keys with a call in flight, one for each fence.
func (g *Group[K, F, V]) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls.len
}

// Close cancels all work with cause, waits until it has ended, and refuses later requests with
// cause, or context.Canceled if that is nil. It may be called more than once, and then the
// first cause holds; every call waits. Work must not call it: it would wait for itself.
func (g *Group[K, F, V]) Close(cause error) {
	g.Cancel(cause)
	g.Wait()
}

// Wait waits until all work has ended, once the group is closed.
func (g *Group[K, F, V]) Wait() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.works != nil {
		g.idle.Wait()
	}
}

// Cancel is Close without the wait.
func (g *Group[K, F, V]) Cancel(cause error) {
	g.mu.Lock()
	if g.closed == nil {
		g.closed = cause
		if cause == nil {
			g.closed = context.Canceled
		}
	}
	for w := g.works; w != nil; w = w.next {
		w.ctx.Cancel(g.closed)
	}
	g.mu.Unlock()
}
