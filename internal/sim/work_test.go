package sim_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// simNode is a process.
type simNode struct {
	w         *world
	id        int
	c         *cache.Cache[string, string]
	net       *simNet
	transport coherence.Transport
	local     bool
	localTTL  time.Duration // 0: longer than any run
	outage    time.Duration // strategy.LocalDuringOutage; 0: it is not used
	crash     context.CancelFunc

	mu       sync.Mutex // guards what follows
	attempts []attempt
}

// attempt is a change that Redis did not acknowledge.
type attempt struct {
	key     string
	version int
	from    time.Duration // when it has taken effect where Redis did answer: in one part of the keys, and not in another
}

func (w *world) startNode() *simNode {
	w.mu.Lock()
	id := w.nodes
	w.nodes++
	if id%2 == 0 {
		w.last = nil
		if w.shared {
			w.last = &simProcess{now: map[simSessionKind]*simSession{}}
		}
	}
	process := w.last
	w.mu.Unlock()
	d := w.draw("node")
	n := &simNode{w: w, id: id}
	n.net = &simNet{Memory: w.store, id: id, w: w, process: process}
	if w.moving {
		n.net.client = w.clientOf(id, process)
	}
	n.net.ctx, n.crash = context.WithCancel(context.Background())
	n.local = !d.one(4) || w.values
	opts := []cache.Option{cache.WithLogger(slog.New(slog.DiscardHandler)), cache.WithStrategy(strategy.Jitter(0))}
	if n.local {
		opts = append(opts, cache.WithStrategy(strategy.LRU(100)))
	}
	if w.values {
		opts = append(opts, cache.LocalValues())
	}
	kinds := 5
	if w.values {
		kinds = 4 // each node has to be told
	}
	switch d.n(kinds) {
	case 0, 1:
		n.transport = coherence.Broadcast
		opts = append(opts, cache.WithTransport(invalidate.Broadcast()))
	case 2, 3:
		n.transport = coherence.Tracking
		transport := invalidate.Tracking()
		if w.draw("by key", strconv.Itoa(id)).one(2) && !w.values {
			n.transport, transport = coherence.TrackingKeys, invalidate.TrackingKeys()
		}
		opts = append(opts, cache.WithTransport(transport))
	default:
		opts = append(opts, cache.WithTransport(invalidate.NoTransport()))
		if n.local {
			n.localTTL = 500 * time.Millisecond
			opts = append(opts, cache.WithStrategy(strategy.LocalTTL(n.localTTL)))
		}
	}
	if n.local && n.transport != coherence.None {
		// A short one ends in the outages of these worlds, a long one outlasts them.
		if o := w.draw("outage", strconv.Itoa(id)); o.one(2) {
			n.outage = []time.Duration{700 * time.Millisecond, 2 * time.Second, time.Minute}[o.n(3)]
			opts = append(opts, cache.WithStrategy(strategy.LocalDuringOutage(n.outage)))
		}
	}
	switch w.policy.Mode {
	case invalidation.Delayed:
		opts = append(opts, cache.WithInvalidator(invalidate.Delayed(w.policy.Delay)))
	case invalidation.Lazy:
		opts = append(opts, cache.WithInvalidator(invalidate.Lazy()))
	}
	src := cache.Source[string, string]{
		Load: func(ctx context.Context, key string) (string, error) { return n.load(ctx, key) },
		Tags: func(key, _ string) []string { return simTags[key] },
	}
	c, err := cache.NewFrom(nil, "sim", src, append(opts, hook.Store(func() store.Store { return n.net }).(cache.Option))...)
	if err != nil {
		w.t.Fatal(err)
	}
	n.c = c
	if n.w.draw("prediction", strconv.Itoa(id)).one(2) && !w.values {
		hook.Of(c).PredictMiss() // each read expects a miss
	}
	w.log("node %d: transport %d, local tier %v, during an outage %v", id, n.transport, n.local, n.outage)
	return n
}

// simWorker is one of those who use a node at once.
type simWorker struct {
	*simNode
	*dice
}

// work does this and that until ctx ends.
func (n *simNode) work(ctx context.Context) {
	(&simWorker{n, n.w.draw("worker", strconv.Itoa(n.id))}).work(ctx)
}

func (n *simWorker) work(ctx context.Context) {
	for sleep(ctx, n.upTo(40*time.Millisecond)) == nil && !n.w.broken() {
		op := context.WithoutCancel(ctx)
		cancel := func() {}
		if n.w.may(impatience) && n.one(10) {
			op, cancel = context.WithTimeout(op, n.upTo(4*mostLatency))
		}
		key := simKeys[n.n(len(simKeys))]
		k := n.n(100)
		if k >= 66 && !n.one(n.w.calms) {
			k = n.n(66)
		}
		switch {
		case k < 3:
			n.touch(op, key)
		case k < 60:
			n.read(op, key)
		case k < 65:
			n.readMany(op)
		case k < 66:
			n.sync(op)
		case k < 90:
			n.change(op, key)
		case k < 93:
			n.refreshOrAdopt(op, key)
		case k < 94:
			n.setApart(op, key)
		default:
			n.changeMany(op)
		}
		cancel()
	}
}

func (n *simWorker) read(ctx context.Context, key string) {
	w, r := n.w, n.w.register(key)
	least, why := r.least(n.simNode, w.now())
	r.mu.Lock()
	kept := r.kept
	r.mu.Unlock()
	var v string
	var err error
	how := "peek"
	switch kind := n.n(10); {
	case !inSource(key) || kind == 0:
		v, err = n.c.Peek(ctx, key)
	case kind == 1:
		how = "peek redis"
		v, err = n.c.Peek(ctx, key, cache.SkipLocal())
	case kind == 2:
		how = "get anew"
		v, err = n.c.Get(context.WithValue(ctx, loadKind{}, 1), key, cache.MaxAge(0))
	case kind == 3:
		// It has no lease, and need not find what Redis has.
		how, kept = "get apart", 0
		opts := []cache.ReadOption{cache.SkipRemote()}
		if n.one(3) {
			opts = append(opts, cache.MaxAge(0))
		}
		v, err = n.c.Get(context.WithValue(ctx, loadKind{}, 1), key, opts...)
	default:
		how = "get"
		v, err = n.c.Get(ctx, key)
	}
	n.check(how, r, least, why, v, err)
	n.checkKept(how, r, kept, err)
}

// checkKept judges the answer of a read that began when a version was to be found.
func (n *simNode) checkKept(how string, r *register, kept int, err error) {
	if errors.Is(err, cache.ErrMiss) && !errors.Is(err, cache.ErrUnavailable) && kept != 0 && r.missing(kept) == kept {
		n.w.violated("node %d: %s of %s found nothing, and version %d was stored, and nothing has happened to it since", n.id, how, r.key, kept)
	}
}

func (n *simWorker) readMany(ctx context.Context) {
	keys := []string{"s0", "s1", "w0"}
	var least [3]int
	var why [3]bound
	for i, k := range keys {
		least[i], why[i] = n.w.register(k).least(n.simNode, n.w.now())
	}
	vals, err := n.c.GetMany(ctx, keys)
	var be *cache.BatchError[string]
	errors.As(err, &be)
	for i, k := range keys {
		v, ok := vals[k]
		err := be.For(k)
		if !ok && err == nil {
			err = cache.ErrNotFound
		}
		n.check("get many", n.w.register(k), least[i], why[i], v, err)
	}
}

// check judges the answer of a read.
func (n *simNode) check(how string, r *register, least int, why bound, v string, err error) {
	w := n.w
	switch {
	case err == nil:
		w.log("node %d: %s: %q", n.id, how, v)
		key, version, ok := parseValue(v)
		if !ok || key != r.key {
			w.violated("node %d: %s of %s gave %q", n.id, how, r.key, v)
		} else if !r.allowed(version, least) {
			w.violated("node %d: %s of %s gave version %d; since %v it has to be %d (changed on node %d); now there is %d",
				n.id, how, r.key, version, why.from, least, why.node, r.current())
		}
	case errors.Is(err, cache.ErrNotFound):
		w.log("node %d: %s of %s: absent", n.id, how, r.key)
		if inSource(r.key) && !r.allowedAbsence(least) {
			w.violated("node %d: %s of %s gave an absence; since %v it has to be version %d (changed on node %d)", n.id, how, r.key, why.from, least, why.node)
		}
	default:
		w.log("node %d: %s of %s: %v", n.id, how, r.key, err)
		if w.faults == 0 && !errors.Is(err, errSource) && !errors.Is(err, cache.ErrMiss) && !isElsewhere(err) {
			w.violated("node %d: %s of %s failed: %v", n.id, how, r.key, err)
		}
	}
}

func isElsewhere(err error) bool {
	return hook.IsPeerLoadError(err)
}

// done notes the outcome of a change. tried: whatever comes of it, Redis is to be told
// that what it had before is of no use.
func (n *simNode) done(what string, keys []string, versions []int, delayed, tried bool, err error) {
	w := n.w
	w.log("node %d: %s %v %v: %v", n.id, what, keys, versions, err)
	now := w.now()
	from := now
	if delayed && w.policy.Mode == invalidation.Delayed {
		from += w.policy.Delay + time.Millisecond
	}
	for i, k := range keys {
		r := w.register(k)
		if err == nil {
			r.settled(bound{version: versions[i], from: from, node: n.id}, now)
			if what == "set" || what == "set many" {
				w.stored(r, versions[i])
			}
			r.over(from)
			continue
		}
		r.over(now)
		r.fails(versions[i])
		if w.faults == 0 {
			w.violated("node %d: %s of %s failed: %v", n.id, what, k, err)
		}
		if tried && n.net.ctx.Err() == nil {
			n.mu.Lock()
			n.attempts = append(n.attempts, attempt{k, versions[i], from})
			n.mu.Unlock()
		}
	}
}

// sync waits until Redis has been told what it could not be told. From then on it holds
// as if it had been acknowledged.
func (n *simWorker) sync(ctx context.Context) {
	n.simNode.mu.Lock()
	tried := n.attempts
	n.attempts = nil
	n.simNode.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := n.c.Sync(ctx)
	n.w.log("node %d: sync: %v", n.id, err)
	if err != nil {
		n.simNode.mu.Lock()
		n.attempts = append(n.attempts, tried...)
		n.simNode.mu.Unlock()
		return
	}
	for _, a := range tried {
		now := n.w.now()
		from := now
		if n.w.parted {
			from = max(now, a.from)
		}
		n.w.register(a.key).settled(bound{version: a.version, from: from, node: n.id}, now)
	}
}

// change changes one key.
func (n *simWorker) change(ctx context.Context, key string) {
	w, r := n.w, n.w.register(key)
	var err error
	if key[0] != 's' {
		select {
		case <-r.alone:
		case <-ctx.Done():
			return
		}
		defer func() { r.alone <- struct{}{} }()
	}
	if n.net.ctx.Err() != nil {
		return
	}
	least, why := r.least(n.simNode, w.now())
	version := r.next(w.now())
	v := value(key, version)
	what, delayed, tried := "", false, ctx.Err() == nil
	keys := []string{key}
	if n.one(3) {
		keys = append(keys, "beside") // of which others are told in common; it is not read
	}
	switch kind := n.n(12); {
	case key[0] == 's' && kind < 8 || kind == 0:
		what, delayed = "invalidate", true
		w.log("node %d: begins %s %s:%d", n.id, what, key, version)
		err = n.c.Invalidate(ctx, keys...)
	case key[0] == 's' || kind == 1 || key[0] == 'w' && absentAt(key, version):
		what = "delete"
		w.log("node %d: begins %s %s:%d", n.id, what, key, version)
		err = n.c.Delete(ctx, keys...)
	case kind == 2 && key[0] == 'c' && !w.values:
		what = "set if absent"
		w.log("node %d: begins %s %s:%d", n.id, what, key, version)
		var ok bool
		if ok, err = n.c.SetIfAbsent(ctx, key, v); err == nil && !ok {
			w.log("node %d: %s %s: there is one", n.id, what, key)
			r.over(w.now())
			return
		}
		tried = false
	case kind < 6:
		what = "update"
		w.log("node %d: begins %s %s:%d", n.id, what, key, version)
		tried = false
		_, err = n.c.Update(context.WithValue(ctx, loadKind{}, 1), key, func(old string, ok bool) (string, error) {
			tried = true
			if ok {
				n.check("old of update", r, least, why, old, nil)
			}
			return v, nil
		})
		if err != nil {
			// The source may have it already, and Redis need not have been told: another writer
			// was faster, and then it did not answer.
			tried = ctx.Err() == nil
			err = n.c.Delete(ctx, key)
		}
	case kind < 8:
		what = "set many"
		w.log("node %d: begins %s %s:%d", n.id, what, key, version)
		vals := map[string]string{}
		for _, k := range keys {
			vals[k] = v
		}
		err = n.c.SetMany(ctx, vals)
	case kind < 9:
		what = "set many"
		w.log("node %d: begins %s %s:%d, with the life of what it replaces", n.id, what, key, version)
		vals := map[string]string{}
		for _, k := range keys {
			vals[k] = v
		}
		err = n.c.SetMany(ctx, vals, cache.KeepTTL())
	case kind < 10:
		what = "set"
		w.log("node %d: begins %s %s:%d, with the life of what it replaces", n.id, what, key, version)
		err = n.c.Set(ctx, key, v, cache.KeepTTL())
	default:
		what = "set"
		w.log("node %d: begins %s %s:%d", n.id, what, key, version)
		err = n.c.Set(ctx, key, v)
	}
	var be *cache.BatchError[string]
	if errors.As(err, &be) {
		err = be.For(key) // the one beside it may be all that failed
	}
	n.done(what, []string{key}, []int{version}, delayed, tried, err)
}

// touch prolongs the life of a key, which changes nothing else.
func (n *simWorker) touch(ctx context.Context, key string) {
	err := n.c.Touch(ctx, key)
	n.w.log("node %d: touch %s: %v", n.id, key, err)
	if n.w.values && errors.Is(err, cache.ErrUnavailable) {
		return // the value is in the local tier alone, which is not in use while a change is pending
	}
	if n.w.faults == 0 && err != nil && !errors.Is(err, cache.ErrMiss) {
		n.w.violated("node %d: touch of %s failed: %v", n.id, key, err)
	}
}

// setApart stores what the source has in the local tier, as a load apart from Redis does that
// takes no time.
func (n *simWorker) setApart(ctx context.Context, key string) {
	if !n.local || !inSource(key) {
		return
	}
	r := n.w.register(key)
	// What it may have to wait for comes before the source is asked.
	_, _ = n.c.Peek(ctx, key, cache.SkipRemote())
	if n.transport == coherence.TrackingKeys {
		_ = n.c.Set(ctx, "beside", value("beside", 1), cache.SkipRemote()) // the first one
	}
	before, version := n.w.now(), r.current()
	if absentAt(key, version) {
		return
	}
	err := n.c.Set(ctx, key, value(key, version), cache.SkipRemote())
	n.w.log("node %d: set apart %s:%d: %v", n.id, key, version, err)
	switch {
	case n.w.now() != before:
		n.w.violated("node %d: a write of %s that Redis has no part in took %v", n.id, key, n.w.now()-before)
	case err != nil && !errors.Is(err, cache.ErrUnavailable) && ctx.Err() == nil && n.net.ctx.Err() == nil:
		n.w.violated("node %d: set apart of %s failed: %v", n.id, key, err)
	}
}

// refreshOrAdopt loads anew, or has Update store what the source says.
func (n *simWorker) refreshOrAdopt(ctx context.Context, key string) {
	if !inSource(key) {
		return
	}
	r := n.w.register(key)
	least, why := r.least(n.simNode, n.w.now())
	ctx = context.WithValue(ctx, loadKind{}, 1)
	if n.one(2) {
		err := n.c.Refresh(ctx, key)
		n.w.log("node %d: refresh %s: %v", n.id, key, err)
		return
	}
	if n.w.values {
		// It tells the other processes, whose loads then count no more: as any change, though the
		// source stays as it is.
		r.mu.Lock()
		r.changes++
		r.mu.Unlock()
		defer func() { r.over(n.w.now()) }()
	}
	errNothing := errors.New("sim: nothing to adopt")
	v, err := n.c.Update(ctx, key, func(old string, ok bool) (string, error) {
		if !ok {
			return "", errNothing
		}
		return old, nil
	})
	if err == nil || !errors.Is(err, errNothing) {
		n.check("adopt", r, least, why, v, err)
	}
}

// changeMany changes all keys of a group, and then invalidates it.
func (n *simWorker) changeMany(ctx context.Context) {
	w := n.w
	what, of := "clear", func(string) bool { return true }
	tag := string("ab"[n.n(2)])
	switch n.n(5) {
	case 0, 1:
		what, of = "tags", func(key string) bool { return slices.Contains(simTags[key], tag) }
	case 2, 3:
		what, of = "pattern", func(key string) bool { return key[1] == '0' }
	}
	var keys []string
	var versions []int
	for _, k := range simKeys {
		if !of(k) {
			continue
		}
		r := w.register(k)
		if k[0] != 's' {
			<-r.alone
			defer func() { r.alone <- struct{}{} }()
		}
		keys = append(keys, k)
	}
	if n.net.ctx.Err() != nil {
		return
	}
	for _, k := range keys {
		versions = append(versions, w.register(k).next(w.now()))
	}
	w.log("node %d: begins %s %v %v", n.id, what, keys, versions)
	var err error
	tried := ctx.Err() == nil
	if what != "pattern" {
		w.marks.begin()
		defer func() { w.marks.end(w.now()) }()
	}
	switch what {
	case "clear":
		err = n.c.Clear(ctx)
	case "tags":
		err = n.c.InvalidateTags(ctx, tag)
	default:
		moved := w.movedSoFar()
		_, err = n.c.InvalidatePattern(ctx, "?0")
		if w.moving && (err != nil || w.movedSoFar() != moved) {
			// A key that moves meanwhile may be missed.
			w.log("node %d: %s %v %v: %v, and slots may have moved", n.id, what, keys, versions, err)
			for i, k := range keys {
				w.register(k).over(w.now())
				w.register(k).fails(versions[i])
			}
			return
		}
	}
	n.done(what, keys, versions, true, tried, err)
}
