package engine

import (
	"context"
	"slices"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/usercode"
)

// auditor compares local hits, by a sample, with what Redis has (strategy.Audit).
//
// A difference by itself is no fault: a notification may be on its way. How long it lasts can't be
// told from one look either, since the dates of records are those of loads, and of clocks that
// differ. So the key is looked at again when the bound has passed:
//
//  1. a hit returns the local entry; Redis has another value
//  2. the bound passes
//  3. the entry is gone, or another one: it was stale within the bound, or
//  4. it is still used, and Redis still has another value: it is stale beyond the bound
//
// What begins to differ only later begins with step 1 again: another notification may be on its
// way. The same holds for a difference from the source, which may lag behind what Redis has, or of
// which an invalidation may be on its way.
//
// One goroutine looks at one hit after the other. What it can't look at soon is dropped, so that
// an audit never holds up a hit, and takes no more memory than the queues.
type auditor struct {
	c    *Cache
	jobs chan auditJob
	ctx  context.Context
	stop context.CancelFunc
	done chan struct{}

	// Of its goroutine:
	again  []auditJob // to be looked at again, by due
	looks  int        // hits that were found as in Redis
	loaded time.Time  // when the source was last asked
}

// auditJob is a local hit.
type auditJob struct {
	key   Key
	rk    string
	entry Held
	at    int64 // local time

	first comparison // what the first look has found
	ahead bool       // the source had another value then
	asked bool       // the source was asked
	seen  int64      // local time of the first look
	due   time.Time  // of the next
	tries int        // looks that were put off for want of a load
}

// comparison is what Redis has for a key, compared with a local entry.
type comparison struct {
	is    likeness
	age   time.Duration // of the record, as it is dated; negative: not known
	cause string        // of a difference, as far as it is known
}

type likeness uint8

const (
	alike        likeness = iota
	unlike                // Redis has something newer
	gone                  // it has nothing
	incomparable          // it could not be asked, or has a record of another program or version
)

const (
	// auditBound is how long a value may be served after it was replaced, as docs/promises.md has it.
	auditBound = 2 * time.Second
	// auditAgain is when a difference is looked at again: there is some time for a busy process.
	auditAgain = auditBound + 250*time.Millisecond

	auditQueue = 64  // hits that wait
	auditMost  = 256 // hits that are to be looked at again

	// The source is asked for one in auditSource of the hits that are as in Redis, and no more than
	// once in auditLoads.
	auditSource = 10
	auditLoads  = time.Second
	auditTries  = 5
)

// startAuditor starts the auditor, if there is to be one.
func (c *Cache) startAuditor() {
	if c.policy.Audit == 0 {
		return
	}
	a := &auditor{c: c, jobs: make(chan auditJob, auditQueue), done: make(chan struct{})}
	a.ctx, a.stop = context.WithCancel(context.Background())
	c.stats.audit(c.policy.Audit)
	c.auditor = a
	go a.run()
}

// Audit has a local hit audited. key may be kept; at is the local time of the hit.
func (c *Cache) Audit(key Key, at int64) {
	if c.auditor == nil {
		return
	}
	e, ok := c.local.Peek(key)
	if rk, err := c.keyOf(key); ok && err == nil && (e.Meta == nil || !e.Meta.Absent) {
		c.auditor.offer(auditJob{key: key, rk: rk, entry: e, at: at})
	}
}

// offer queues a hit, or drops it.
func (a *auditor) offer(j auditJob) {
	select {
	case a.jobs <- j:
	default:
		a.c.stats.auditsDropped.Add(1)
	}
}

// seal ends the loads of the auditor, and its goroutine. a may be nil.
func (a *auditor) seal() {
	if a != nil {
		a.stop()
	}
}

// close waits for the end of its goroutine, for closeWait at most. a may be nil.
func (a *auditor) close() {
	if a != nil {
		waitClosing(waiter(func() { <-a.done }))
	}
}

type waiter func()

func (w waiter) Wait() { w() }

func (a *auditor) run() {
	defer close(a.done)
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		var due <-chan time.Time
		if len(a.again) > 0 {
			t.Reset(time.Until(a.again[0].due))
			due = t.C
		}
		select {
		case <-a.ctx.Done():
			return
		case j := <-a.jobs:
			a.contained(func() { a.look(j) })
		case <-due:
			j := a.again[0]
			a.again = slices.Delete(a.again, 0, 1)
			a.contained(func() { a.lookAgain(j) })
		}
	}
}

// contained runs f, which calls the codec and the source. A hit that user code fails for is dropped.
func (a *auditor) contained(f func()) {
	if usercode.Contained(func() error { f(); return nil }) != nil {
		a.c.stats.auditsDropped.Add(1)
	}
}

// later has a hit looked at again after d.
func (a *auditor) later(j auditJob, d time.Duration) {
	if len(a.again) >= auditMost {
		a.c.stats.auditsDropped.Add(1)
		return
	}
	j.due = time.Now().Add(d)
	i, _ := slices.BinarySearchFunc(a.again, j.due, func(j auditJob, due time.Time) int {
		if j.due.After(due) {
			return 1
		}
		return -1
	})
	a.again = slices.Insert(a.again, i, j)
}

// look looks at a hit for the first time.
func (a *auditor) look(j auditJob) {
	c := a.c
	j.first = c.backend.compare(a.ctx, j.key, j.rk, j.entry)
	j.seen = local.Now()
	switch j.first.is {
	case incomparable:
		c.stats.auditsDropped.Add(1)
	case unlike, gone:
		if age := j.first.age; j.first.is == unlike && age >= 0 && j.at < j.seen-int64(age) {
			c.stats.audited.Add(1) // replaced after the hit
			return
		}
		a.later(j, auditAgain)
	case alike:
		a.looks++
		if c.LocalOnly() || a.looks%auditSource == 1 {
			switch is := a.source(&j, j.entry); {
			case is == unlike:
				j.ahead = true
				a.later(j, auditAgain)
				return
			case is == incomparable && c.LocalOnly():
				c.stats.auditsDropped.Add(1)
				return
			}
		}
		c.stats.audited.Add(1)
	}
}

// lookAgain looks at a hit after the bound.
func (a *auditor) lookAgain(j auditJob) {
	c := a.c
	e, used := c.used(j.key, j.rk)
	if used && e.Head != j.entry.Head {
		// Touch and Sliding replace an entry by another one of the same age.
		same, err := c.sameValue(j.rk, e.Value, j.entry.Value)
		used = same && err == nil && e.Stored == j.entry.Stored
	}
	if !used { // in time
		a.within(&j)
		return
	}
	now := c.backend.compare(a.ctx, j.key, j.rk, e)
	switch {
	case now.is == incomparable:
		c.stats.auditsDropped.Add(1)
	case now.is == alike && j.first.is != alike:
		a.within(&j)
	case now.is == unlike && j.first.is != unlike, now.is == gone && j.first.is == alike:
		a.begin(j, now) // since now
	case now.is != j.first.is, now.is == unlike: // it was unlike
		a.beyond(&j, now)
	default:
		a.sourceAgain(j, e, now)
	}
}

// begin has a hit looked at again, since it differs from what Redis has.
func (a *auditor) begin(j auditJob, now comparison) {
	j.first, j.ahead, j.tries, j.seen = now, false, 0, local.Now()
	a.later(j, auditAgain)
}

// sourceAgain is lookAgain where the source decides: Redis has what it had at the first look, and
// that is the entry's value, or nothing.
func (a *auditor) sourceAgain(j auditJob, e Held, now comparison) {
	c := a.c
	switch is := a.source(&j, e); {
	case is == unlike && !j.ahead: // Redis may have evicted a record that the entry is as good as
		j.ahead, j.seen = true, local.Now()
		a.later(j, auditAgain)
	case is == unlike && now.is == gone:
		now.cause = "Redis has no record any more, and the source another value: an invalidation was not received"
		a.beyond(&j, now)
	case is == unlike:
		c.stats.audited.Add(1)
		c.stats.sourceAhead.Add(1)
		c.reports.SourceAhead(j.stale(), "Redis and the local tier agree: the source was changed without an invalidation")
	case is == alike:
		a.within(&j)
	case c.loader != nil && j.tries+1 < auditTries:
		j.tries++
		a.later(j, auditLoads)
	default:
		c.stats.auditsDropped.Add(1)
	}
}

// stale is how long a difference has lasted at least.
func (j *auditJob) stale() time.Duration { return time.Duration(local.Now() - j.seen) }

// beyond counts a hit whose entry is stale beyond the bound.
func (a *auditor) beyond(j *auditJob, now comparison) {
	c := a.c
	c.stats.audited.Add(1)
	c.stats.staleBeyond.Add(1)
	c.reports.StaleBeyond(max(j.stale(), now.age), now.cause)
}

// within counts a hit whose entry is not used any more, or is as in Redis again.
func (a *auditor) within(j *auditJob) {
	a.c.stats.audited.Add(1)
	if j.first.is == unlike {
		a.c.stats.staleWithin.Add(1)
	}
}

// source compares an entry with the source's value. It is incomparable if the source is not to be
// asked now, or does not answer.
func (a *auditor) source(j *auditJob, e Held) likeness {
	c := a.c
	if c.loader == nil || !a.loaded.IsZero() && time.Since(a.loaded) < auditLoads {
		return incomparable
	}
	a.loaded = time.Now()
	ctx, cancel := context.WithTimeoutCause(a.ctx, c.policy.HardTimeout, errHardTimeout)
	defer cancel()
	res := c.loadAside(ctx, c.loader, &auditing, loadKey{key: j.key, rk: j.rk})
	is := incomparable
	switch {
	case res.err == nil:
		if same, err := c.sameValue(j.rk, e.Value, res.val); err == nil {
			if is = unlike; same {
				is = alike
			}
		}
	case c.absence(res.err) != nil:
		is = unlike
	}
	if is != incomparable && !j.asked {
		j.asked = true
		c.stats.auditedSource.Add(1)
	}
	return is
}

// auditing are the options of a load that no read waits for, and that does not wait for a slot of
// the load limit.
var auditing = Options{refresh: true, background: true}

// used returns the local entry that a read of the key would be answered with now.
func (c *Cache) used(key Key, rk string) (Held, bool) {
	now := local.Now()
	if !c.backend.mayUseLocal(rk, now) {
		return Held{}, false
	}
	e, ok := c.local.Peek(key)
	return e, ok && now < e.Deadline && (e.Meta == nil || !e.Meta.Absent) && c.lives(e.Meta, now)
}
