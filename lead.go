package cache

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
// everyone in this process who waits for it:
//
//  1. acquire: SET lease NX GET, in place of the value. Either nothing was
//     there and the lease is ours; or a value was, and is the answer; or another
//     process's lease, and we wait; or something of no use, which the lease then
//     replaces, by compare-and-set.
//  2. load, while the lease is renewed.
//  3. fill: compare-and-set against exactly what step 1 saw. A SET or DEL by
//     anyone in between wins.
//
// Who waits for another process's lease is woken when its load has ended, by the
// notice that goes with the fill. If the load has failed, a record of that is in the
// lease's place for a while: those who saw the lease take its error for theirs, so that
// they do not load one after the other what can't be loaded, and nobody else minds it.
//
// A lease is short: if its process dies, another one takes over within leaseLife and a
// look.
const (
	//
	// Those of a call for many keys last longer: they are asked for, extended and replaced
	// piece by piece, each of which takes its time.
	leaseLife   = time.Second
	leasePerKey = 200 * time.Microsecond
	leaseMost   = time.Minute

	// failureLife is how long those who wait have to see that a load has failed.
	failureLife = time.Second

	// Another process's lease is looked at again after leasePoll even if nothing was
	// heard: a process that dies, a lease that ends and a DEL by hand send no notice.
	leasePoll = 250 * time.Millisecond

	// Where nothing can be heard, it is looked at again after these.
	pollFirst = 5 * time.Millisecond
	pollMost  = 50 * time.Millisecond

	// loadsAtOnce bounds how many loads of one batch run side by side where the
	// source can only load one by one.
	loadsAtOnce = 16
)

var (
	errBusy           = errors.New("cache: somebody else is loading")
	errHardTimeout    = errors.New("cache: the load exceeded the hard timeout")
	errWaitsForItself = errors.New("cache: a function that a cache has called waits for its own key")
	errEndedGoroutine = errors.New("cache: the load ended its goroutine")
)

// loader is how to load.
type loader[K comparable, V any] struct {
	one  LoadFunc[K, V]
	many BatchFunc[K, V] // nil: one by one
}

// inflightLoad is one key of a load.
type inflightLoad[K comparable, V any] struct {
	loadKey
	call       *flight.Call[K, beginning, result[V]]
	state      fillState
	why        error          // with fillNone: why Redis gave no lease
	fence      fence.Token    // taken before Redis was asked for the lease
	stamp      stamp          // likewise
	seen       store.CASToken // what the fill must still find
	lease      bool           // that is a lease of this load
	lock       bool           // this load holds the lock of the key instead: a value is there
	id         frame.ID       // of this load's lease or lock
	token      store.CASToken // likewise
	second     bool           // it takes the place of an obsolete lease or lock
	seenLeases []frame.ID     // other processes' leases that this load has waited for
	old        *decoded[V]    // the value that is to be replaced; nil: none
	stays      frame.ID       // of the record that stays in place until the fill; zero: none
	gone       bool           // that record is of no use to any reader
	ends       int64          // local time when the key of that record ends, if nothing prolongs it
	idle       time.Duration  // for how long it is to be prolonged, beyond that of the lease
	life       time.Duration  // of the lease or lock
	res        loaded[V]
	left       *leftover[K, V] // the load goes on alone; nil: it does not
	late       bool            // this is what has become of such a one

	settled bool // the lease or lock was given back, or is about to be

	// Where there is no Redis:
	claim  *fence.Claim    // what a lease or a lock is elsewhere
	awaits []*fence.Claim  // other loads and writes that this load waits for
	entry  *local.Entry[V] // what the tier held when it was claimed
}

// leaseFor is how long the leases of a call for n keys last, unless they are extended: whole
// milliseconds.
func leaseFor(n int) time.Duration {
	return min(leaseLife+time.Duration(n-1)*leasePerKey, leaseMost).Truncate(time.Millisecond)
}

// beginning says what had happened when a load began. Who comes later, and knows of more,
// does not share it: its value may be from before that.
type beginning struct {
	fence fence.Token
	era   uint64 // of the logical clock, as far as this process knew it
	clock int64  // likewise
}

func (c *Cache[K, V]) beginning(f fence.Token) beginning {
	known := c.clock.Known()
	return beginning{f, known.Era, known.Clock}
}

// lockKey is where a load holds its lock that is to replace a value, which stays in
// place for as long. Losing it only costs that others load as well.
func (c *Cache[K, V]) lockKey(rk string) string { return c.names.Lock + c.encoded(rk) }

// fillState says where the loaded value may go.
type fillState uint8

const (
	waiting   fillState = iota // nothing decided yet
	fillBoth                   // compare-and-set against seen, then the local tier
	fillLocal                  // only there: Redis holds a newer program's record
	fillNone                   // no lease could be had: it might overwrite something newer
)

// loaded is what the source said.
type loaded[V any] struct {
	val    V
	err    error
	wishes loadDirectives
	began  int64 // local time

	refused bool // the source was not asked: err is the load limit's
	left    bool // the loader goes on, though its time is over
}

// cost is how long the load took, up to now: the record that is stored now began then.
func (r *loaded[V]) cost() time.Duration { return since(r.began) }

// lead answers the calls of ls. What others load is awaited while the rest is loaded: who
// joins one key of a batch does not wait for another.
func (c *Cache[K, V]) lead(ctx context.Context, j *loader[K, V], o *callOptions, ls []*inflightLoad[K, V]) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.policy.HardTimeout, errHardTimeout)
	defer cancel()
	all := ls
	defer func() { c.giveBack(all) }()
	wake, stop := c.watch(ls)
	defer stop()
	defer endClaims(all)
	var loads sync.WaitGroup
	defer loads.Wait()
	for pause := pollFirst; ; pause = min(2*pause, pollMost) {
		again := c.acquire(ctx, o, ls)
		var ready, others []*inflightLoad[K, V]
		for _, l := range ls {
			switch {
			case l.call.Resolved():
			case l.state == waiting:
				others = append(others, l)
			default:
				ready = append(ready, l)
			}
		}
		switch {
		case len(others) == 0:
			c.loadAndFill(ctx, j, o, ready)
			return
		case len(ready) > 0:
			loads.Go(func() { c.loadApart(ctx, j, o, ready) })
		}
		if ls = others; again {
			continue
		}
		if err := c.await(ctx, wake, pause); err != nil {
			for _, l := range others {
				if !o.refresh {
					c.stats.unloaded.Add(1)
				}
				c.resolve(l, result[V]{}, err)
			}
			return
		}
	}
}

// loadApart is loadAndFill on a goroutine of its own.
func (c *Cache[K, V]) loadApart(ctx context.Context, j *loader[K, V], o *callOptions, ls []*inflightLoad[K, V]) {
	err := errEndedGoroutine
	defer func() {
		for _, l := range ls {
			c.resolve(l, result[V]{}, err) // of no effect on those that have an answer
		}
	}()
	defer usercode.Recover(&err)
	c.loadAndFill(ctx, j, o, ls)
}

// watch is made before the first look at Redis, or at what is claimed; see coherence.Waiter.
func (c *Cache[K, V]) watch(ls []*inflightLoad[K, V]) (wake <-chan struct{}, stop func()) {
	encoded := make([]string, len(ls))
	for i, l := range ls {
		encoded[i] = c.encoded(l.rk)
	}
	if c.coherence == nil {
		w := c.fences.Wait(encoded...)
		return w.C, w.Close
	}
	w := c.coherence.Wait(encoded...)
	return w.C, w.Close
}

// await waits until it is worth to look again.
func (c *Cache[K, V]) await(ctx context.Context, wake <-chan struct{}, pause time.Duration) error {
	if c.coherence == nil || c.coherence.Connected(local.Now()) {
		pause = leasePoll
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-wake:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Cache[K, V]) resolve(l *inflightLoad[K, V], ans result[V], err error) {
	c.flights.Resolve(l.call, ans, err)
}
