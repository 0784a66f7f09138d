package logicalclock

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// maxTags is how many tags' marks are kept. Beyond it an arbitrary one is forgotten, and has to
// be requested again.
const maxTags = 10_000

// Token identifies a state of a Table, taken before a request to Redis is sent.
type Token uint64

// Table is a process's copy of the logical clock. All methods are safe for concurrent use.
// Local times are nanoseconds of one monotonic clock.
type Table struct {
	dated atomic.Bool // a dated tombstone was learned
	later atomic.Bool // a delayed tombstone was learned
	state atomic.Pointer[state]

	mu          sync.RWMutex // guards what follows
	readVersion Token        // moved when an epoch is adopted, and when the table is reset or forgets
	known       bool
	subscribed  bool
	// The following fields are kept when the table forgets, for they hold as long as the epoch
	// does: a Redis that has lost a tombstone does not make valid again what this process knew to be
	// invalid. But they are not complete any more.
	epoch Epoch // without All
	all   tombstone
	tags  map[string]tagTombstone
	base  int64 // the clock when this session's knowledge began
	lost  int64 // the latest time in a forgotten tag's mark
}

// tagTombstone is the tombstone of a tag when the clock was asOf.
type tagTombstone struct {
	tombstone
	asOf int64
}

// state is what every load and write asks of a table: a copy of the fields, so that it takes no lock.
// It is replaced before mu is unlocked.
type state struct {
	Known
	known bool
}

// NewTable returns an empty table, which is not subscribed.
func NewTable() *Table {
	t := &Table{tags: map[string]tagTombstone{}}
	t.state.Store(new(state))
	return t
}

// unlock unlocks mu after a change.
func (t *Table) unlock() {
	now := state{Known{Epoch: t.epoch.ID, Tick: t.epoch.Tick, Clock: t.epoch.Clock}, t.known}
	if *t.state.Load() != now {
		kept := now // apart: else now would be on the heap in either case
		t.state.Store(&kept)
	}
	t.mu.Unlock()
}

// Known returns the highest state that was ever seen of the latest epoch, for Redis to detect a
// rollback: it is not forgotten. It returns the zero value if no epoch was seen.
func (t *Table) Known() Known { return t.state.Load().Known }

// Version returns the epoch and the logicalTime of an entry whose load or write begins now. ok is false
// if the clock is not known.
func (t *Table) Version() (epoch uint64, logicalTime int64, ok bool) {
	now := t.state.Load()
	if !now.known {
		return 0, 0, false
	}
	return now.Epoch, now.Clock, true
}

// AnyDated reports whether a dated tombstone was learned, so that it matters when values began.
func (t *Table) AnyDated() bool { return t.dated.Load() }

// AnyDelayed reports whether a tombstone was learned that takes effect some time after it was made,
// so that a load may have begun in between.
func (t *Table) AnyDelayed() bool { return t.later.Load() }

// ReadVersion returns the token for a request that is sent after this call.
func (t *Table) ReadVersion() Token {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.readVersion
}

// Subscribed discards the table's knowledge, and declares that from now on every tombstone that is
// made is passed to ApplyPeer. It is also called when messages may have been missed.
func (t *Table) Subscribed() { t.forget(true) }

// Forget discards the table's knowledge, and declares that tombstones are not received any more.
// Judge returns Unknown until an answer is learned that was requested after this.
func (t *Table) Forget() { t.forget(false) }

func (t *Table) forget(hearing bool) {
	t.mu.Lock()
	defer t.unlock()
	t.subscribed = hearing
	t.forgetLocked()
}

func (t *Table) forgetLocked() {
	t.known = false
	t.readVersion++
}

// Reset discards everything, including what is otherwise kept: it was found to be unusable.
// Whether marks are received stays as it is.
func (t *Table) Reset() {
	t.mu.Lock()
	defer t.unlock()
	t.resetLocked()
}

func (t *Table) resetLocked() {
	t.epoch = Epoch{} // the rest goes when an epoch is adopted
	t.forgetLocked()
}

// Learn learns an epoch. redisNow is Redis's clock in µs at the answer or a little earlier, 0
// if it is not known: then pending tombstones count as due. The rest is as with LearnTombstones.
func (t *Table) Learn(e Epoch, redisNow int64, asked Token, at int64) (ok bool) {
	if t.covers(&e) {
		return true
	}
	return t.LearnTombstones(nil, &Reading{Epoch: e, Now: redisNow}, asked, at)
}

// covers reports whether e contains nothing new: the usual case of an epoch that is read with
// every entry.
func (t *Table) covers(e *Epoch) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	k := &t.epoch
	return t.known && k.ID == e.ID && e.Tick <= k.Tick && e.Clock <= k.Clock && e.LowWatermark <= k.LowWatermark &&
		e.All.Hard <= t.all.hard && e.All.Soft <= t.all.soft &&
		(e.All.Next <= t.all.hard || e.All.Dated() && e.All.Next <= t.all.dated && e.All.When <= t.all.before)
}

// LearnTombstones learns Redis's answer to a Marks or Mark for these tags. asked was taken before
// the request was sent, and so was the local time at.
//
// If ok is false nothing was learned. Either the answer is of another epoch than the known one,
// or no epoch is known, and it may be older than what was adopted or forgotten since the request
// was sent; or the table was reset, as by Reset. Then send another request. An invalidation is
// not complete until its own answer, or a later one, was learned.
func (t *Table) LearnTombstones(tags []string, m *Reading, asked Token, at int64) (ok bool) {
	t.mu.Lock()
	defer t.unlock()
	if m.Epoch.ID == 0 || len(tags) != len(m.Tags) {
		return false
	}
	if m.Now > 0 && !t.epoch.By(Latest(m.Now)) {
		// Redis's clock was set back, so far that this epoch is too far ahead of it: Redis
		// would ignore what is known here, for as long.
		t.resetLocked()
		return false
	}
	if !t.known || t.epoch.ID != m.Epoch.ID {
		if asked != t.readVersion {
			return false
		}
		t.adoptLocked(&m.Epoch)
	}
	t.mergeLocked(tags, m, at)
	return true
}

// ApplyPeer learns from the message of another process's mark, which was received at now. A
// pending tombstone takes effect later by as long as the message took. If ok is false, the epoch has
// to be requested. If that is because the message is not of the known epoch, but of a new one, or
// of an old one and late, then nothing is known until the answer.
func (t *Table) ApplyPeer(tags []string, m *Reading, now int64) (ok bool) {
	t.mu.Lock()
	defer t.unlock()
	if m.Epoch.ID == 0 || len(tags) != len(m.Tags) || t.epoch.ID != 0 && t.epoch.ID != m.Epoch.ID {
		// It is not enough to reject the message: an answer from before this tombstone must not be
		// the first that is learned, because the tombstone would be missed.
		t.forgetLocked()
		return false
	}
	if !t.known {
		if !t.subscribed {
			return false
		}
		// The first message of a session may begin its knowledge: marks made after it are
		// received after it. If it were dropped instead, this could happen:
		//
		//  1. the session begins; the epoch is requested; Redis answers
		//  2. another process marks a tag; the message is received, and dropped
		//  3. the answer arrives and is taken for complete
		//
		// The message is of the epoch that was known last, or none was known yet. One of another
		// epoch was rejected above: it may be a late one of an old epoch, and to adopt it would
		// make valid again what that epoch's end had invalidated for good.
		t.adoptLocked(&m.Epoch)
	}
	t.mergeLocked(tags, m, now)
	return true
}

// adoptLocked makes e's epoch the known one.
func (t *Table) adoptLocked(e *Epoch) {
	if t.epoch.ID != e.ID {
		t.epoch, t.all, t.lost = Epoch{ID: e.ID}, tombstone{}, 0
		clear(t.tags)
	}
	t.known = true
	t.base = max(t.epoch.Clock, e.Clock)
	t.readVersion++
}

// mergeLocked merges m, of the known epoch.
func (t *Table) mergeLocked(tags []string, m *Reading, at int64) {
	if m.Epoch.All.Dated() || slices.ContainsFunc(m.Tags, func(m Tombstone) bool { return m.Dated() }) {
		t.dated.Store(true)
	}
	if delayed(m.Epoch.All) || slices.ContainsFunc(m.Tags, delayed) {
		t.later.Store(true)
	}
	e, k := &m.Epoch, &t.epoch
	k.Tick, k.Clock, k.LowWatermark = max(k.Tick, e.Tick), max(k.Clock, e.Clock), max(k.LowWatermark, e.LowWatermark)
	t.all.merge(localTombstone(e.All, m.Now, at), at)
	for i, name := range tags {
		t.mergeTagLocked(name, tagTombstone{localTombstone(m.Tags[i], m.Now, at), e.Clock}, at)
	}
}

func (t *Table) mergeTagLocked(name string, l tagTombstone, at int64) {
	old, ok := t.tags[name]
	switch {
	case ok:
		old.merge(l.tombstone, at)
		old.asOf = max(old.asOf, l.asOf)
		t.tags[name] = old
		return
	case l.asOf < t.lost:
		return // it may lack a tombstone that was received and forgotten
	}
	if len(t.tags) >= maxTags {
		for victim, m := range t.tags { // an arbitrary one
			t.lost = max(t.lost, m.greatest())
			delete(t.tags, victim)
			break
		}
	}
	// A name that came with a message is a part of the message's string.
	t.tags[strings.Clone(name)] = l
}

// ValidateForeign validates an entry of another program, which has no logical time. stored is
// when it was stored, by Redis's clock in µs, or some time before that; 0 if that is not known. all
// says that tags are all tags that it has; if not, it may have any. The entry is Valid, Invalid or
// Unknown by the state known, in which it is Valid if nothing was invalidated since it was stored
// that may concern it. No time of the logical clock is earlier than Redis's clock was then.
//
// As long as nothing was invalidated in the epoch, all entries are Valid, those from before its
// beginning included: that is when a cache takes the place of another one.
func (t *Table) ValidateForeign(stored int64, tags []string, all bool) (v Validity, known Known) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := &t.epoch
	known = Known{Epoch: e.ID, Tick: e.Tick, Clock: e.Clock}
	untouched := e.Clock == e.LowWatermark && t.all.greatest() == 0
	switch {
	case !t.known:
		return Unknown, known
	case untouched || stored > e.Clock:
		return Valid, known
	case stored <= t.all.greatest() && t.all.greatest() > 0, !all, len(tags) > 0 && stored <= e.LowWatermark:
		return Invalid, known
	}
	complete := e.Clock
	if t.subscribed {
		complete = t.base
	}
	v = Valid
	for _, name := range tags {
		m, ok := t.tags[name]
		switch last := m.greatest(); {
		case last > 0 && stored <= last:
			return Invalid, known
		case !ok || m.asOf < complete:
			v = Unknown
		}
	}
	return v, known
}

// ValidateHeard validates an entry that was Valid by Validate when it was put, by all that was
// learned since: a tombstone that was not received does not count. It is Unknown if one that was
// received has been forgotten that may concern it. The parameters are those of Validate. It does
// not allocate.
func (t *Table) ValidateHeard(epoch uint64, logicalTime, began int64, tags []string, now int64) Validity {
	t.mu.RLock()
	defer t.mu.RUnlock()
	switch {
	case epoch != t.epoch.ID:
		return Invalid
	case logicalTime > t.epoch.Clock:
		return Unknown
	case len(tags) > 0 && logicalTime < t.epoch.LowWatermark:
		return Invalid
	}
	v, _ := t.all.judge(logicalTime, began, now)
	if v == Invalid || logicalTime >= t.epoch.Clock {
		return v
	}
	for _, name := range tags {
		m, ok := t.tags[name]
		if !ok && logicalTime < t.lost {
			return Unknown
		}
		w, _ := m.judge(logicalTime, began, now)
		v = max(v, w)
	}
	return v
}

// Validate validates an entry by its epoch, logicalTime and tags, and by when its value began, by Redis's
// clock in µs: 0 if that is not known. For a Valid or Stale entry, until is when a pending tombstone
// makes it Invalid, as far as is known; the greatest int64 if there is none. It does not
// allocate.
func (t *Table) Validate(epoch uint64, logicalTime, began int64, tags []string, now int64) (v Validity, until int64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	switch {
	case !t.known:
		return Unknown, 0
	case epoch != t.epoch.ID:
		// A later epoch begins above the clocks of earlier ones, and is not announced: the first
		// records that are seen of it may be entries. They must not be discarded as if they
		// were old.
		if epoch != 0 && logicalTime > t.epoch.Clock {
			return Unknown, 0
		}
		return Invalid, 0
	case logicalTime > t.epoch.Clock:
		// The clock has moved on, or it has not issued this logicalTime.
		return Unknown, 0
	case len(tags) > 0 && logicalTime < t.epoch.LowWatermark:
		return Invalid, 0
	}
	v, until = t.all.judge(logicalTime, began, now)
	// No mark is later than the clock, pending ones included.
	if v == Invalid || logicalTime >= t.epoch.Clock {
		return v, until
	}
	complete := t.epoch.Clock
	if t.subscribed {
		complete = t.base
	}
	unknown := false
	for _, name := range tags {
		m, ok := t.tags[name]
		unknown = unknown || !ok || m.asOf < complete
		// Incomplete marks count as well: marks only grow.
		w, end := m.judge(logicalTime, began, now)
		v, until = max(v, w), min(until, end)
	}
	if unknown && v != Invalid {
		return Unknown, 0
	}
	return v, until
}
