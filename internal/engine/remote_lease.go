package engine

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
)

// acquire tries to get a lease for each key, and resolves the loads of keys that have a
// value by now. It reports whether to try again at once for those that are still waiting.
func (c *remote) acquire(ctx context.Context, at int64, o *Options, ls []*inflightLoad) (again bool) {
	if o.SkipRemote {
		c.acquireApart(ls)
		return false
	}
	cmds := make([]store.Command, 0, len(ls))
	asked := make([]*inflightLoad, 0, len(ls))
	for _, l := range ls {
		if l.down {
			if l.state, l.why = fillNone, coherence.ErrPending; c.outage != nil {
				c.keepInOutage(l)
			}
			continue
		}
		asked = append(asked, l)
	}
	if len(asked) == 0 {
		c.dropSpeculative(o, ls)
		return false
	}
	// As in a read, what Redis holds is used only once pending invalidations are delivered.
	r, err := c.coherence.BeginRead(ctx, local.Now(), len(asked), func(i int) string { return asked[i].rk })
	if err != nil {
		for _, l := range asked {
			c.noLease(l, err)
		}
		c.dropSpeculative(o, ls)
		return false
	}
	// The version and the fences are taken before the lease, and so before the load.
	asked = c.withVersions(ctx, &r, asked)
	for _, l := range asked {
		s := l.version
		l.fence, l.second = c.fences.Token(c.encoded(l.rk)), false
		l.life = leaseFor(len(asked))
		cmds = append(cmds, c.leaseCommand(store.SetNX, l.rk, s, false, l.life))
	}
	// A key that is not empty needs a second command: the lease in place of a useless
	// record, or the lock of a record that stays.
	var more []*inflightLoad
	var then []store.Command
	// The commands run even if the caller is gone: a lease that was granted without the load
	// learning of it would block other loads until it expires.
	whole := withoutCancel(ctx)
	replies := c.coherence.Send(whole, cmds)
	suspect := c.coherence.EndRead(&r)
	var adopted map[int]*adoption
	if c.legacy != nil && (!o.speculative || ls[0].found) {
		adopted = c.adoptAll(ctx, len(asked), func(i int) (string, *store.Reply) { return asked[i].rk, &replies[i] })
	}
	seen := func(i int) {
		l, reply := asked[i], &replies[i]
		switch {
		case o.speculative && !c.goesOn(l, reply):
			l.state = fillNone
		case reply.Err != nil:
			// Redis can't grant a lease (down, full, read-only): the load goes
			// on without one, and fills nothing.
			c.noLease(l, reply.Err)
		case reply.OK:
			c.granted(l, cmds[i])
		case suspect || c.coherence.Overtaken(whole, &r, l.rk, reply.Record):
			again = true
		default:
			switch c.handleExisting(ctx, o, l, reply.Record, adopted[i], &r, at) {
			case awaitIt:
				more, then = append(more, l), append(then, c.coherence.SignLease(l.rk, reply.Record))
			case replaceIt:
				more, then = append(more, l), append(then, c.leaseOver(l.rk, reply.Record.CASToken(), c.renewVersion(l), l.second, l.life))
			case lockIt:
				more, then = append(more, l), append(then, c.leaseCommand(store.SetNX, c.lockKey(l.rk), c.renewVersion(l), false, l.life))
			}
		}
	}
	// The codec, which is user code, decodes the records of keys that are not empty.
	holds := func(r store.Reply) bool { return len(r.Record.Raw) > 0 }
	usercode.EachIf(slices.ContainsFunc(replies, holds), len(replies), seen, func(i int, err error) {
		asked[i].state, asked[i].why = fillNone, err
	})
	c.dropSpeculative(o, ls)
	for len(then) > 0 {
		ls, cmds := more, then
		more, then = nil, nil
		// A load that gets a lock checks that the record it is to replace is still there:
		//
		//  1. load A reads the old value; load B has replaced it, and frees the lock
		//  2. load A gets the lock
		looks := make([]int, len(ls)) // index of the reply to that check; 0: none is needed
		for i, l := range ls {
			if cmds[i].Key != l.rk && cmds[i].Op != store.AwaitLease {
				looks[i] = len(cmds)
				cmds = append(cmds, store.Command{Op: store.GetHeader, Key: l.rk})
			}
		}
		var late []store.Command
		var locked []*inflightLoad
		replies := c.coherence.Send(whole, cmds)
		for i, l := range ls {
			reply := replies[i]
			switch {
			case cmds[i].Op == store.AwaitLease:
				// If the lease is gone, its load may have ended before the sign was there. If it
				// is not known, the load reads again after a while.
				again = again || reply.Err == nil && !reply.OK
			case reply.Err != nil:
				c.noLease(l, reply.Err)
			case reply.OK && looks[i] != 0 && replies[looks[i]].Err == nil && replies[looks[i]].Record.CASToken() != l.seen:
				late = append(late, store.Command{Op: store.CompareAndDelete, Key: cmds[i].Key, Seen: store.TokenOf(cmds[i].Frame)})
				l.old, again = nil, true
			case reply.OK:
				c.granted(l, cmds[i])
				locked = append(locked, l)
			case cmds[i].Op == store.SetNX && cmds[i].Key != l.rk && c.handleLockHeld(ctx, o, l, reply.Record):
				more = append(more, l)
				if l.gone { // then a load in flight that is to replace it is of no use, either
					then = append(then, c.leaseOver(l.rk, l.seen, c.renewVersion(l), l.second, l.life))
					break
				}
				swap := c.leaseCommand(store.CompareAndSet, cmds[i].Key, c.renewVersion(l), l.second, l.life)
				swap.Seen = reply.Record.CASToken()
				then = append(then, swap)
			case l.state == waiting && cmds[i].Key != l.rk && o.anew():
				l.state = fillBoth // another load holds the lock by now; MaxAge(0) does not wait for that one, either
			case l.state == waiting:
				l.old = nil // another load was faster: read again
				// Its lease or lock has no sign of this load yet.
				again = again || cmds[i].Op == store.CompareAndSet
				if cmds[i].Op == store.SetNX && !l.call.Resolved() && c.mustSign(cmds[i].Key, reply.Record) {
					more, then = append(more, l), append(then, c.coherence.SignLease(cmds[i].Key, reply.Record))
				}
			}
		}
		gone := c.prolong(whole, locked)
		again = again || len(gone) > 0
		if late = append(late, gone...); len(late) > 0 {
			c.coherence.Send(whole, late)
		}
	}
	return again
}

// withVersions gives loads the versions at which they begin, and returns those that have one.
func (c *remote) withVersions(ctx context.Context, r *coherence.Reading, ls []*inflightLoad) []*inflightLoad {
	var failed map[uint8]error // by part
	have := ls[:0]
	for _, l := range ls {
		part := c.part(l.rk)
		err := cmp.Or(failed[part], c.coherence.Failed(r, l.rk))
		if err == nil {
			l.version, err = c.version(ctx, l.rk)
		}
		if err == nil {
			have = append(have, l)
			continue
		}
		if failed == nil {
			failed = map[uint8]error{}
		}
		failed[part] = err
		c.noLease(l, err) // without a version, a stored value could not be invalidated
	}
	return have
}

// A record that stays in place until the fill must not expire before the load ends: readers
// check the lock only where there is a record to replace, and the fill would find none.
//
//  1. a refresh takes the lock of an entry that expires soon
//  2. the entry expires
//  3. a reader finds the key empty, and gets a lease at once: a second load
//
// So the load prolongs the key as it extends its lock. The lifetime written in the record
// stays the same: the value is still over when it was to be over.

// stay notes the record that stays in place until the fill, and when its key expires.
func (c *remote) stay(ctx context.Context, l *inflightLoad, f *decoded, seen store.CASToken) {
	l.seen, l.stays, l.gone, l.ends, l.idle = seen, f.raw.ID, f.gone, math.MaxInt64, 0
	if f.status == typeMismatch {
		c.date(ctx, l.rk, f)
	}
	switch {
	case !f.timed:
	case c.policy.Sliding > 0: // the time of its last read is not known
		l.ends, l.idle = math.MinInt64, min(c.policy.Sliding, f.retention)
	case f.retention != forever:
		l.ends = later(local.Now(), max(f.retention, 0))
	}
}

// prolongation returns the command that makes the key of the record that stays outlast the
// lock's next lifetime. ok is false if it does so already.
func (l *inflightLoad) prolongation() (cmd store.Command, ok bool) {
	now := local.Now()
	if !l.lock || l.ends >= later(now, l.life) {
		return cmd, false
	}
	life := max(l.life, l.idle.Truncate(time.Millisecond))
	l.ends = later(now, life)
	return store.Command{Op: store.Extend, Key: l.rk, Seen: l.seen, TTL: life}, true
}

// prolong prolongs the records that stay in place, for the loads that have got their locks.
// A load whose record has expired already, or was replaced, goes on waiting, and the command
// that releases its lock is returned.
func (c *remote) prolong(ctx context.Context, ls []*inflightLoad) (gone []store.Command) {
	var cmds []store.Command
	var asked []*inflightLoad
	for _, l := range ls {
		if cmd, ok := l.prolongation(); ok {
			cmds, asked = append(cmds, cmd), append(asked, l)
		}
	}
	if len(cmds) == 0 {
		return nil
	}
	for i, reply := range c.coherence.Send(ctx, cmds) {
		if l := asked[i]; reply.Err == nil && !reply.OK {
			gone = append(gone, store.Command{Op: store.CompareAndDelete, Key: c.lockKey(l.rk), Seen: l.token})
			l.state, l.lock, l.old = waiting, false, nil
		}
	}
	return gone
}

// goesOn reports whether a load that a prediction has started goes on after that reply, and notes it: it
// has got a lease; or it has found another load's, as a read would have, and then waits for that.
func (c *remote) goesOn(l *inflightLoad, reply *store.Reply) bool {
	if !l.found && reply.Err == nil && !reply.OK {
		h, err := frame.ReadHead(reply.Record.Raw)
		l.found = err == nil && h.Kind == frame.Lease
	}
	return l.found || reply.OK
}

// dropSpeculative gives up loads that a prediction has started, unless they go on.
func (c *remote) dropSpeculative(o *Options, ls []*inflightLoad) {
	for _, l := range ls {
		if o.speculative && !l.lease && !l.found {
			c.resolve(l, nil, errNotAcquired)
		}
	}
}

// handleLockHeld deals with a key whose value another load is replacing, or has failed to.
// It reports whether the record in the place of the lock is of no use.
func (c *remote) handleLockHeld(ctx context.Context, o *Options, l *inflightLoad, rec store.Record) (useless bool) {
	f := c.decode(ctx, c.lockKey(l.rk), rec, nil)
	anew := o.anew()
	switch {
	case f.status == leased && anew:
		return true // it does not wait for a load that began earlier, and later callers wait for this one
	case f.status == failed && (anew || f.raw.ETag != string(l.stays[:])):
		return true // the failure concerns an earlier record
	case f.status == failed && (f.hold > 0 && (l.old != nil && (o.Policy == nil || o.Policy.AllowsStale(l.old.past(), true)) || !f.covers) || slices.Contains(l.seenLeases, f.lease)):
		if f.hold > 0 {
			c.loadedElsewhere(l.rk, l.fence, &f, l.stays, true)
		}
		c.countAwaited(o)
		c.resolve(l, nil, f.err)
	case f.status != leased:
		return true
	case o.background:
		c.resolve(l, nil, errBusy)
	case c.obsolete(&f):
		l.second = true
		return true
	default:
		ok, outdated := c.taken(o, l, f.raw.ID)
		if outdated {
			l.second = true
			return true
		}
		if !ok {
			l.note(f.raw.ID)
		}
	}
	return false
}

// mustSign reports whether a record is another load's lease that has to be signed, so that the
// end of that load is notified. The order is:
//
//  1. the waiter is registered; see coherence.Waiter
//  2. the lease is read
//  3. it is signed, unless it is not there any more: then it is read again
//  4. the load ends, finds the sign, and its end is notified
//
// If 4 comes before 3, there is no lease to sign.
func (c *remote) mustSign(key string, rec store.Record) bool {
	h, err := frame.ReadHead(rec.Raw)
	return err == nil && h.Kind == frame.Lease && c.coherence.SignsLease(key, h.Sign)
}

// note remembers a lease of another process that this load is waiting for.
func (l *inflightLoad) note(id frame.ID) {
	if !slices.Contains(l.seenLeases, id) {
		l.seenLeases = append(l.seenLeases, id)
	}
}

// leaseCommand returns a command that asks for a lease, with a new id each time: only its own
// attempt may recognise it. The lease says at which logical time the load begins, and whether
// it takes the place of an obsolete one.
func (c *remote) leaseCommand(op store.Op, rk string, s version, second bool, life time.Duration) store.Command {
	return c.leaseOf(frame.NewID(), op, rk, s, second, life)
}

func (c *remote) leaseOf(id frame.ID, op store.Op, rk string, s version, second bool, life time.Duration) store.Command {
	frm := frame.AppendLease(nil, id)
	if s.time > 0 {
		frm = frame.AppendLeaseSince(frm[:0], id, s.time, second)
	}
	return store.Command{Op: op, Key: rk, Frame: c.signed(rk, frm), TTL: life}
}

// obsolete reports whether a load, by the logical time in its lease, began before an
// invalidation that may concern it: its value may be of no use to callers that come now, and
// they take over its lease. The tags of a value are not known before it is loaded. So that
// unrelated invalidations do not restart a load again and again without any of them being
// stored, there are two at a time at most: a load that has taken over a lease keeps it, unless
// everything was invalidated.
func (c *remote) obsolete(f *decoded) bool {
	began, second, ok := f.raw.Since()
	clock := c.clockIn(f.part)
	known := clock.Known()
	if !ok || began >= known.Clock {
		return false
	}
	if !second {
		return true
	}
	v, _ := clock.Validate(known.Epoch, began, 0, nil, local.Now())
	return v == logicalclock.Stale || v == logicalclock.Invalid
}

// renewVersion returns the version of a load that asks for a lease once more: the load begins after that,
// and so at the logical time that is known by now. With the one from before the first attempt, a load
// that takes over an obsolete lease might be obsolete as well:
//
//  1. a reader asks for the lease of k, which another load has
//  2. everything is invalidated, and this process is notified: the lease is obsolete
//  3. the reader takes it over, and loads
//  4. a reader that comes now is not to begin a third load
func (c *remote) renewVersion(l *inflightLoad) version {
	if epoch, at, ok := c.clockIn(l.version.part).Version(); ok && epoch == l.version.epoch {
		l.version.time = max(l.version.time, at)
	}
	return l.version
}

// leaseOver is leaseCommand for a lease that replaces the record in seen. The second half of
// the lease's id identifies that record.
func (c *remote) leaseOver(rk string, seen store.CASToken, s version, second bool, life time.Duration) store.Command {
	id := frame.NewID()
	if len(seen.Token) == frame.TokenLen {
		copy(id[len(id)/2:], seen.Token[frame.TokenLen-len(id)/2:])
	}
	swap := c.leaseOf(id, store.CompareAndSet, rk, s, second, life)
	swap.Seen = seen
	return swap
}

// tookOver reports whether the lease of that id has replaced the record in seen.
func tookOver(id frame.ID, seen store.CASToken) bool {
	return len(seen.Token) == frame.TokenLen && string(id[len(id)/2:]) == seen.Token[frame.TokenLen-len(id)/2:]
}

// granted records a lease or lock that was granted. If it is a lease, Redis had no value of
// the key, or a useless one: the local entry is then not what Redis held, and is removed.
// Tracking reports that change as well, but not whose it was:
//
//  1. another program replaces the value
//  2. this process puts its lease there
//  3. it receives a notification, and finds that Redis holds its own lease: the local entry
//     stays
//  4. the load fails, and leaves a failure record in the lease's place: that is an own write,
//     too
func (c *remote) granted(l *inflightLoad, cmd store.Command) {
	l.hold(cmd)
	if !l.lease || c.local == nil {
		return
	}
	if _, ok := c.local.Get(l.key, local.Now()); ok {
		c.local.Remove(c.encoded(l.rk))
	}
}

// hold notes that the lease or lock that cmd asked for was granted.
func (l *inflightLoad) hold(cmd store.Command) {
	h, _ := frame.ReadHead(cmd.Frame)
	l.state, l.id, l.token = fillBoth, h.ID, store.TokenOf(cmd.Frame)
	if cmd.Key == l.rk {
		l.lease, l.seen, l.old, l.stays = true, l.token, nil, frame.ID{}
	} else {
		l.lock = true
	}
}

// step is the next step for a key that is not empty.
type step uint8

const (
	nothingMore step = iota
	replaceIt        // the record is of no use: the lease takes its place
	lockIt           // the record stays until the fill: a lock marks the load in flight
	awaitIt          // another load's lease is to be signed: its end is to be notified
)

// handleExisting deals with a key that is not empty. adopted is as in [decoded].
func (c *remote) handleExisting(ctx context.Context, o *Options, l *inflightLoad, rec store.Record, adopted *adoption, r *coherence.Reading, at int64) step {
	f := decoded{key: l.key, adopted: adopted}
	c.decodeTo(&f, ctx, l.rk, rec, r)
	c.validate(ctx, []*decoded{&f}, local.Now())
	switch f.status {
	case usable:
		if f.legacy && o.tooOld(&f.ans.info) {
			return replaceIt
		}
		if !f.legacy && o.background && f.age >= o.backgroundAge {
			l.old = &f
			c.stay(ctx, l, &f, rec.CASToken())
			return lockIt
		}
		if !o.tooOld(&f.ans.info) {
			c.fillLocal(l.key, l.rk, l.fence, &f, at)
			c.countAwaited(o)
			ans := f.ans
			c.resolve(l, &ans, nil)
			return nothingMore
		}
		// Too old for this caller, but usable for others: it stays until the fill.
		if f.ans.absent == nil {
			l.old = &f
		}
		c.stay(ctx, l, &f, rec.CASToken())
		return lockIt
	case stale:
		l.old = &f
		c.stay(ctx, l, &f, rec.CASToken())
		return lockIt
	case expired, typeMismatch:
		if l.old = nil; !c.stays(&f) {
			return replaceIt
		}
		c.stay(ctx, l, &f, rec.CASToken())
		return lockIt
	case unavailable:
		c.noLease(l, f.err)
		return nothingMore
	case failed:
		if f.hold > 0 && !o.anew() {
			c.loadedElsewhere(l.rk, l.fence, &f, f.raw.ID, false)
		} else if !slices.Contains(l.seenLeases, f.lease) {
			return replaceIt // without a hold, a failure counts only for loads that waited for it
		}
		c.countAwaited(o)
		c.resolve(l, nil, f.err)
		return nothingMore
	case leased:
		if c.obsolete(&f) {
			l.second = true
			return replaceIt
		}
		if !o.anew() {
			if ok, outdated := c.taken(o, l, f.raw.ID); ok {
				return nothingMore
			} else if outdated {
				l.second = true
				return replaceIt
			}
			l.note(f.raw.ID)
			if c.mustSign(l.rk, rec) {
				return awaitIt
			}
			return nothingMore // still waiting
		}
		// MaxAge(0) does not wait for a load that began earlier; its own result may
		// replace that load's lease, which makes the other load's fill fail.
	case newer:
		c.coherence.ReceiveAll()
		l.state = fillLocal
		return nothingMore
	default:
		return replaceIt
	}
	l.state, l.seen = fillBoth, rec.CASToken()
	return nothingMore
}

func (c *Cache) countAwaited(o *Options) {
	if !o.refresh {
		c.stats.awaited.Add(1)
	}
}

// keepAlive renews the leases of ls, and the records that stay in place under their locks,
// until stop is called. stop waits for a renewal in flight.
func (c *remote) keepAlive(ctx context.Context, ls []*inflightLoad) (stop func()) {
	if len(ls) == 1 {
		if l := ls[0]; l.lease || l.lock {
			return c.start(&extension{ctx: ctx, every: renewEvery(leaseFor(1)), single: l})
		}
		return func() {}
	}
	var cmds []store.Command
	var locked []*inflightLoad
	for _, l := range ls {
		if cmd, ok := c.extending(l); ok {
			cmds = append(cmds, cmd)
		}
		if l.lock {
			locked = append(locked, l)
		}
	}
	return c.extend(ctx, leaseFor(len(cmds)), cmds, locked...)
}

// extending returns the command that extends the lease or the lock of a load.
func (c *remote) extending(l *inflightLoad) (cmd store.Command, ok bool) {
	switch {
	case l.lease:
		return store.Command{Op: store.Extend, Key: l.rk, Seen: l.token, TTL: l.life}, true
	case l.lock:
		return store.Command{Op: store.Extend, Key: c.lockKey(l.rk), Seen: l.token, TTL: l.life}, true
	}
	return cmd, false
}

// extension extends leases and prolongs records while loads run. Most loads are over before
// that, and cost no more than a timer.
type extension struct {
	ctx    context.Context
	every  time.Duration
	cmds   []store.Command // extend leases
	locked []*inflightLoad // the records that stay under their locks are prolonged
	single *inflightLoad   // in place of both, which are made when they are needed
	timer  *time.Timer

	mu      sync.Mutex // guards what follows
	stopped bool
	cancel  context.CancelFunc // ends the rounds; nil: none has begun
	done    chan struct{}      // closed when the rounds have ended
}

func renewEvery(life time.Duration) time.Duration { return life * 3 / 10 }

// extend repeats commands that extend leases of that lifetime, and prolongs the records that
// stay under locks, until stop is called. stop waits for a round in flight.
func (c *remote) extend(ctx context.Context, life time.Duration, cmds []store.Command, locked ...*inflightLoad) (stop func()) {
	if len(cmds)+len(locked) == 0 {
		return func() {}
	}
	return c.start(&extension{ctx: ctx, every: renewEvery(life), cmds: cmds, locked: locked})
}

func (c *remote) start(e *extension) (stop func()) {
	e.timer = time.AfterFunc(e.every, func() { c.run(e) })
	return e.stop
}

func (c *remote) run(e *extension) {
	e.mu.Lock()
	if e.stopped {
		e.mu.Unlock()
		return
	}
	var ctx context.Context
	ctx, e.cancel = context.WithCancel(e.ctx)
	e.done = make(chan struct{})
	e.mu.Unlock()
	defer close(e.done)
	if l := e.single; l != nil {
		if cmd, ok := c.extending(l); ok {
			e.cmds = []store.Command{cmd}
		}
		if l.lock {
			e.locked = []*inflightLoad{l}
		}
	}
	for err := ctx.Err(); err == nil; err = wait(ctx, e.every) {
		// A lost lease stays lost, and the compare-and-set of its fill will fail too.
		all := e.cmds[:len(e.cmds):len(e.cmds)]
		for _, l := range e.locked {
			if cmd, ok := l.prolongation(); ok {
				all = append(all, cmd)
			}
		}
		if len(all) > 0 {
			c.coherence.Send(ctx, all)
		}
	}
}

func (e *extension) stop() {
	if e.timer.Stop() {
		return
	}
	e.mu.Lock()
	e.stopped = true
	cancel := e.cancel
	e.mu.Unlock()
	if cancel != nil {
		cancel()
		<-e.done
	}
}
