// Package logicalclock tells whether an entry is older than an invalidation that hit it by
// a tag, or as one of all (Clear).
//
// The clock is Redis's ([Epoch]); a [Table] is a copy that may be behind.
// Within an era everything only grows, so whatever is learned, in whatever order, is
// merged by the greater: a late answer can do no harm, and what once made an entry
// Gone makes it so for ever. All care is for the opposite: not to take for complete
// what is not, and to say Good in time only.
//
// What makes the mark of a tag complete depends on whether this process hears.
//
//   - After [Table.Subscribed], every mark that anybody makes reaches [Table.ApplyPeer]. A
//     tag's mark stays complete once it is known as of the session's first epoch, or
//     later: whatever comes after that is heard. The mark of another process may
//     be on its way, and an entry that it hits is Good until it arrives, also when a
//     later one has overtaken it; staleness for as long as a notification takes is
//     what the cache promises. Of its own marks a process has the answer of Redis,
//     and gives it to [Table.LearnMarks] before the invalidation returns.
//   - After [Table.Forget], nothing is heard. A tag's mark that was learned when the
//     clock was c says nothing of marks after c; it is complete only while the
//     known clock is c. Whoever judges learns the epoch first, by reading it together
//     with the entry.
//
// An era is a random number, so two of them have no order. Which is the later one is
// known only of an answer that was asked for after the other was known. So a caller
// takes [Table.ReadVersion] before it asks:
//
//  1. a reader asks, and Redis answers with era A
//  2. Redis loses its data, and begins era B
//  3. a second reader asks; its answer arrives; B is adopted
//  4. the first answer arrives. Adopting A would make every entry Gone, and those of
//     before the loss Good
//
// The same token keeps an answer from before a session, which does not know what the
// process did not hear, from being taken for that session's first.
package logicalclock

import (
	"math"
)

// Validity is what the clock says of an entry.
type Validity uint8

const (
	Unknown Validity = iota // ask Redis
	Valid                   // nothing has been said against it
	Stale                   // to be revalidated; of use where stale values are
	Invalid                 // of no use
)

// mark is a logicalclock.Mark with its deadline in local time.
type mark struct {
	hard, soft int64
	next       int64 // 0: none
	due        int64 // when next strikes, in nanoseconds of the local clock
	dated      int64 // of a mark that was made late; 0: none
	before     int64 // what began later, by Redis's clock in µs, dated does not hit
}

// estimate is by how much, in µs, a process's estimate of Redis's clock may be behind. A mark
// that was made a moment ago is then in the future; its clock has not gone back.
const estimate = 1_000_000

// delayed reports whether m strikes, or struck, some time after it was made.
func delayed(m Mark) bool { return m.Next > m.Hard && !m.Dated() }

// localMark translates m, which Redis told when its own clock was now, to somebody who
// asked at the local time asked. The answer was given later than that, so the
// deadline comes too early by no more than the answer took, and never too late.
func localMark(m Mark, now, asked int64) mark {
	l := mark{hard: m.Hard, soft: m.Soft}
	switch {
	case m.Next <= m.Hard: // none, or it says nothing more
	case m.Dated():
		l.dated, l.before = m.Next, m.When
	case now <= 0 || m.When <= now:
		l.hard = m.Next
	case now < m.Next-estimate:
		// More is left than the mark's whole delay: Redis's clock has gone back. The
		// mark strikes now, for nobody knows how much is really left.
		l.hard = m.Next
	case m.When-now > math.MaxInt64/2000:
		l.next, l.due = m.Next, math.MaxInt64
	default:
		l.next, l.due = m.Next, asked+(m.When-max(now, m.Next))*1000
	}
	return l
}

// strike turns a pending mark that is due into one that holds.
func (m *mark) strike(now int64) {
	if m.due <= now {
		m.hard = max(m.hard, m.next)
		m.next, m.due = 0, 0
	}
}

// merge makes m say what either says. Of two that are pending, all that either hits goes when the first strikes: no entry
// lives longer than either says.
func (m *mark) merge(o mark, now int64) {
	m.strike(now)
	o.strike(now)
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
		// What either hits: two are one, the later with the later time.
		m.dated, m.before = max(m.dated, o.dated), max(m.before, o.before)
	}
	if m.next <= m.before {
		m.next, m.due = 0, 0 // what it would hit, and is not hit now, began after it
	}
}

// judge judges an entry that has the stamp, and whose value began at a time by Redis's
// clock, 0 if that is not known. What is not Gone goes at until.
func (m *mark) judge(stamp, began, now int64) (v Validity, until int64) {
	v, until = Valid, math.MaxInt64
	if stamp < m.soft {
		v = Stale
	}
	if stamp < m.next {
		until = m.due
	}
	if stamp < m.hard || until <= now || stamp < m.dated && began <= m.before {
		return Invalid, 0
	}
	return v, until
}

// greatest is the last time of which m tells.
func (m *mark) greatest() int64 { return max(m.hard, m.soft, m.next, m.dated) }

// JudgeBy judges an entry by one answer of Redis, which was asked, at the local time
// asked, for exactly the entry's tags. The results are those of [Table.Judge].
//
// It is for a reader whose question a Table could not answer. With the answer at hand it
// need not hope that the table stays complete until it has judged, which while others
// keep marking may never happen.
func JudgeBy(m *Marks, era uint64, stamp, began, asked, now int64) (v Validity, until int64) {
	e := &m.Epoch
	// A stamp that is later than the clock is none that it has given: no mark would ever
	// hit it.
	if era != e.Era || stamp > e.Clock || len(m.Tags) > 0 && stamp < e.Floor {
		return Invalid, 0
	}
	l := localMark(e.All, m.Now, asked)
	v, until = l.judge(stamp, began, now)
	for _, t := range m.Tags {
		l = localMark(t, m.Now, asked)
		w, end := l.judge(stamp, began, now)
		v, until = max(v, w), min(until, end)
	}
	return v, until
}
