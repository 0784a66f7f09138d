package engine

import (
	"cmp"
	"context"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/stat"
)

// The read path, the same for one key and for many: prepare, then the local tier,
// the remote tier and the source, each asked only for the keys that are still open.

// result is the answer of a tier or a load for a key: a value, or that there is none.
type result struct {
	val    Value
	absent *absentError // not nil: the value does not exist
	info   Info
	unkept error // of a load: why the value could not be stored in Redis, if Redis does not answer
	held   bool  // val is the one that the local tier holds
}

// Lookup is one key's read on its way through the tiers.
type Lookup struct {
	key   Key
	space Value       // what a record's value is decoded into
	rk    string      // Redis key
	place fence.Place // where the fences have it
	at    int64       // local time before any tier was asked
	fence fence.Token // taken before any tier was asked
	done  bool        // the answer is in ans or err
	ans   result
	err   error

	nowhere    bool          // the local tier had no entry of the key
	due        time.Duration // the age of the local entry that has answered and is due for a refresh; else NotDue
	remoteErr  error         // why the remote tier could not be asked
	pendingErr error         // the remote record is older than a change of this process that is still pending
	stale      staleValue    // a stale value that may be served
	own        bool          // ans.val belongs to this caller alone
}

// Info says where the answer came from.
func (it *Lookup) Info() Info { return it.ans.info.Own() }

// None reports whether there is no value, and that is no failure.
func (it *Lookup) None() bool {
	return it.err == errs.ErrMiss || it.err == nil && it.ans.absent != nil
}

// Absent reports whether the answer is that the value does not exist.
func (it *Lookup) Absent() bool { return it.err == nil && it.ans.absent != nil }

func (it *Lookup) answered(ans result) {
	it.done, it.ans = true, ans
}

func (it *Lookup) failed(err error) {
	it.done, it.err = true, err
}

// Deliver returns what the caller of op gets.
func (c *Cache) Deliver(op string, it *Lookup) (Value, error) {
	switch {
	case it.err != nil:
		return nil, c.Explain(op, it.err)
	case it.ans.absent != nil:
		return nil, it.ans.absent
	case c.clone != nil && !it.own:
		v, err := c.clone(it.ans.val)
		if err != nil {
			return nil, c.Explain(op, err)
		}
		return v, nil
	}
	return it.ans.val, nil
}

// ReadOne is Read for one key that began at the local time start, and is measured.
func (c *Cache) ReadOne(ctx context.Context, s *Scratch, load Loader, o *Options, start int64) {
	c.read(ctx, s, load, o, start)
	c.stats.getHist.Record(since(start))
}

// ReadMany is Read for a batch, and is measured.
func (c *Cache) ReadMany(ctx context.Context, s *Scratch, load Loader, o *Options) {
	start := local.Now()
	c.read(ctx, s, load, o, start)
	c.stats.getManyHist.Record(since(start))
}

// Read resolves every lookup of s; load is nil if nothing may be loaded.
func (c *Cache) Read(ctx context.Context, s *Scratch, j Loader, o *Options) {
	c.read(ctx, s, j, o, local.Now())
}

// read is Read that began at the local time start.
func (c *Cache) read(ctx context.Context, s *Scratch, j Loader, o *Options, start int64) {
	items := s.items
	c.prepare(ctx, items, &s.encoded, start)
	if c.local != nil && !o.SkipLocal {
		c.readLocal(ctx, items, o)
		c.refreshDue(ctx, items, j, o)
	}
	c.backend.read(ctx, s, j, o)
	c.applyNegativeCache(items, j, o)
	if j != nil {
		c.readSource(ctx, s, j, o)
	}
	for i := range items {
		if it := &items[i]; !it.done {
			it.failed(errs.ErrMiss)
			if !o.Uncounted {
				c.stats.unloaded.Add(1)
			}
			if err := cmp.Or(it.remoteErr, it.pendingErr); err != nil {
				it.err = &missError{err}
			}
		}
	}
}

// prepare encodes the keys, into space, and takes the fence tokens: before any tier is asked,
// so that every later change of a key is noticed.
func (c *Cache) prepare(ctx context.Context, items []Lookup, space *[]byte, start int64) {
	at, err := start, ctx.Err()
	if c.Closed() {
		err = errs.ErrClosed
	} else if err == nil && c.backend.ready(ctx) {
		at = local.Now()
	}
	if len(items) == 1 && err == nil { // a key that is its own text needs no memory
		if text, ok := c.ownText(items[0].key); ok {
			c.begin(&items[0], text, at)
			return
		}
	}
	buf := (*space)[:0]
	for len(items) > 0 {
		n := min(len(items), keysTogether)
		var ends [keysTogether]int
		buf = buf[:0]
		for i := range n {
			it := &items[i]
			if err != nil {
				it.failed(err)
				continue
			}
			began := len(buf)
			if text, ok := c.ownText(it.key); ok {
				it.rk, ends[i] = text, began
				continue
			}
			var kerr error
			if buf, kerr = c.types.AppendKey(append(buf, c.prefix...), it.key); kerr != nil {
				it.failed(kerr)
				buf = buf[:began]
			}
			ends[i] = len(buf)
		}
		all, began := string(buf), 0
		for i := range n {
			it := &items[i]
			if it.done {
				continue
			}
			if began < ends[i] || it.rk == "" {
				it.rk = all[began:ends[i]]
			}
			c.begin(it, it.rk, at)
			began = ends[i]
		}
		items = items[n:]
	}
	*space = buf
}

// begin begins the lookup of a key with that text at the local time at.
func (c *Cache) begin(it *Lookup, rk string, at int64) {
	it.rk, it.at, it.due = rk, at, NotDue
	it.place = c.fences.Place(c.encoded(rk))
	it.fence = c.fences.TokenAt(it.place)
}

// keysTogether is how many keys of a batch share the memory of their Redis keys, at most: what
// keeps one of these, such as a load, keeps the others.
const keysTogether = 32

// applyNegativeCache resolves the keys for which the source is not to be asked, since a load
// of them has failed lately: with a stale value, or with that error.
func (c *Cache) applyNegativeCache(items []Lookup, j Loader, o *Options) {
	if j == nil || o.anew() {
		return
	}
	for i := range items {
		it := &items[i]
		if it.done {
			continue
		}
		covered := it.stale.ok && c.policyOf(o).AllowsStale(it.stale.past, true)
		failure := c.failures.look(it.rk, it.at, covered, c.clockOf(it.rk).Known)
		if failure == nil {
			continue
		}
		if !o.Uncounted {
			c.stats.unloaded.Add(1)
		}
		c.staleOrFail(it, failure, o)
	}
}

// staleOrFail resolves a read whose load has failed, with a stale value or with the failure.
func (c *Cache) staleOrFail(it *Lookup, failure error, o *Options) {
	if c.allowsStale(it, failure, o) {
		it.answerStale(failure)
		c.stats.staleCovers.Add(1)
		return
	}
	if u, ok := failure.(*noStaleError); ok {
		failure = u.err
	}
	it.failed(failure)
}

func (c *Cache) countHit(tier *stat.Counter, info Info, o *Options) {
	if !o.Uncounted {
		c.stats.hit(tier, &info)
	}
}

func (c *Cache) countMiss(reason status, o *Options) {
	if !o.Uncounted {
		c.stats.miss(reason)
	}
}

// readSource loads the keys that are still open, sharing loads with other callers.
func (c *Cache) readSource(ctx context.Context, s *Scratch, j Loader, o *Options) {
	items := s.items
	open := s.open()
	for i := range items {
		switch it := &items[i]; {
		case it.done:
		case c.within(ctx, it.rk):
			c.staleOrFail(it, errWaitsForItself, o)
		default:
			open = append(open, it)
		}
	}
	for len(open) > 0 {
		open = c.loadOpen(ctx, s, open, j, o)
	}
}

// loadOpen loads keys. It returns those that have joined a load which did not take place,
// either because it was speculative and the key was not empty, or because it was a refresh,
// which does not wait for a lease or a free place: they are still to be loaded.
func (c *Cache) loadOpen(ctx context.Context, s *Scratch, open []*Lookup, j Loader, o *Options) (again []*Lookup) {
	if len(open) == 1 {
		if c.loadOne(ctx, s, open[0], j, o) {
			again = open
		}
		return again
	}
	// A load may outlive the call: what it needs is copied.
	opts, keys, wants, reqs := o.kept(), make([]Key, len(open)), make([]loadKey, len(open)), make([]flight.Request[string, beginning], len(open))
	for i, it := range open {
		keys[i] = it.key
	}
	c.types.KeepKeys(keys)
	began := c.beginning(fence.Token{})
	began.apart = o.SkipRemote
	for i, it := range open {
		wants[i] = loadKey{key: keys[i], rk: it.rk, place: it.place, down: it.remoteErr != nil}
		reqs[i] = c.request(it, began, o)
	}
	if soft, stop := c.applySoftTimeout(open, reqs, o); soft {
		defer stop()
	}
	results := c.flights.Do(ctx, reqs, func(ctx context.Context, mine []*flight.Call[string, beginning, *result]) {
		at := local.Now()
		ctx.(*loadContext).expireAt(later(at, c.policyOf(opts).HardTimeout))
		ls := make([]*inflightLoad, len(mine))
		for i, call := range mine {
			ls[i] = c.newLoad(wants[call.Index])
			ls[i].call = call
		}
		c.lead(ctx, at, j, opts, ls, nil)
	})
	for i, it := range open {
		if c.loadEnded(ctx, it, &results[i], o) {
			again = append(again, it)
		}
	}
	return again
}

// loadOne is loadOpen of one key.
func (c *Cache) loadOne(ctx context.Context, s *Scratch, it *Lookup, j Loader, o *Options) (again bool) {
	began := c.beginning(fence.Token{})
	began.apart = o.SkipRemote
	reqs := [1]flight.Request[string, beginning]{c.request(it, began, o)}
	reqs[0].Here = !c.policyOf(o).Abandons
	if c.policyOf(o).SoftTimeout > 0 {
		if soft, stop := c.applySoftTimeout([]*Lookup{it}, reqs[:], o); soft {
			defer stop()
		}
	}
	r := c.flights.DoSingle(ctx, &reqs[0], func(here bool) (*flight.Single[string, beginning, *result], flight.Leader[string, beginning, *result]) {
		m := c.prepareLoad(s, it, j, o, here)
		return &m.flight, m
	})
	again = c.loadEnded(ctx, it, &r, o)
	s.loaded(&r)
	return again
}

// request asks for the load of a key that begins now.
func (c *Cache) request(it *Lookup, began beginning, o *Options) flight.Request[string, beginning] {
	began.fence = it.fence
	if part := c.part(it.rk); part != 0 {
		known := c.clockIn(part).Known()
		began.epoch, began.clock = known.Epoch, known.Clock
	}
	return flight.Request[string, beginning]{Key: it.rk, Hash: it.place.Hash(), Fence: began, Alone: o.anew(), Now: it.at, NotBefore: c.backend.since(it.rk, it.at)}
}

// loadEnded answers a lookup with the outcome of its load. It reports whether there was none, and
// the key is still to be loaded.
func (c *Cache) loadEnded(ctx context.Context, it *Lookup, r *flight.Result[*result], o *Options) (again bool) {
	if r.Err == errNotAcquired && o.speculative {
		return false
	}
	if r.Err == errNotAcquired || r.Err == errBusy && !o.background || r.Err == errNoPlaceBehind && !o.background {
		return true
	}
	switch {
	case r.Late:
		c.staleOrFail(it, errSoftTimeout, o)
	case r.Err != nil && r.Err != ctx.Err():
		c.staleOrFail(it, r.Err, o)
	default:
		if it.done, it.err = true, r.Err; r.Val != nil {
			it.ans, it.own = *r.Val, !r.Shared && !r.Joined && !r.Val.held
		}
	}
	switch {
	case o.refresh:
		return false // not counted as a request
	case r.Refused:
		c.stats.unloaded.Add(1)
	case r.Shared:
		c.stats.coalesced.Add(1)
	}
	if it.remoteErr != nil && it.err == nil {
		c.stats.fallbacks.Add(1)
	}
	return false
}

// applySoftTimeout ends the wait of reads that have a stale value after the soft timeout. The
// load goes on, and fills.
func (c *Cache) applySoftTimeout(open []*Lookup, reqs []flight.Request[string, beginning], o *Options) (soft bool, stop func()) {
	wait := c.policyOf(o).SoftTimeout
	if wait == 0 {
		return false, nil
	}
	done := make(chan struct{})
	for i, it := range open {
		if c.allowsStale(it, errSoftTimeout, o) {
			reqs[i].Soft, soft = done, true
		}
	}
	if !soft {
		return false, nil
	}
	t := time.AfterFunc(wait, func() { close(done) })
	return true, func() { t.Stop() }
}

// loadKey is what a load needs to know about a key.
type loadKey struct {
	key   Key
	rk    string
	place fence.Place // where the fences have it, if the load is one of readers
	down  bool        // the remote tier could not be asked
}
