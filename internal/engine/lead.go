package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
)

// The miss path. One goroutine leads the load of one key, or of a batch, for
// all callers in this process that wait for it:
//
//  1. acquire: SET lease NX GET, in place of the value. Either the key was empty
//     and this load holds the lease; or it holds a value, which is the answer; or
//     another process's lease, which this load waits for; or something of no use,
//     which the lease then replaces, by compare-and-set.
//  2. load, while the lease is renewed.
//  3. fill: compare-and-set against exactly what step 1 saw. A SET or DEL in
//     between, from any client, wins.
//
// A load that waits for another process's lease is woken when that load has ended, by
// the message that goes with the fill. If the load has failed, a failure record is in the
// lease's place for a while: loads that saw the lease take its error as their own, so that
// they do not try, one after the other, a load that can't succeed. All other callers
// ignore the failure record.

const (
	// A lease is short: if its process dies, another one takes over within leaseLife and
	// one poll.
	//
	// The leases of a call for many keys last longer: they are asked for, extended and
	// replaced in pieces, each of which takes its time.
	leaseLife   = time.Second
	leasePerKey = 200 * time.Microsecond
	leaseMost   = time.Minute

	// failureLife is how long waiting loads have to see that a load has failed.
	failureLife = time.Second

	// Another process's lease is read again after leasePoll even if no message was
	// received: a process that dies, a lease that expires and a manual DEL send none. Without
	// notifications it is polled; see polls.
	leasePoll = 250 * time.Millisecond

	// loadsAtOnce bounds how many loads of one batch run side by side where the
	// source can only load one by one.
	loadsAtOnce = 16
)

var (
	errBusy           = errors.New("cache: another load is in flight")
	errHardTimeout    = errors.New("cache: the load exceeded the hard timeout")
	errWaitsForItself = errors.New("cache: a function that a cache has called waits for its own key")
	errEndedGoroutine = errors.New("cache: the load ended its goroutine")
)

// inflightLoad is one key of a load.
type inflightLoad struct {
	loadKey
	call    *flight.Call[string, beginning, *result]
	state   fillState
	why     error       // with fillNone: why Redis gave no lease
	fence   fence.Token // taken before the lease was requested
	version version     // likewise
	old     *decoded    // the value that is to be replaced; nil: none
	res     loaded
	left    *leftover // &rest if the load goes on after its callers were answered; nil: it does not
	rest    leftover
	filled  fillResult
	late    bool // this is the result of such a load
	apart   bool // it asks the local tier and the source only
	outage  bool // during an outage, the local tier keeps the result, for so long at most

	*redisLoad // nil where the local tiers have the only values, and for a load that is not to be filled

	// Where the local tiers have the only values:
	claim   *fence.Claim   // takes the place of a lease or a lock
	claimed fence.Claim    // its memory
	awaited bool           // another load has seen the claim
	awaits  []*fence.Claim // other loads and writes that this load waits for
	head    local.Head     // of the entry that is stored
}

// redisLoad is what a load needs to know of the record of its key in Redis.
type redisLoad struct {
	seen       store.CASToken // what the fill's compare-and-set expects
	lease      bool           // that is a lease of this load
	lock       bool           // this load holds the lock of the key instead: the key has a value
	id         frame.ID       // of this load's lease or lock
	token      store.CASToken // likewise
	second     bool           // it takes the place of an obsolete lease or lock
	seenLeases []frame.ID     // other processes' leases that this load has waited for
	found      bool           // a prediction has started this load, and it has found such a lease: it is one like others
	stays      frame.ID       // of the record that stays in place until the fill; zero: none
	gone       bool           // that record is of no use to any reader
	ends       int64          // local time when the key of that record expires, if nothing prolongs it
	idle       time.Duration  // the least time by which it is prolonged; the lease's life if that is longer
	life       time.Duration  // of the lease or lock
	settled    bool           // the lease or lock was released, or is about to be

	stores  command  // stores the result, or releases
	unlocks command  // frees the lock, if the load holds one
	notify  *command // of these, the one that stores the failure; nil: none does
	now     int64    // the time of the key's node when the record was made
}

// newLoad returns a load of a key.
func (c *Cache) newLoad(key loadKey) *inflightLoad {
	l := &inflightLoad{loadKey: key}
	if c.inRedis {
		l.redisLoad = new(redisLoad)
	}
	return l
}

// leaseFor returns how long the leases of a call for n keys last, unless they are extended:
// whole milliseconds.
func leaseFor(n int) time.Duration {
	return min(leaseLife+time.Duration(n-1)*leasePerKey, leaseMost).Truncate(time.Millisecond)
}

// beginning is the state of the fence and the logical clock when a load began. A caller that
// comes later, and knows of newer invalidations, does not join the load: its value may be
// from before them.
type beginning struct {
	fence fence.Token
	epoch uint64 // of the logical clock, as far as this process knew it
	clock int64  // likewise
	apart bool   // it asks the local tier and the source only
}

// beginning is for keys of the first part; see request.
func (c *Cache) beginning(f fence.Token) beginning {
	known := c.clock.Known()
	return beginning{fence: f, epoch: known.Epoch, clock: known.Clock}
}

// beginningOf is beginning for a key.
func (c *Cache) beginningOf(rk string, f fence.Token) beginning {
	known := c.clockOf(rk).Known()
	return beginning{fence: f, epoch: known.Epoch, clock: known.Clock}
}

// lockKey returns the key of the lock that a load holds while it is to replace a value that
// stays in place. Losing the lock only costs duplicate loads.
func (c *Cache) lockKey(rk string) string { return c.names.Lock + c.encoded(rk) }

// fillState says where the loaded value may be stored.
type fillState uint8

const (
	waiting   fillState = iota // nothing decided yet
	fillBoth                   // compare-and-set against seen, then the local tier
	fillLocal                  // local tier only: Redis holds a newer program's record, or is not asked
	fillNone                   // nowhere: without a lease, it might overwrite something newer
)

// loaded is the outcome of a load from the source.
type loaded struct {
	val        Value
	err        error
	directives *loadDirectives // nil: none
	began      int64           // local time

	refused bool // the source was not asked: err is the load limit's
	left    bool // the loader is still running, though its time is over
}

// asked returns the directives.
func (r *loaded) asked() *loadDirectives {
	if r.directives == nil {
		return &noDirectives
	}
	return r.directives
}

// cost returns the time since the load began: a record that is stored now began then.
func (r *loaded) cost() time.Duration { return since(r.began) }

// lead resolves the calls of ls, whose load begins at the local time at. It waits for keys that other
// loads are loading while it loads the rest: a caller that joins one key of a batch does not wait for
// another.
// one is the memory of a single load, nil for a batch.
func (c *Cache) lead(ctx context.Context, at int64, j Loader, o *Options, ls []*inflightLoad, one *singleLoad) {
	all := ls
	var wake <-chan struct{}
	stop := func() {}
	var loads *sync.WaitGroup // of the loads that have begun while others wait
	defer func() {
		if one.taken() {
			return // and cleaned up
		}
		if loads != nil {
			loads.Wait()
		}
		stop()
		c.giveBack(all)
	}()
	if c.backend.watchesFirst() {
		wake, stop = c.watch(ls)
	}
	var began int64 // when the wait began; 0: not yet
	var polls polls
	for {
		again := c.backend.acquire(ctx, at, o, ls)
		ready, others := split(ls)
		switch {
		case len(others) == 0 && len(ready) == 1 && one != nil && j.HasOne():
			one.c, one.j, one.o, one.ctx, one.l, one.loads = c, j, o, ctx, ready[0], ready
			one.keepAlive, one.unwatch = c.backend.keepAlive(ctx, ready), stop
			if c.LocalOnly() { // else there was something to wait for
				one.at = at
			}
			if c.batcher.takes(j, ready[0]) {
				c.batcher.run(one)
			} else {
				one.run()
			}
			return
		case len(others) == 0:
			c.loadAndFill(ctx, j, o, ready)
			return
		case len(ready) > 0:
			if loads == nil {
				loads = new(sync.WaitGroup)
			}
			loads.Go(func() { c.loadApart(ctx, j, o, ready) })
		}
		if ls = others; wake == nil {
			wake, stop = c.watch(ls)
			again = true
		}
		if again {
			at = local.Now()
			continue
		}
		now := local.Now()
		if began == 0 {
			began, polls.expected = now, c.leaseTimes.expected()
		}
		pause := polls.pause(time.Duration(now-began), time.Duration(now-at))
		if err := c.await(ctx, wake, pause); err != nil {
			for _, l := range others {
				if !o.refresh {
					c.stats.unloaded.Add(1)
				}
				c.resolve(l, nil, err)
			}
			return
		}
		at = local.Now()
	}
}

// split returns the loads of ls that may begin, and those that wait for other loads; the rest has
// been resolved.
func split(ls []*inflightLoad) (ready, others []*inflightLoad) {
	if len(ls) == 1 && ls[0].state != waiting && !ls[0].call.Resolved() {
		return ls, nil
	}
	for _, l := range ls {
		switch {
		case l.call.Resolved():
		case l.state == waiting:
			others = append(others, l)
		default:
			ready = append(ready, l)
		}
	}
	return ready, others
}

// loadApart is loadAndFill on a goroutine of its own.
func (c *Cache) loadApart(ctx context.Context, j Loader, o *Options, ls []*inflightLoad) {
	err := errEndedGoroutine
	defer func() {
		for _, l := range ls {
			c.resolve(l, nil, err) // no effect on calls that are resolved already
		}
	}()
	defer usercode.Recover(&err)
	c.loadAndFill(ctx, j, o, ls)
}

// watch registers the waiter. It must be called before Redis, or the claims, are read that are
// waited for; see coherence.Waiter.
func (c *Cache) watch(ls []*inflightLoad) (wake <-chan struct{}, stop func()) {
	encoded := make([]string, len(ls))
	for i, l := range ls {
		encoded[i] = c.encoded(l.rk)
	}
	return c.backend.watch(encoded...)
}

// giveBack gives back what loads that did not finish hold, as after a panic.
func (c *Cache) giveBack(ls []*inflightLoad) {
	for _, l := range ls {
		if l.left != nil && l.left.release(nil, nil) {
			l.claim.End(nil)
		}
	}
	c.backend.giveBack(ls)
}

// await waits until wake, or until it is time to poll again.
func (c *Cache) await(ctx context.Context, wake <-chan struct{}, pause time.Duration) error {
	t := time.NewTimer(c.backend.pollEvery(pause))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-wake:
		return nil
	case <-ctx.Done():
		return causeOf(ctx)
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return causeOf(ctx)
	}
}

// resolve answers the callers that wait for a load. ans is not changed any more; nil: there is none.
func (c *Cache) resolve(l *inflightLoad, ans *result, err error) {
	c.flights.Resolve(l.call, ans, err)
}
