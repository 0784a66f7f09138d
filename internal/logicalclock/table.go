package logicalclock

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// maxTags is how many tags' marks are remembered. Beyond it any one is forgotten, and
// has to be asked for.
const maxTags = 10_000

// Token is a moment in the life of a Table, before which something was asked.
type Token uint64

// Table is what is known. All methods are safe for concurrent use. Local times are
// nanoseconds of one monotonic clock.
type Table struct {
	dated atomic.Bool // there was a mark that was made late
	later atomic.Bool // there was a mark that strikes later

	mu          sync.RWMutex // guards what follows
	readVersion Token        // moved when an era is adopted, and when everything is forgotten
	known       bool
	hearing     bool
	// What follows is kept when everything is forgotten, for it holds as long as the
	// era does: a Redis that has lost a mark does not bring back what this process
	// knew to be gone. But it is not complete any more.
	epoch Epoch // without All
	all   mark
	tags  map[string]tagMark
	base  int64 // the clock when this session began to know
	lost  int64 // the last time of which a forgotten tag's mark told
}

// tagMark is the mark of a tag when the clock was asOf.
type tagMark struct {
	mark
	asOf int64
}

// NewTable returns a table that knows nothing, and does not hear.
func NewTable() *Table {
	return &Table{tags: map[string]tagMark{}}
}

// Known returns the highest that was ever seen of the latest era, for Redis to
// notice that it went back: it is not forgotten. The zero value if nothing was.
func (t *Table) Known() Known {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return Known{Era: t.epoch.Era, Tick: t.epoch.Tick, Clock: t.epoch.Clock}
}

// Stamp returns what an entry carries whose load or write begins now. ok is false if
// nothing is known.
func (t *Table) Stamp() (era uint64, stamp int64, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.known {
		return 0, 0, false
	}
	return t.epoch.Era, t.epoch.Clock, true
}

// AnyDated reports whether a mark was learned that was made late, so that it matters when
// values began.
func (t *Table) AnyDated() bool { return t.dated.Load() }

// AnyDelayed reports whether a mark was learned that strikes some time after it was made, so
// that a load may have begun in between.
func (t *Table) AnyDelayed() bool { return t.later.Load() }

// ReadVersion returns the token for an answer that is asked for after this call.
func (t *Table) ReadVersion() Token {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.readVersion
}

// Subscribed forgets everything, and says that from now on every mark that is made is
// passed to Heard. It is also called when something may have been missed.
func (t *Table) Subscribed() { t.forget(true) }

// Forget forgets everything, and says that marks are not heard any more. Judge
// answers Unknown until something is learned that is asked for after this.
func (t *Table) Forget() { t.forget(false) }

func (t *Table) forget(hearing bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hearing = hearing
	t.forgetLocked()
}

func (t *Table) forgetLocked() {
	t.known = false
	t.readVersion++
}

// Reset forgets everything, and what is else never forgotten as well: what was known can't
// be used any more. Whether marks are heard stays as it is.
func (t *Table) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.resetLocked()
}

func (t *Table) resetLocked() {
	t.epoch = Epoch{} // the rest goes when an era is adopted
	t.forgetLocked()
}

// Learn learns an epoch. redisNow is Redis's clock in µs when it answered or a little
// earlier, 0 if nobody knows: then what is pending is taken for due. The rest is as
// with LearnMarks.
func (t *Table) Learn(e Epoch, redisNow int64, asked Token, at int64) (ok bool) {
	if t.covers(&e) {
		return true
	}
	return t.LearnMarks(nil, &Marks{Epoch: e, Now: redisNow}, asked, at)
}

// covers reports whether e says nothing new: the usual case of an epoch that is read
// with every entry.
func (t *Table) covers(e *Epoch) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	k := &t.epoch
	return t.known && k.Era == e.Era && e.Tick <= k.Tick && e.Clock <= k.Clock && e.Floor <= k.Floor &&
		e.All.Hard <= t.all.hard && e.All.Soft <= t.all.soft &&
		(e.All.Next <= t.all.hard || e.All.Dated() && e.All.Next <= t.all.dated && e.All.When <= t.all.before)
}

// LearnMarks learns what Redis answered to a Marks or Mark for these tags. asked was
// taken before asking, and so was the local time at.
//
// If ok is false nothing was learned: the answer is of another era than the known
// one, or nothing is known, and it may be older than what was adopted or forgotten since
// it was asked for; or nothing is known any more, as after Reset. Then ask again. An invalidation is not over until its own
// answer, or a later one, was learned.
func (t *Table) LearnMarks(tags []string, m *Marks, asked Token, at int64) (ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.Epoch.Era == 0 || len(tags) != len(m.Tags) {
		return false
	}
	if m.Now > 0 && !t.epoch.By(Latest(m.Now)) {
		// Redis's clock was set back, by more than Redis believes to be ahead of it: it
		// would take what is known here for nothing, for as long.
		t.resetLocked()
		return false
	}
	if !t.known || t.epoch.Era != m.Epoch.Era {
		if asked != t.readVersion {
			return false
		}
		t.adoptLocked(&m.Epoch)
	}
	t.mergeLocked(tags, m, at)
	return true
}

// ApplyPeer learns from the message of a mark, which was heard at now. What is pending
// strikes later by as long as the message took. If ok is false, the epoch has to be
// asked for. If that is because the message does not belong to the known era, which may
// be a new one, or an old one that came late, then nothing is known until the answer.
func (t *Table) ApplyPeer(tags []string, m *Marks, now int64) (ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.Epoch.Era == 0 || len(tags) != len(m.Tags) || t.epoch.Era != 0 && t.epoch.Era != m.Epoch.Era {
		// Not only refused: an answer that was given before this mark must not be
		// the first that is known, because the mark would be missed.
		t.forgetLocked()
		return false
	}
	if !t.known {
		if !t.hearing {
			return false
		}
		// The first notice of a session may begin its knowledge: what is made
		// after it is heard after it. Were it dropped instead, then
		//
		//  1. the session begins; the epoch is asked for; Redis answers
		//  2. somebody marks a tag; the message is heard, and dropped
		//  3. the answer arrives and is taken for complete
		//
		// It is of the era that was known last, or nothing was known yet. One of
		// another era would be refused above: it may be a late one of an old era, and
		// adopted it would bring back what that era took for good.
		t.adoptLocked(&m.Epoch)
	}
	t.mergeLocked(tags, m, now)
	return true
}

// adoptLocked begins to know e's era.
func (t *Table) adoptLocked(e *Epoch) {
	if t.epoch.Era != e.Era {
		t.epoch, t.all, t.lost = Epoch{Era: e.Era}, mark{}, 0
		clear(t.tags)
	}
	t.known = true
	t.base = max(t.epoch.Clock, e.Clock)
	t.readVersion++
}

// mergeLocked learns m, of the known era.
func (t *Table) mergeLocked(tags []string, m *Marks, at int64) {
	if m.Epoch.All.Dated() || slices.ContainsFunc(m.Tags, func(m Mark) bool { return m.Dated() }) {
		t.dated.Store(true)
	}
	if delayed(m.Epoch.All) || slices.ContainsFunc(m.Tags, delayed) {
		t.later.Store(true)
	}
	e, k := &m.Epoch, &t.epoch
	k.Tick, k.Clock, k.Floor = max(k.Tick, e.Tick), max(k.Clock, e.Clock), max(k.Floor, e.Floor)
	t.all.merge(localMark(e.All, m.Now, at), at)
	for i, name := range tags {
		t.mergeTagLocked(name, tagMark{localMark(m.Tags[i], m.Now, at), e.Clock}, at)
	}
}

func (t *Table) mergeTagLocked(name string, l tagMark, at int64) {
	old, ok := t.tags[name]
	switch {
	case ok:
		old.merge(l.mark, at)
		old.asOf = max(old.asOf, l.asOf)
		t.tags[name] = old
		return
	case l.asOf < t.lost:
		return // it may lack a mark that was heard and forgotten
	}
	if len(t.tags) >= maxTags {
		for victim, m := range t.tags { // any
			t.lost = max(t.lost, m.greatest())
			delete(t.tags, victim)
			break
		}
	}
	// A name that came with a message is part of it.
	t.tags[strings.Clone(name)] = l
}

// Judge judges an entry by its era, stamp and tags, and by when its value began, by Redis's
// clock in µs: 0 if that is not known. Of what is Good or Stale, until is
// when a mark that is pending makes it Gone, as far as is known; the greatest int64 if
// there is none. It does not allocate.
func (t *Table) Judge(era uint64, stamp, began int64, tags []string, now int64) (v Validity, until int64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	switch {
	case !t.known:
		return Unknown, 0
	case era != t.epoch.Era:
		// A later era begins above the clocks of those before, and nobody tells of
		// it: the first that are met of it may be entries. They must not be
		// thrown away as if they were old.
		if era != 0 && stamp > t.epoch.Clock {
			return Unknown, 0
		}
		return Invalid, 0
	case stamp > t.epoch.Clock:
		// The clock has moved on, or this is no stamp of it.
		return Unknown, 0
	case len(tags) > 0 && stamp < t.epoch.Floor:
		return Invalid, 0
	}
	v, until = t.all.judge(stamp, began, now)
	// No mark is later than the clock, pending ones included.
	if v == Invalid || stamp >= t.epoch.Clock {
		return v, until
	}
	complete := t.epoch.Clock
	if t.hearing {
		complete = t.base
	}
	unknown := false
	for _, name := range tags {
		m, ok := t.tags[name]
		unknown = unknown || !ok || m.asOf < complete
		// Also of what is not complete: marks only grow.
		w, end := m.judge(stamp, began, now)
		v, until = max(v, w), min(until, end)
	}
	if unknown && v != Invalid {
		return Unknown, 0
	}
	return v, until
}
