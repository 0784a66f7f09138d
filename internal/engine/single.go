package engine

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/usercode"
)

// singleLoad is one call of a loader for one key. The loader runs on the goroutine of run: a
// goroutine of its own, with a channel and a timer, would take longer than many loads do. If it
// is still running when its time is over, the watchdog takes the load over, and that goroutine
// is left with what [Cache.fillLate] does.
type singleLoad struct {
	c     *Cache
	j     Loader
	o     *Options
	ctx   context.Context // of the work
	l     *inflightLoad
	batch *eachLoad  // the batch that waits for it; nil: it is a work of its own
	seat  *batchSeat // in a call of LoadMany; nil: its loader is called for it alone

	// Of a work of its own:
	loads     []*inflightLoad // l alone
	keepAlive func()          // stops the renewal of the lease
	unwatch   func()          // stops watching other loads

	space Value        // for what it returns; nil: none
	in    *callContext // of its loader; nil: it is still to be made
	h     *loadHandle  // of its loader, which other loads may share
	call  loadCall
	at    int64    // local time before it entered the load limit; 0: not known
	began int64    // local time
	ended int64    // likewise, when its loader has returned in its time; else 0
	old   *decoded // the value that is to be replaced, nil if there is none
	state atomic.Int32
	seen  bool // other goroutines may refer to it, also when it has ended

	due            int64 // local time when its time is over; guarded by watchdog.mu, as are the following
	next, previous *singleLoad
	listed         bool
}

// The states of a singleLoad.
const (
	loadRuns  = iota // its loader has not returned
	loadEnded        // it has
	loadTaken        // it has not, and its time is over: the watchdog has ended the load
)

// taken reports whether the watchdog has ended the load. s may be nil.
func (s *singleLoad) taken() bool { return s != nil && s.state.Load() == loadTaken }

// run calls the loader, as soon as the load limit allows, and ends the load; see finish.
func (s *singleLoad) run() {
	c, l := s.c, s.l
	if s.began = s.at; s.began == 0 || !c.limit.enterAtOnce() {
		if err := c.limit.enter(s.ctx, s.o.background); err != nil {
			c.refuse(s.o, err, l)
			s.finish()
			return
		}
		s.began = local.Now()
	}
	if s.old = l.old; s.old != nil && s.old.ans.absent != nil {
		s.old = nil // an absence is no value that NotModified could keep
	}
	if s.in == nil {
		s.in = new(callContext)
	}
	s.h = &s.in.handle
	s.h.begin(c, s.old)
	s.call.init(s.began, c.stats, 1, s.o.refresh)
	c.watchdog.add(s.began, s)
	out := called[Value]{err: usercode.ErrGoexit} // unless it returns, or panics
	defer func() {
		if s.state.CompareAndSwap(loadRuns, loadEnded) {
			s.seen = !c.watchdog.remove(s)
			s.end(out)
		} else {
			_ = usercode.Do(func() { s.late(out) })
		}
	}()
	out.err = usercode.Call(func() (err error) {
		s.in.begin(c, s.ctx, l.rk) // which asks the caller's context
		ctx := s.call.begin(s.in, c.name)
		if into, ok := s.j.(loadsInto); ok && s.space != nil {
			out.res = s.space
			return into.LoadInto(ctx, l.key, s.space)
		}
		out.res, err = s.j.Load(ctx, l.key)
		return err
	})
}

// end ends a load whose loader has returned in time.
func (s *singleLoad) end(out called[Value]) {
	c := s.c
	r := &s.l.res
	*r = loaded{err: errEndedGoroutine, began: s.began} // unless user code that is called here returns
	defer s.finish()
	defer usercode.Recover(&r.err)
	c.limit.leave()
	s.in.call.over.Store(true)
	res := loaded{val: out.res, err: theirs(ended(s.ctx, out.err, false)), began: s.began}
	res.settle(s.h.end(), s.old, c.clone)
	*r = res
	found, absent := 0, 0
	switch {
	case r.err == nil:
		found = 1
	case c.absence(r.err) != nil:
		absent = 1
	}
	s.ended = s.began + int64(s.call.done(r.err, found, absent))
}

// takeOver ends a load whose loader is still running.
func (s *singleLoad) takeOver() {
	if s.state.Load() != loadRuns {
		return
	}
	s.l.rest.ready.Add(1) // before late can wait for it
	if !s.state.CompareAndSwap(loadRuns, loadTaken) {
		return
	}
	c, l := s.c, s.l
	if s.batch == nil {
		c.flights.TakeOver(l.call)
		defer c.flights.Finish(l.call)
		defer c.giveBack(s.loads)
		defer s.unwatch()
	}
	defer s.finish()
	l.left = &l.rest
	l.res = loaded{err: theirs(leftAlone(s.ctx)), began: s.began, left: true, directives: s.h.soFar()}
	if s.seat == nil {
		s.call.done(l.res.err, 0, 0)
	} else {
		s.seat.batch.taken(l.res.err)
	}
}

// late stores the result of a loader that has returned after its load was taken over.
func (s *singleLoad) late(out called[Value]) {
	s.c.limit.leave()
	s.in.call.over.Store(true)
	s.l.rest.ready.Wait() // before user code can end this: takeOver is then done with the work
	res := loaded{val: out.res, err: theirs(out.err), began: s.began}
	res.settle(s.h.end(), s.old, s.c.clone)
	s.c.fillLate(s.o, &s.l.rest, res)
}

// finish passes the result on: to the batch that waits for it, or to all that wait for the key.
func (s *singleLoad) finish() {
	if s.batch != nil {
		s.batch.ended(s.l)
		return
	}
	s.keepAlive()
	at := s.ended
	if at == 0 {
		at = local.Now()
	}
	s.c.fillSingle(s.ctx, s.o, s.loads, at)
	if lc, ok := s.ctx.(*loadContext); ok {
		lc.endAt(at)
	}
}

// watchdog takes over the loads whose time is over. One timer serves all of them: it is not set
// anew when a load ends, as most do long before.
type watchdog struct {
	mu          sync.Mutex
	first, last *singleLoad // by due
	timer       *time.Timer
	at          int64 // local time when the timer fires
	set         bool  // it will
	closed      bool
}

// add adds a load that begins at the local time now.
func (w *watchdog) add(now int64, s *singleLoad) {
	end := endOf(s.ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	s.due = later(max(end, now), releaseGrace)
	w.shortenLocked(s, now)
	w.insertLocked(s)
	w.setLocked(now)
}

// shortenLocked leaves a load at most closeGrace when the cache is closed.
func (w *watchdog) shortenLocked(s *singleLoad, now int64) {
	if w.closed {
		s.due = min(s.due, later(now, closeGrace))
	}
}

func (w *watchdog) insertLocked(s *singleLoad) {
	before := w.last // mostly all have the same time, and the latest begins last
	for before != nil && s.due < before.due {
		before = before.previous
	}
	s.listed, s.previous = true, before
	if before == nil {
		s.next, w.first = w.first, s
	} else {
		s.next, before.next = before.next, s
	}
	if s.next == nil {
		w.last = s
	} else {
		s.next.previous = s
	}
}

// remove removes a load. It returns false if its time is over, and it is about to be taken over.
func (w *watchdog) remove(s *singleLoad) (removed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	removed = s.listed
	w.removeLocked(s)
	w.restLocked()
	return removed
}

// restLocked stops the timer when the cache is closed and nothing is left to watch: it would
// hold the cache in memory.
func (w *watchdog) restLocked() {
	if w.closed && w.first == nil && w.timer != nil {
		w.timer.Stop()
		w.set = false
	}
}

func (w *watchdog) removeLocked(s *singleLoad) {
	if !s.listed {
		return
	}
	if s.previous == nil {
		w.first = s.next
	} else {
		s.previous.next = s.next
	}
	if s.next == nil {
		w.last = s.previous
	} else {
		s.next.previous = s.previous
	}
	s.listed, s.next, s.previous = false, nil, nil
}

// setLocked sets the timer for the first load, unless it fires earlier.
func (w *watchdog) setLocked(now int64) {
	if w.first == nil || w.first.due == math.MaxInt64 || w.set && w.first.due >= w.at {
		return
	}
	w.at, w.set = w.first.due, true
	if in := time.Duration(w.at - now); w.timer == nil {
		w.timer = time.AfterFunc(in, w.fire)
	} else {
		w.timer.Reset(in)
	}
}

func (w *watchdog) fire() {
	now := local.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := w.first; s != nil && now >= s.due; s = w.first {
		w.removeLocked(s)
		go s.takeOver()
	}
	w.set = false
	w.setLocked(now)
}

// close leaves the loads that are running closeGrace at most, and later ones as well.
func (w *watchdog) close() {
	now := local.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for s := w.first; s != nil; s = s.next {
		w.shortenLocked(s, now) // keeps the order
	}
	w.setLocked(now)
	w.restLocked()
}

// eachLoad loads the keys of a batch one by one.
type eachLoad struct {
	slots chan struct{}      // a place for each loader that is running in its time
	done  chan *inflightLoad // has room for all
}

func newEachLoad(n int) *eachLoad {
	return &eachLoad{slots: make(chan struct{}, loadsAtOnce), done: make(chan *inflightLoad, n)}
}

// start begins a load as soon as it has a slot.
func (e *eachLoad) start(c *Cache, ctx context.Context, j Loader, o *Options, l *inflightLoad) {
	e.slots <- struct{}{}
	go (&singleLoad{c: c, j: j, o: o, ctx: ctx, l: l, batch: e}).run()
}

func (e *eachLoad) ended(l *inflightLoad) {
	<-e.slots
	e.done <- l
}

// loadEach loads one by one, and fills each key when its own load has ended.
func (c *Cache) loadEach(ctx context.Context, j Loader, o *Options, ls []*inflightLoad) {
	if len(ls) == 0 {
		return
	}
	e := newEachLoad(len(ls))
	go func() {
		for _, l := range ls {
			e.start(c, ctx, j, o, l)
		}
	}()
	for left := len(ls); left > 0; {
		some := []*inflightLoad{<-e.done}
		for more := true; more; {
			select {
			case l := <-e.done:
				some = append(some, l)
			default:
				more = false
			}
		}
		left -= len(some)
		c.fill(ctx, o, some)
	}
}

// loadAside loads one key for a caller that does not fill it.
func (c *Cache) loadAside(ctx context.Context, j Loader, o *Options, key loadKey) loaded {
	e, l := newEachLoad(1), &inflightLoad{loadKey: key}
	e.start(c, ctx, j, o, l)
	<-e.done
	if l.left != nil {
		l.left.release(nil, nil) // a late value is not stored
	}
	return l.res
}
