package engine

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/usercode"
)

// loadBatcher collects single loads into calls of LoadMany (strategy.BatchLoads). Only the call
// of the loader is shared: each load has its work and its context, its lease, its watch for the
// hard timeout and its fill, as a load by Load has. It comes here when it has its lease, so that
// a key that another process loads does not hold up a batch; see [Cache.lead].
//
// A load takes a seat in the batch that is being collected, and waits for its result. It gives
// the seat up if its context ends before the call: when its callers have left, at its hard
// timeout, or at Close. Once the call has begun its result is of use in any case, and a load whose
// time is over is taken over by the watchdog, as if it ran a loader of its own.
type loadBatcher struct {
	c    *Cache
	most int           // keys of a batch
	wait time.Duration // for more of them

	mu         sync.Mutex // guards what follows, and the fields that say so; before it no other lock of a batch
	collecting *loadBatch // nil: none
}

// loadBatch is one call of LoadMany.
type loadBatch struct {
	*loadBatcher
	ctx   *loadContext // has the values of the first load's context, and lives as long as any of them
	timer *time.Timer  // ends the collecting
	in    *callContext // of the loader

	seats []*batchSeat // guarded by mu until the call has begun, and not changed from then on
	began bool         // the call has; guarded by mu
	live  int          // loads whose contexts have not ended; guarded by mu

	start   int64 // local time of the call
	call    loadCall
	counted sync.Once // the end of call
	lateMu  sync.Mutex
	late    int // loads that were taken over; guarded by lateMu
}

// batchSeat is the place of a load in a batch.
type batchSeat struct {
	batch *loadBatch
	s     *singleLoad
	done  chan struct{} // closed when res or refused is there
	res   loaded
	err   error // why there was no call for this load
}

func newLoadBatcher(c *Cache) *loadBatcher {
	if c.policy.BatchLoads == 0 {
		return nil
	}
	return &loadBatcher{c: c, most: c.policy.BatchLoads, wait: c.policy.BatchWait}
}

// takes reports whether a load is to share a call: if it is by the source, and its key can be
// found in the map that LoadMany returns. b may be nil.
func (b *loadBatcher) takes(j Loader, l *inflightLoad) bool {
	return b != nil && j == b.c.loader && b.c.types.Findable(l.key)
}

// run is [singleLoad.run] by a call of LoadMany that it shares with others.
func (b *loadBatcher) run(s *singleLoad) {
	seat := b.join(s)
	unwatch := context.AfterFunc(s.ctx, func() { seat.leave(causeOf(s.ctx)) })
	<-seat.done
	unwatch()
	c := b.c
	switch {
	case seat.err != nil:
		c.refuse(s.o, seat.err, s.l)
		s.finish()
	case s.state.CompareAndSwap(loadRuns, loadEnded):
		c.watchdog.remove(s)
		s.l.res = seat.res
		s.finish()
	default: // it was taken over
		s.l.rest.ready.Wait()
		_ = usercode.Do(func() { c.fillLate(s.o, &s.l.rest, seat.res) })
	}
}

// join takes a seat for a load.
func (b *loadBatcher) join(s *singleLoad) *batchSeat {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := b.collecting
	if batch == nil {
		batch = &loadBatch{loadBatcher: b, ctx: newLoadContext(s.ctx)}
		batch.timer = time.AfterFunc(b.wait, batch.waited)
		b.collecting = batch
	}
	seat := &batchSeat{batch: batch, s: s, done: make(chan struct{})}
	s.seat, s.seen = seat, true
	batch.live++
	if batch.seats = append(batch.seats, seat); len(batch.seats) == b.most {
		b.collecting = nil
		batch.timer.Stop()
		go batch.run()
	}
	return seat
}

// waited ends the collecting, unless the batch has become full, or empty, meanwhile.
func (b *loadBatch) waited() {
	b.mu.Lock()
	mine := b.collecting == b
	if mine {
		b.collecting = nil
	}
	b.mu.Unlock()
	if mine {
		b.run()
	}
}

// leave is called when the context of a load has ended.
func (s *batchSeat) leave(cause error) {
	b := s.batch
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live--
	if !b.began {
		at := slices.Index(b.seats, s)
		if at < 0 {
			return // the batch was refused
		}
		b.seats = slices.Delete(b.seats, at, at+1)
		if s.err = cause; b.collecting != b { // the batch is in the queue of the load limit
			s.err = withoutPlace(cause)
		}
		close(s.done)
		if len(b.seats) == 0 && b.collecting == b {
			b.collecting = nil
			b.timer.Stop()
		}
	}
	if b.live == 0 && !(cause == errHardTimeout && local.Now() >= endOf(b.ctx)) {
		b.ctx.Cancel(cause)
	}
}

// run calls the loader, as soon as the load limit allows: one call is one load to it. Loads in
// the background alone do not wait for that.
func (b *loadBatch) run() {
	c := b.c
	b.mu.Lock()
	background := true
	end := int64(math.MinInt64) // of the last load
	for _, seat := range b.seats {
		background = background && seat.s.o.background
		end = max(end, endOf(seat.s.ctx))
	}
	none := len(b.seats) == 0
	b.mu.Unlock()
	if none {
		return
	}
	b.ctx.expireAt(end)
	defer b.ctx.Cancel(nil)
	if err := c.limit.enter(b.ctx, background); err != nil {
		b.refuse(err)
		return
	}
	b.mu.Lock()
	b.began = true
	b.mu.Unlock()
	if len(b.seats) == 0 {
		c.limit.leave()
		return
	}
	b.load()
}

// refuse ends the loads of a batch for which the load limit has no slot.
func (b *loadBatch) refuse(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, seat := range b.seats {
		seat.err = err
		close(seat.done)
	}
	b.seats = nil
}

// load calls the loader.
func (b *loadBatch) load() {
	c, j, n := b.c, b.c.loader, len(b.seats)
	unasked := c.unasked(j)
	b.start = local.Now()
	keys, rks, refreshes := make([]Key, n), make([]string, n), 0
	for i, seat := range b.seats {
		s := seat.s
		keys[i], rks[i], s.began = s.l.key, s.l.rk, b.start
		if s.o.refresh {
			refreshes++
		}
	}
	b.in = c.entering(b.ctx, rks...)
	b.in.handle.begin(c, nil)
	b.call.init(b.start, c.stats, n, false)
	b.call.refresh = refreshes
	c.stats.batches.Add(1)
	c.stats.batched.Add(uint64(n))
	for _, seat := range b.seats {
		seat.s.h = &b.in.handle
		c.watchdog.add(b.start, seat.s)
	}
	out := called[Found]{err: usercode.ErrGoexit} // unless it returns, or panics
	defer func() {
		c.limit.leave()
		leaving(b.in)
		b.end(out, unasked)
	}()
	out.err = usercode.Call(func() (err error) {
		out.res, err = j.LoadMany(b.call.begin(b.in, c.name), keys)
		return err
	})
}

// end gives each load its result.
func (b *loadBatch) end(out called[Found], unasked *unasked) {
	c, w := b.c, b.in.handle.end()
	err := ended(b.ctx, out.err, false)
	single := c.keyed(b.ctx, err)
	found, absent := 0, 0
	usercode.Each(len(b.seats), func(i int) {
		seat := b.seats[i]
		res := resultOf(out.res, err, single, seat.s.l.key, b.start)
		res.settle(w, nil, nil)
		switch seat.res = res; {
		case seat.s.taken():
		case res.err == nil:
			found++
		case c.absence(res.err) != nil:
			absent++
		}
	}, func(i int, failed error) {
		b.seats[i].res = loaded{err: cmp.Or(failed, errEndedGoroutine), began: b.start}
	})
	b.count(err, found, absent)
	// Before the loads end, so that a caller finds what came with its own value.
	ls := make([]*inflightLoad, len(b.seats))
	for i, seat := range b.seats {
		ls[i] = seat.s.l
	}
	unasked.fill(out.res, ls, w, b.start)
	for _, seat := range b.seats {
		close(seat.done)
	}
}

// taken notes that the watchdog has taken over a load. When there is no other left, the call
// counts as ended.
func (b *loadBatch) taken(err error) {
	b.lateMu.Lock()
	b.late++
	all := b.late == len(b.seats)
	b.lateMu.Unlock()
	if all {
		b.count(err, 0, 0)
	}
}

// count counts the call, once.
func (b *loadBatch) count(err error, found, absent int) {
	b.counted.Do(func() { b.call.done(err, found, absent) })
}
