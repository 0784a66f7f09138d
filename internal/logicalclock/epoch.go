package logicalclock

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Epoch is the logical clock of a cache, and what it says of all entries. It tells
// in O(1) whether an entry is older than an invalidation that hit any number of
// entries: by tag, or all of them (Clear).
//
// An entry carries the era and the clock that its writer knew before it began
// (frame.Header's Era and Stamp). Times are handed out by Redis: each is greater
// than all before it, and at least the microseconds of Redis's clock.
//
// What Redis forgets, by eviction, a restart or a failover, costs misses and never
// truth: without its Epoch a cache begins another Era, to which no entry of the old
// one belongs; without its tags the Floor rises, below which no entry with tags is
// good.
//
// An epoch that says what can't be is none, as if it were lost: no time of a mark, nor
// the floor, is later than the clock, and neither the tick nor the clock is more than a
// day later than Redis's clock (maxAhead). What is believed can therefore be outlived by
// Redis's own clock: no bytes in the place of an epoch keep a cache from going on.
type Epoch struct {
	Era   uint64 // of 53 bits; not 0
	Tick  int64  // the last time that anybody touched the epoch
	Clock int64  // the last time of a mark, or of the era's beginning
	Floor int64  // an entry with tags that is stamped earlier is gone
	All   Mark   // what has been said of every entry
}

// Mark is what has been said of a tag, or of all entries.
//
// Next and When say one of two things. Where Next is the lesser, or both are the same, a
// delayed mark is pending: at the time When an entry that is stamped earlier than Next is
// gone. Where it is the greater, a mark was made late: it is of an invalidation of the time
// When, and an entry that is stamped earlier than Next is gone unless its value began after
// When. A program that does not tell the two apart takes the second for a delayed mark that
// is due, and more for gone than has to be.
type Mark struct {
	Hard int64 // an entry that is stamped earlier is gone
	Soft int64 // an entry that is stamped earlier is stale
	Next int64 // 0: none
	When int64 // Redis's clock, µs
}

// Dated reports whether Next and When are of a mark that was made late.
func (m *Mark) Dated() bool { return 0 < m.When && m.When < m.Next }

// Known is what a process knows of an epoch: the latest that it has seen. It lets
// Redis notice that it has gone back in time: see [store.Store.Marks]. The zero value knows
// nothing.
type Known struct {
	Era   uint64
	Tick  int64
	Clock int64
}

// Marks is an epoch as Redis knows it, with what has been said of tags.
type Marks struct {
	Epoch Epoch
	Tags  []Mark // in the order in which they were asked for
	Now   int64  // Redis's clock, µs
}

// Mode is what a NewMark makes of entries.
type Mode uint8

const (
	Hard    Mode = iota // gone
	Soft                // stale
	Delayed             // gone after NewMark.Delay
)

// NewMark marks tags, or all entries if there are none.
type NewMark struct {
	Tags  []string
	Mode  Mode
	Delay int64 // µs
	// Before, with Hard, is the time by Redis's clock, in µs, of each tag's invalidation, or
	// of the one of everything, if the mark is made later: what began after it is to stay. 0
	// is not known. Nil: now.
	Before []int64
	// Message is published on Channel, if that is not "", when it is done, followed by the
	// text of the new marks as [Marks.AppendText] writes it.
	Channel, Message string
}

func (n *NewMark) Check() error {
	if n.Mode > Delayed || n.Delay < 0 || n.Delay >= maxDelay {
		return fmt.Errorf("logicalclock: a mark of mode %d with a delay of %d µs", n.Mode, n.Delay)
	}
	if n.Before == nil {
		return nil
	}
	if n.Mode != Hard || len(n.Before) != max(len(n.Tags), 1) {
		return fmt.Errorf("logicalclock: a mark of mode %d of %d tags and %d times", n.Mode, len(n.Tags), len(n.Before))
	}
	for _, at := range n.Before {
		if at < 0 || at >= numberLimit {
			return fmt.Errorf("logicalclock: a mark of the time %d", at)
		}
	}
	return nil
}

// before is the time of the i-th tag's invalidation, 0 if that is now.
func (n *NewMark) before(i int) int64 {
	if n.Before == nil {
		return 0
	}
	return n.Before[i]
}

// ErrNoClock says that a script that has run answered what can't be said of a logical clock.
var ErrNoClock = errors.New("logicalclock: a script answered what is no logical clock")

const (
	// numberLimit is 1 more than the greatest number that is exact in Lua, like all
	// below it. As microseconds of Unix time it is the year 2255.
	numberLimit = 1 << 53

	// maxDelay is 142 years: a time from now that is still less than numberLimit.
	maxDelay = 1 << 52

	// LostFor is how far an epoch may go back, in µs of its Tick, without beginning
	// a new era. What was lost in less time is told again by those who wrote it; more
	// means that Redis came back with an old data set.
	LostFor = 10_000_000

	// maxAhead is how far, in µs, the tick and the clock of an epoch may be ahead of
	// Redis's clock. Marks move them on by at least 1 each, and a clock of Redis that
	// was set back leaves them behind: by hours, if it kept the wrong zone. More is
	// not believed. A clock that is set back by more than a day therefore costs all
	// entries, once.
	MaxAhead = 24 * 3600 * 1_000_000

	// aheadSlack is how much further ahead they may be where they are compared with an
	// estimate of Redis's clock, which may be behind: what the scripts have accepted
	// must be accepted everywhere.
	aheadSlack = 600 * 1_000_000

	// ClockLife is how long the keys of a logical clock live that is not in use.
	// Processes renew it; see [redisstore.Redis.Marks] and [store.Names.Renewal].
	ClockLife = 100 * 24 * time.Hour
)

// Latest is the latest tick or clock that is believed when Redis's clock is about now.
func Latest(now int64) int64 { return now + MaxAhead + aheadSlack }

// sound reports whether no time is later than the clock.
func (e *Epoch) Sound() bool {
	return e.Era != 0 && max(e.Floor, e.All.Last()) <= e.Clock
}

// By reports whether neither the tick nor the clock is later than latest.
func (e *Epoch) By(latest int64) bool { return max(e.Tick, e.Clock) <= latest }

// by is k, if it is not later than latest, or else nothing.
func (k Known) by(latest int64) Known {
	if max(k.Tick, k.Clock) > latest {
		return Known{}
	}
	return k
}

// MaxTags is how many tags are remembered. Beyond it, old ones are forgotten and the
// floor rises. It is a variable for tests.
var MaxTags = 20_000

// SetMaxTags sets MaxTags, and returns what undoes it.
func SetMaxTags(n int) (restore func()) {
	old := MaxTags
	MaxTags = n
	return func() { MaxTags = old }
}

// tagSample is how many tags are looked at for one that is to be forgotten.
const TagSample = 16

// stored is what a call of Marks or Mark finds in Redis.
type stored struct {
	Epoch
	ok    bool // false: there is none, or something foreign in its place
	tags  bool // the epoch says that there is a hash of tags
	asked bool // the call is about tags; if not, the hash is not looked at
	hash  bool // there is one, and it is of this era
}

// resume returns the epoch that a call goes on with, and whether the hash of tags is
// a part of it; if not, the hash must go. era is that of a new epoch, should one have
// to begin.
//
// The epoch may be gone (evicted, flushed, lost with the server), or Redis may have
// gone back to an older one (a failover, or a restart with an old file), which the
// caller messages by what it knows. Ticks go on from era to era, so that an older era
// that comes back is noticed as well. Clocks never fall below what the caller knows.
//
// If the hash of tags is gone alone, nothing is known of any tag: the floor rises to
// a new time, below which there are all stamps that were given out before.
//
// A call that is about no tag touches one key only; see marksScript. It leaves the hash as
// it is, and what the epoch says of it.
func (s *stored) resume(known Known, now int64, era uint64) (e Epoch, tags bool) {
	e, known = s.Epoch, known.by(now+MaxAhead)
	if !s.ok || !e.Sound() || !e.By(now+MaxAhead) || known.Tick-e.Tick > LostFor {
		clock := max(now, known.Clock+1)
		e = Epoch{Era: era, Clock: clock, Floor: clock}
	} else {
		if e.Era == known.Era {
			e.Clock = max(e.Clock, known.Clock)
		}
		if tags = s.tags && (s.hash || !s.asked); s.tags && !tags {
			e.Clock = max(e.Clock+1, now)
			e.Floor = e.Clock
		}
	}
	e.Tick = max(e.Tick+1, known.Tick+1, now)
	return e, tags
}

// goneBack is by how much, in µs, the last time that anybody touched an epoch is ahead of
// Redis's clock if that has gone back: then its times say nothing of what was before what.
const GoneBack = 1_000_000

// add says of m what n says, at the logical time t. before is the time of the invalidation
// if the mark is made later, else 0.
//
// There is one Next. Of two dated marks it is the later mark with the later time, which
// hits what either does. A pending mark that a dated one comes to is dated, too: its own
// time is that of Redis's clock then, or later. A pending one that comes to a dated one
// hits what that has spared, though later; it goes now.
func (m Mark) add(n *NewMark, before, t, now int64) Mark {
	dated := m.Dated()
	if m.Next > 0 && !dated && m.When <= now {
		m.Hard, m.Next, m.When = max(m.Hard, m.Next), 0, 0
	}
	if dated && n.Mode == Delayed {
		m.Hard, m.Next, m.When = max(m.Hard, m.Next), 0, 0
	}
	switch {
	case n.Mode == Hard && 0 < before && before < t:
		if m.Next > 0 && !dated {
			m.When = m.Next
		}
		m.Next, m.When = t, max(m.When, before)
	case n.Mode == Hard:
		m.Hard, m.Next, m.When = t, 0, 0
	case n.Mode == Soft:
		m.Soft = t
	default:
		when := now + n.Delay
		if m.Next > 0 {
			when = min(when, m.When)
		}
		if m.Next, m.When = t, when; when < t { // the logical clock is ahead
			m.Hard, m.Next, m.When = t, 0, 0
		}
	}
	return m
}

// last is the time of the last thing that has been said. Of entries with tags that
// are not below the floor, a mark with no later time says nothing.
func (m Mark) Last() int64 { return max(m.Hard, m.Soft, m.Next) }

// ParseEpoch reads what is stored under Names.Epoch. ok is false for anything else, but for
// what only Redis's clock tells: see [Epoch.By].
func ParseEpoch(raw []byte) (e Epoch, ok bool) {
	e, _, ok = ReadEpoch(raw)
	return e, ok && e.Sound()
}

// ReadEpoch reads an epoch, which is stored as text: "e1" and nine decimal numbers, the last of which is 1
// where there is a hash of tags, else 0.
func ReadEpoch[T string | []byte](s T) (e Epoch, tags bool, ok bool) {
	var n [9]int64
	if !Numbers(s, "e1", n[:]) || n[0] == 0 || n[8] > 1 {
		return Epoch{}, false, false
	}
	e = Epoch{Era: uint64(n[0]), Tick: n[1], Clock: n[2], Floor: n[3], All: Mark{n[4], n[5], n[6], n[7]}}
	return e, n[8] == 1, true
}

func (e *Epoch) text(tags bool) string {
	last := int64(0)
	if tags {
		last = 1
	}
	return "e1" + Decimals(int64(e.Era), e.Tick, e.Clock, e.Floor, e.All.Hard, e.All.Soft, e.All.Next, e.All.When, last)
}

// ReadMark reads a mark, which is stored as four decimal numbers after "m1".
func ReadMark(s string) (Mark, bool) {
	var n [4]int64
	if !Numbers(s, "m1", n[:]) {
		return Mark{}, false
	}
	return Mark{n[0], n[1], n[2], n[3]}, true
}

func (m Mark) Text() string { return "m1" + Decimals(m.Hard, m.Soft, m.Next, m.When) }

// numbers reads decimal numbers, none negative and all written as strconv does, each
// after a space, behind a head. They must be the whole of s.
func Numbers[T string | []byte](s T, head string, out []int64) bool {
	if len(s) < len(head) || string(s[:len(head)]) != head {
		return false
	}
	at := len(head)
	for i := range out {
		if at == len(s) || s[at] != ' ' {
			return false
		}
		at++
		first, v := at, int64(0)
		for ; at < len(s) && '0' <= s[at] && s[at] <= '9'; at++ {
			if v = 10*v + int64(s[at]-'0'); v >= numberLimit {
				return false
			}
		}
		if at == first || s[first] == '0' && at > first+1 {
			return false
		}
		out[i] = v
	}
	return at == len(s)
}

func Decimals(vals ...int64) string {
	var b []byte
	for _, v := range vals {
		b = append(b, ' ')
		b = strconv.AppendInt(b, v, 10)
	}
	return string(b)
}

// AppendText appends the text of m: Redis's clock, the epoch, and the marks of the
// tags, a line each.
func (m *Marks) AppendText(dst []byte) []byte {
	dst = strconv.AppendInt(dst, m.Now, 10)
	dst = append(dst, '\n')
	dst = append(dst, m.Epoch.text(false)...)
	for _, t := range m.Tags {
		dst = append(dst, '\n')
		dst = append(dst, t.Text()...)
	}
	return dst
}

// ParseMarks reads what [Marks.AppendText] has written, for that many tags. It refuses what
// can't be, as measured by the clock in it.
func ParseMarks(s string, tags int) (m Marks, ok bool) {
	lines := strings.Split(s, "\n")
	if len(lines) != 2+tags {
		return Marks{}, false
	}
	var now [1]int64
	if !Numbers(" "+lines[0], "", now[:]) {
		return Marks{}, false
	}
	m.Now = now[0]
	e, hash, ok := ReadEpoch(lines[1])
	if !ok || hash || !e.Sound() || !e.By(Latest(m.Now)) {
		return Marks{}, false
	}
	m.Epoch = e
	for _, line := range lines[2:] {
		t, ok := ReadMark(line)
		if !ok || t.Last() > e.Clock {
			return Marks{}, false
		}
		m.Tags = append(m.Tags, t)
	}
	return m, true
}

// newEra returns a number that no other era has had: of 53 bits, and not 0.
func NewEra() uint64 {
	for {
		if era := rand.Uint64() >> 11; era != 0 {
			return era
		}
	}
}
