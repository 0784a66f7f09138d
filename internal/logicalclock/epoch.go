package logicalclock

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Epoch is the logical clock of a cache, with the tombstone of all entries. It tells in O(1)
// whether an entry is older than an invalidation of any number of entries: by tag, or of
// everything (Clear).
//
// An entry carries the epoch and the clock that its writer knew before it began (frame.Header's
// Epoch and LogicalTime). Redis issues the times: each is greater than all before it, and at least the
// microseconds of Redis's clock.
//
// Data that Redis loses, by eviction, a restart or a failover, costs misses, never correctness:
// without its Epoch a cache begins another epoch, to which no entry of the old one belongs;
// without the tags' tombstones the Floor rises, below which no entry with tags is valid.
//
// An epoch with impossible values counts as missing: no time of a tombstone, nor the floor, may
// be later than the clock, and neither the tick nor the clock may be more than a day later than
// Redis's clock (MaxAhead). So Redis's own clock catches up with whatever is accepted: no bytes
// in the place of an epoch keep a cache from going on.
type Epoch struct {
	ID           uint64    // of 53 bits; not 0
	Tick         int64     // the last time that any process touched the epoch
	Clock        int64     // the time of the last tombstone, or of the epoch's beginning
	LowWatermark int64     // an entry with tags that is stamped earlier is invalid
	All          Tombstone // the tombstone of all entries
}

// Tombstone is the tombstone of a tag, or of all entries.
//
// Next and When have one of two meanings. If Next is the lesser, or both are equal, a delayed
// invalidation is pending: at the time When an entry that is stamped earlier than Next becomes
// invalid. If Next is the greater, the tombstone is dated: it was made late, for an invalidation
// requested at the time When, and an entry that is stamped earlier than Next is invalid unless
// its value began after When. A program that does not distinguish the two takes the second for
// a delayed invalidation that is due, and invalidates more than necessary.
type Tombstone struct {
	Hard int64 // an entry that is stamped earlier is invalid
	Soft int64 // an entry that is stamped earlier is stale
	Next int64 // 0: none
	When int64 // Redis's clock, µs
}

// Dated reports whether the tombstone was made late, so that Next and When belong to an earlier
// invalidation.
func (m *Tombstone) Dated() bool { return 0 < m.When && m.When < m.Next }

// Known is the latest state of an epoch that a process has seen. It lets Redis detect that it
// has gone back in time: see [store.Store.ReadClock]. The zero value means that nothing is known.
type Known struct {
	Epoch uint64
	Tick  int64
	Clock int64
}

// Reading is Redis's answer: the epoch, and the tombstones of the requested tags.
type Reading struct {
	Epoch Epoch
	Tags  []Tombstone // in the order of the request
	Now   int64       // Redis's clock, µs
	Found int64       // the tick before this request; 0: there was no valid epoch. A message does not have it
}

// Repaired reports whether Redis had gone back from what was known before the request, in the same
// epoch. The request has moved the tick on, so that later ones do not show it.
func (m *Reading) Repaired(known Known) bool {
	return m.Epoch.ID == known.Epoch && m.Found < known.Tick
}

// Mode is the effect of a NewTombstone on entries.
type Mode uint8

const (
	Hard    Mode = iota // invalid
	Soft                // stale
	Delayed             // invalid after NewTombstone.Delay
)

// NewTombstone invalidates tags, or all entries if there are none.
type NewTombstone struct {
	Tags  []string
	Mode  Mode
	Delay int64 // µs
	// Before, with Hard, holds the times at which the invalidation of each tag, or of
	// everything, was requested, by Redis's clock in µs, if the tombstone is made later: what began
	// after that stays. 0 means unknown. Nil: now.
	Before []int64
	// Message is published on Channel, if that is not "", after the tombstone is made, followed by
	// the text of the new tombstones as [Reading.AppendText] writes it.
	Channel, Message string
}

func (n *NewTombstone) Check() error {
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

// before returns the time of the i-th tag's invalidation, 0 if that is now.
func (n *NewTombstone) before(i int) int64 {
	if n.Before == nil {
		return 0
	}
	return n.Before[i]
}

// ErrNoClock means that a script has run, but its answer is not a valid logical clock.
var ErrNoClock = errors.New("logicalclock: a script answered what is no logical clock")

const (
	// numberLimit is 1 more than the greatest number up to which all integers are exact in Lua.
	// As microseconds of Unix time it is the year 2255.
	numberLimit = 1 << 53

	// maxDelay is 142 years: a time from now that is still less than numberLimit.
	maxDelay = 1 << 52

	// LostFor is how far an epoch may go back, in µs of its Tick, without beginning a new epoch.
	// Writes lost in less time are replayed by the processes that made them; more means that
	// Redis came back with an old data set.
	LostFor = 10_000_000

	// MaxAhead is how far, in µs, the tick and the clock of an epoch may be ahead of Redis's
	// clock. Marks move them on by at least 1 each, and a clock of Redis that is set back
	// leaves them ahead: by hours, if it was in the wrong time zone. More is not accepted.
	// Setting the clock back by more than a day therefore invalidates all entries, once.
	MaxAhead = 24 * 3600 * 1_000_000

	// aheadSlack is how much further ahead they may be where they are compared with an estimate
	// of Redis's clock, which may be behind: what the scripts have accepted must be accepted
	// everywhere.
	aheadSlack = 600 * 1_000_000

	// ClockLife is the TTL of the keys of a logical clock. Processes that use it renew it, see
	// [redisstore.Redis.ReadClock], and package coherence extends it once an hour.
	ClockLife = 100 * 24 * time.Hour
)

// Latest returns the latest tick or clock that is accepted when Redis's clock is about now.
func Latest(now int64) int64 { return now + MaxAhead + aheadSlack }

// Sound reports whether the epoch is set and no time is later than the clock.
func (e *Epoch) Sound() bool {
	return e.ID != 0 && max(e.LowWatermark, e.All.Last()) <= e.Clock
}

// By reports whether neither the tick nor the clock is later than latest.
func (e *Epoch) By(latest int64) bool { return max(e.Tick, e.Clock) <= latest }

// by returns k if it is not later than latest, otherwise the zero value.
func (k Known) by(latest int64) Known {
	if max(k.Tick, k.Clock) > latest {
		return Known{}
	}
	return k
}

// MaxTags is how many tags' marks are kept. Beyond it, old ones are forgotten and the floor
// rises. It is a variable for tests.
var MaxTags = 20_000

// SetMaxTags sets MaxTags, and returns a function that restores it.
func SetMaxTags(n int) (restore func()) {
	old := MaxTags
	MaxTags = n
	return func() { MaxTags = old }
}

// TagSample is how many tags are examined to forget one.
const TagSample = 16

// stored is the state that a call of Marks or Mark finds in Redis.
type stored struct {
	Epoch
	ok    bool // false: it is missing, or foreign data is in its place
	tags  bool // the epoch says that there is a hash of tags
	asked bool // the call is about tags; if not, the hash is not read
	hash  bool // the hash exists, and it is of this epoch
}

// resume returns the epoch that a call continues with, and whether the hash of tags belongs to
// it; if not, the hash must be deleted. id is that of a new epoch, should one have to begin.
//
// The epoch may be missing (evicted, flushed, lost with the server), or Redis may have gone
// back to an older one (a failover, or a restart with an old file), which is detected by what
// the caller knows. Ticks continue from epoch to epoch, so that the return of an older epoch is
// detected as well. Clocks never fall below what the caller knows.
//
// If only the hash of tags is missing, no tag's mark is known: the floor rises to a new time,
// which is greater than all stamps issued before.
//
// A call without tags touches one key only; see readClockScript in internal/redisstore. It leaves
// the hash, and the epoch's flag for it, as they are.
func (s *stored) resume(known Known, now int64, id uint64) (e Epoch, tags bool) {
	e, known = s.Epoch, known.by(now+MaxAhead)
	if !s.ok || !e.Sound() || !e.By(now+MaxAhead) || known.Tick-e.Tick > LostFor {
		clock := max(now, known.Clock+1)
		e = Epoch{ID: id, Clock: clock, LowWatermark: clock}
	} else {
		if e.ID == known.Epoch {
			e.Clock = max(e.Clock, known.Clock)
		}
		if tags = s.tags && (s.hash || !s.asked); s.tags && !tags {
			e.Clock = max(e.Clock+1, now)
			e.LowWatermark = e.Clock
		}
	}
	e.Tick = max(e.Tick+1, known.Tick+1, now)
	return e, tags
}

// GoneBack is by how much, in µs, the last tick of an epoch is ahead of Redis's clock if that
// clock was set back: then its times do not show which event came first.
const GoneBack = 1_000_000

// add returns m with n added, at the logical time t. before is the time of the invalidation if
// the tombstone is made later, else 0.
//
// There is only one Next. Two dated tombstones become the later tombstone with the later time, which
// invalidates what either does. A pending tombstone to which a dated one is added becomes dated, too:
// its time is its own Next, which is that of Redis's clock then, or later. A pending tombstone that
// is added to a dated one would invalidate what that one spares, though later: all of it is
// invalidated now.
func (m Tombstone) add(n *NewTombstone, before, t, now int64) Tombstone {
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

// Last returns the latest time in m. A tombstone with no later time than the floor says nothing
// about entries with tags that are not below the floor.
func (m Tombstone) Last() int64 { return max(m.Hard, m.Soft, m.Next) }

// ParseEpoch parses the record stored under Names.Epoch. ok is false for anything else, except
// for times that only Redis's clock shows to be impossible: see [Epoch.By].
func ParseEpoch(raw []byte) (e Epoch, ok bool) {
	e, _, ok = ReadEpoch(raw)
	return e, ok && e.Sound()
}

// ReadEpoch parses an epoch's text: "e1" and nine decimal numbers, the last of which is 1 if
// there is a hash of tags, else 0.
func ReadEpoch[T string | []byte](s T) (e Epoch, tags bool, ok bool) {
	var n [9]int64
	if !Numbers(s, "e1", n[:]) || n[0] == 0 || n[8] > 1 {
		return Epoch{}, false, false
	}
	e = Epoch{ID: uint64(n[0]), Tick: n[1], Clock: n[2], LowWatermark: n[3], All: Tombstone{n[4], n[5], n[6], n[7]}}
	return e, n[8] == 1, true
}

func (e *Epoch) text(tags bool) string {
	last := int64(0)
	if tags {
		last = 1
	}
	return "e1" + Decimals(int64(e.ID), e.Tick, e.Clock, e.LowWatermark, e.All.Hard, e.All.Soft, e.All.Next, e.All.When, last)
}

// ReadTombstone parses a tombstone's text: "m1" and four decimal numbers.
func ReadTombstone(s string) (Tombstone, bool) {
	var n [4]int64
	if !Numbers(s, "m1", n[:]) {
		return Tombstone{}, false
	}
	return Tombstone{n[0], n[1], n[2], n[3]}, true
}

func (m Tombstone) Text() string { return "m1" + Decimals(m.Hard, m.Soft, m.Next, m.When) }

// Numbers parses decimal numbers, none negative and all written as strconv does, each after a
// space, behind head. They must be the whole of s.
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

// AppendText appends the text of m: Redis's clock, the epoch, and the tombstones of the
// tags, a line each.
func (m *Reading) AppendText(dst []byte) []byte {
	dst = strconv.AppendInt(dst, m.Now, 10)
	dst = append(dst, '\n')
	dst = append(dst, m.Epoch.text(false)...)
	for _, t := range m.Tags {
		dst = append(dst, '\n')
		dst = append(dst, t.Text()...)
	}
	return dst
}

// ParseReading parses the text of [Reading.AppendText] for that many tags. It rejects values that
// are impossible by the time of Redis's clock in the text.
func ParseReading(s string, tags int) (m Reading, ok bool) {
	lines := strings.Split(s, "\n")
	if len(lines) != 2+tags {
		return Reading{}, false
	}
	var now [1]int64
	if !Numbers(" "+lines[0], "", now[:]) {
		return Reading{}, false
	}
	m.Now = now[0]
	e, hash, ok := ReadEpoch(lines[1])
	if !ok || hash || !e.Sound() || !e.By(Latest(m.Now)) {
		return Reading{}, false
	}
	m.Epoch = e
	for _, line := range lines[2:] {
		t, ok := ReadTombstone(line)
		if !ok || t.Last() > e.Clock {
			return Reading{}, false
		}
		m.Tags = append(m.Tags, t)
	}
	return m, true
}

// NewEpochID returns a random epoch, which no other one has: of 53 bits, and not 0.
func NewEpochID() uint64 {
	for {
		if epoch := rand.Uint64() >> 11; epoch != 0 {
			return epoch
		}
	}
}
