// Package logicalclock determines whether an entry is older than an invalidation of one of its
// tags, or of everything (Clear).
//
// The clock is Redis's ([Epoch]); a [Table] is a copy that may be behind. Within an epoch
// everything only grows, so whatever is learned, in whatever order, is merged by the maximum: a
// late answer does no harm, and an entry that was Invalid once is Invalid for ever. All care is
// for the opposite: not to take incomplete knowledge for complete, and to return Valid only
// while it holds.
//
// Whether the tombstone of a tag is complete depends on whether this process receives messages.
//
//   - After [Table.Subscribed], every tombstone that any process makes reaches [Table.ApplyPeer]. A
//     tag's mark stays complete once it is known as of the session's first epoch, or later:
//     every later tombstone is received. The tombstone of another process may be in transit, and an entry
//     that it invalidates is Valid until it arrives, also when a later one has overtaken it;
//     staleness for as long as a message takes is what the cache promises. For its own tombstones a
//     process has the answer of Redis, and passes it to [Table.LearnTombstones] before the
//     invalidation returns.
//   - After [Table.Forget], no messages are received. A tag's mark that was learned when the
//     clock was c does not include marks after c; it is complete only while the known clock is
//     c. A caller of [Table.Validate] learns the epoch first, by reading it together with the
//     entry.
//
// An epoch is a random number, so two of them have no order. An answer is known to be of the
// later epoch only if it was requested after the other one was known. So a caller takes
// [Table.ReadVersion] before it sends a request:
//
//  1. a reader sends a request, and Redis answers with epoch A
//  2. Redis loses its data, and begins epoch B
//  3. a second reader sends a request; its answer arrives; B is adopted
//  4. the first answer arrives. To adopt A would make every entry Invalid, and those from
//     before the loss Valid
//
// The same token keeps an answer from before a session, which lacks the tombstones that the process
// did not receive, from being taken for that session's first.
package logicalclock

import (
	"math"
)

// Validity is the clock's verdict on an entry.
type Validity uint8

const (
	Unknown Validity = iota // ask Redis
	Valid                   // no tombstone affects it
	Stale                   // to be revalidated; usable where stale values are allowed
	Invalid                 // not usable
)

// tombstone is a Mark with its deadline in local time.
type tombstone struct {
	hard, soft int64
	next       int64 // 0: none
	due        int64 // when next takes effect, in nanoseconds of the local clock
	dated      int64 // of a dated tombstone; 0: none
	before     int64 // values that began later, by Redis's clock in µs, are not affected by dated
}

// estimate is by how much, in µs, a process's estimate of Redis's clock may be behind. A tombstone
// that was made a moment ago is then in the future, although Redis's clock was not set back.
const estimate = 1_000_000

// delayed reports whether m takes effect, or took effect, some time after it was made.
func delayed(m Tombstone) bool { return m.Next > m.Hard && !m.Dated() }

// localTombstone converts m, which Redis returned when its own clock was now, for a process that
// sent the request at the local time asked. The answer was given later than that, so the
// deadline comes too early by no more than the answer took, and never too late.
func localTombstone(m Tombstone, now, asked int64) tombstone {
	l := tombstone{hard: m.Hard, soft: m.Soft}
	switch {
	case m.Next <= m.Hard: // no pending tombstone, or one without effect
	case m.Dated():
		l.dated, l.before = m.Next, m.When
	case now <= 0 || m.When <= now:
		l.hard = m.Next
	case now < m.Next-estimate:
		// More than the tombstone's whole delay is left: Redis's clock was set back. The tombstone takes
		// effect now, since the remaining time is not known.
		l.hard = m.Next
	case m.When-now > math.MaxInt64/2000:
		l.next, l.due = m.Next, math.MaxInt64
	default:
		l.next, l.due = m.Next, asked+(m.When-max(now, m.Next))*1000
	}
	return l
}

// apply makes a pending tombstone effective if it is due.
func (m *tombstone) apply(now int64) {
	if m.due <= now {
		m.hard = max(m.hard, m.next)
		m.next, m.due = 0, 0
	}
}

// merge merges o into m. Of two pending tombstones, all entries that either affects become invalid
// when the first takes effect: no entry lives longer than either allows.
func (m *tombstone) merge(o tombstone, now int64) {
	m.apply(now)
	o.apply(now)
	m.hard, m.soft = max(m.hard, o.hard), max(m.soft, o.soft)
	switch {
	case o.next == 0:
	case m.next == 0:
		m.next, m.due = o.next, o.due
	default:
		m.next, m.due = max(m.next, o.next), min(m.due, o.due)
	}
	if m.next <= m.hard {
		m.next, m.due = 0, 0
	}
	if m.dated <= m.hard {
		m.dated, m.before = 0, 0
	}
	if o.dated > m.hard {
		// Two dated tombstones become one that affects what either does: the later tombstone with the
		// later time.
		m.dated, m.before = max(m.dated, o.dated), max(m.before, o.before)
	}
	if m.next <= m.before {
		m.next, m.due = 0, 0 // the values that it would affect, and dated does not, began after it
	}
}

// judge validates an entry that has the logicalTime, and whose value began at a time by Redis's
// clock, 0 if that is not known. An entry that is not Invalid becomes Invalid at until.
func (m *tombstone) judge(logicalTime, began, now int64) (v Validity, until int64) {
	v, until = Valid, math.MaxInt64
	if logicalTime < m.soft {
		v = Stale
	}
	if logicalTime < m.next {
		until = m.due
	}
	if logicalTime < m.hard || until <= now || logicalTime < m.dated && began <= m.before {
		return Invalid, 0
	}
	return v, until
}

// greatest returns the latest time in m.
func (m *tombstone) greatest() int64 { return max(m.hard, m.soft, m.next, m.dated) }

// ValidateBy validates an entry against one answer of Redis, which was requested, at the local
// time asked, for exactly the entry's tags. The results are those of [Table.Validate].
//
// It is for a reader for which a Table returned Unknown. With the answer at hand the reader
// need not rely on the table to stay complete until it has judged, which may never happen while
// other processes keep marking.
func ValidateBy(m *Reading, epoch uint64, logicalTime, began, asked, now int64) (v Validity, until int64) {
	e := &m.Epoch
	// The clock has not issued a logicalTime that is later than itself: no tombstone would ever affect the
	// entry.
	if epoch != e.ID || logicalTime > e.Clock || len(m.Tags) > 0 && logicalTime < e.LowWatermark {
		return Invalid, 0
	}
	l := localTombstone(e.All, m.Now, asked)
	v, until = l.judge(logicalTime, began, now)
	for _, t := range m.Tags {
		l = localTombstone(t, m.Now, asked)
		w, end := l.judge(logicalTime, began, now)
		v, until = max(v, w), min(until, end)
	}
	return v, until
}
