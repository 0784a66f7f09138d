package logicalclock

import (
	"fmt"
	"math"
	"testing"
)

const epoch = 7

// at is an answer of Redis at a clock, with marks for tags.
func at(clock int64, tags ...Tombstone) *Reading {
	return &Reading{Epoch: Epoch{ID: epoch, Tick: clock, Clock: clock}, Tags: tags, Now: 1_000_000}
}

func hard(t int64) Tombstone { return Tombstone{Hard: t} }

// want checks what Judge says of an entry of this epoch.
func want(t *testing.T, tab *Table, v Validity, stamp int64, tags ...string) {
	t.Helper()
	if got, _ := tab.Validate(epoch, stamp, 0, tags, 0); got != v {
		t.Errorf("stamp %d, tags %q: verdict %d, want %d", stamp, tags, got, v)
	}
}

func learn(t *testing.T, tab *Table, m *Reading, tags ...string) {
	t.Helper()
	if !tab.LearnTombstones(tags, m, tab.ReadVersion(), 0) {
		t.Fatal("an answer of now is refused")
	}
}

func hear(t *testing.T, tab *Table, m *Reading, tags ...string) {
	t.Helper()
	if !tab.ApplyPeer(tags, m, 0) {
		t.Fatal("a notice is refused")
	}
}

func TestNothingIsKnownAtFirst(t *testing.T) {
	tab := NewTable()
	want(t, tab, Unknown, 5)
	if _, _, ok := tab.Version(); ok {
		t.Error("there is a stamp")
	}
	if k := tab.Known(); k != (Known{}) {
		t.Errorf("known: %+v", k)
	}
}

func TestTheEpochJudgesEveryEntry(t *testing.T) {
	tab := NewTable()
	m := at(50)
	m.Epoch.All, m.Epoch.LowWatermark = Tombstone{Hard: 10, Soft: 20}, 30
	learn(t, tab, m)
	want(t, tab, Invalid, 9)
	want(t, tab, Stale, 10)
	want(t, tab, Stale, 19)
	want(t, tab, Valid, 20)
	want(t, tab, Invalid, 29, "t")
	want(t, tab, Unknown, 30, "t")
	want(t, tab, Unknown, 49, "t")
	want(t, tab, Valid, 50, "t")
	// What is later than the clock is a stamp of a later clock, or none: Redis is asked, and
	// by its answer no entry is good that no tombstone would ever hit.
	want(t, tab, Unknown, 51)
	want(t, tab, Unknown, 1<<53-1, "t")
	for stamp, want := range map[int64]Validity{50: Valid, 51: Invalid, 1<<53 - 1: Invalid} {
		if v, _ := ValidateBy(m, epoch, stamp, 0, 0, 0); v != want {
			t.Errorf("stamp %d: verdict %d by one answer", stamp, v)
		}
	}
	if e, s, ok := tab.Version(); e != epoch || s != 50 || !ok {
		t.Errorf("stamp: %d %d %v", e, s, ok)
	}
}

func TestAnotherEraIsGoneUnlessItMayBeLater(t *testing.T) {
	tab := NewTable()
	learn(t, tab, at(50))
	for _, c := range []struct {
		epoch uint64
		stamp int64
		want  Validity
	}{{epoch, 50, Valid}, {8, 50, Invalid}, {8, 51, Unknown}, {0, 51, Invalid}} {
		if v, _ := tab.Validate(c.epoch, c.stamp, 0, nil, 0); v != c.want {
			t.Errorf("epoch %d, stamp %d: %d, want %d", c.epoch, c.stamp, v, c.want)
		}
	}
}

func TestATagIsJudgedByItsMark(t *testing.T) {
	tab := NewTable()
	learn(t, tab, at(50, Tombstone{Hard: 40, Soft: 45}, Tombstone{}), "a", "b")
	want(t, tab, Invalid, 39, "a")
	want(t, tab, Invalid, 39, "b", "a")
	want(t, tab, Stale, 44, "a")
	want(t, tab, Valid, 45, "a")
	want(t, tab, Valid, 1, "b")
	want(t, tab, Unknown, 44, "a", "c")
	want(t, tab, Invalid, 39, "c", "a") // whatever c says
}

func TestWithoutHearingAMarkHoldsForItsClockOnly(t *testing.T) {
	tab := NewTable()
	learn(t, tab, at(50, hard(40)), "a")
	learn(t, tab, at(51))
	want(t, tab, Unknown, 45, "a")
	want(t, tab, Invalid, 39, "a")
	learn(t, tab, at(51, hard(40)), "a")
	want(t, tab, Valid, 45, "a")
}

func TestWhoHearsKeepsItsMarks(t *testing.T) {
	tab := NewTable()
	tab.Subscribed()
	learn(t, tab, at(50, hard(40)), "a")
	hear(t, tab, at(51, hard(51)), "b")
	want(t, tab, Valid, 45, "a")
	want(t, tab, Invalid, 50, "b")
	want(t, tab, Unknown, 50, "c")
	tab.Forget()
	learn(t, tab, at(51))
	want(t, tab, Unknown, 45, "a")
}

func TestOwnMarksHoldThoughOthersAreOnTheirWay(t *testing.T) {
	tab := NewTable()
	tab.Subscribed()
	learn(t, tab, at(50, hard(1), hard(2)), "a", "b")
	learn(t, tab, at(52, hard(52)), "a") // own; 51 has hit b
	want(t, tab, Invalid, 50, "a")
	want(t, tab, Valid, 50, "b")
	hear(t, tab, at(51, hard(51)), "b")
	want(t, tab, Invalid, 50, "b")
}

// A question that was asked before a tombstone was heard must not bring back a table
// without it.
func TestALateAnswerDoesNotUndoANotice(t *testing.T) {
	t.Run("the tag was not known", func(t *testing.T) {
		tab := NewTable()
		tab.Subscribed()
		learn(t, tab, at(50))
		late := tab.ReadVersion()
		hear(t, tab, at(51, hard(51)), "a")
		if !tab.LearnTombstones([]string{"a"}, at(50, hard(3)), late, 0) {
			t.Fatal("refused, although of the known epoch")
		}
		want(t, tab, Invalid, 50, "a")
	})
	t.Run("nothing was known", func(t *testing.T) {
		tab := NewTable()
		tab.Subscribed()
		late := tab.ReadVersion()
		hear(t, tab, at(51, hard(51)), "a")
		tab.LearnTombstones([]string{"b"}, at(50, hard(3)), late, 0)
		want(t, tab, Invalid, 50, "a")
		want(t, tab, Unknown, 50, "b") // it is of before the session
	})
	t.Run("the tag was forgotten", func(t *testing.T) {
		tab := NewTable()
		tab.Subscribed()
		learn(t, tab, at(50))
		late := tab.ReadVersion()
		hear(t, tab, at(51, hard(51)), "a")
		for i := 0; ; i++ { // until it is the one that goes
			if _, ok := tab.tags["a"]; !ok {
				break
			}
			learn(t, tab, at(51, hard(4)), fmt.Sprint("filler ", i))
		}
		tab.LearnTombstones([]string{"a"}, at(50, hard(3)), late, 0)
		want(t, tab, Unknown, 50, "a")
	})
}

func TestAnAnswerFromBeforeTheSessionDoesNotBeginIt(t *testing.T) {
	for name, begin := range map[string]func(*Table){"Armed": (*Table).Subscribed, "Forget": (*Table).Forget} {
		tab := NewTable()
		asked := tab.ReadVersion()
		begin(tab)
		if tab.LearnTombstones(nil, at(50), asked, 0) {
			t.Errorf("%s: taken", name)
		}
		want(t, tab, Unknown, 60)
		learn(t, tab, at(51))
		if !tab.LearnTombstones(nil, at(50), asked, 0) {
			t.Errorf("%s: refused, although the epoch is known again", name)
		}
		if _, s, _ := tab.Version(); s != 51 {
			t.Errorf("%s: the clock went back to %d", name, s)
		}
	}
}

func TestAnOldEraDoesNotComeBack(t *testing.T) {
	tab := NewTable()
	learn(t, tab, at(50))
	late, soon := tab.ReadVersion(), tab.ReadVersion()
	next := at(60)
	next.Epoch.ID = 8
	if !tab.LearnTombstones(nil, next, soon, 0) {
		t.Fatal("the new epoch is refused")
	}
	if tab.LearnTombstones(nil, at(55), late, 0) {
		t.Error("the old epoch came back")
	}
	want(t, tab, Invalid, 55)
	if k := tab.Known(); k != (Known{Epoch: 8, Tick: 60, Clock: 60}) {
		t.Errorf("known: %+v", k)
	}
	tab.Forget()
	if tab.LearnTombstones(nil, at(55), late, 0) {
		t.Error("the old epoch came back when all was forgotten")
	}
}

func TestANewEraBeginsWithNothing(t *testing.T) {
	tab := NewTable()
	m := at(50, hard(45))
	m.Epoch.All.Hard, m.Epoch.LowWatermark = 40, 40
	learn(t, tab, m, "a")
	learn(t, tab, &Reading{Epoch: Epoch{ID: 8, Tick: 20, Clock: 20}, Tags: []Tombstone{{}}, Now: 1}, "a")
	if v, _ := tab.Validate(8, 5, 0, []string{"a"}, 0); v != Valid {
		t.Errorf("an entry of the new epoch has verdict %d", v)
	}
	if e, s, _ := tab.Version(); e != 8 || s != 20 {
		t.Errorf("stamp: %d %d", e, s)
	}
}

func TestANoticeOfAnotherEraLeavesNothingKnown(t *testing.T) {
	tab := NewTable()
	tab.Subscribed()
	learn(t, tab, at(50))
	asked := tab.ReadVersion()
	other := at(60)
	other.Epoch.ID = 8
	if tab.ApplyPeer(nil, other, 0) {
		t.Error("believed")
	}
	want(t, tab, Unknown, 60)
	if tab.LearnTombstones(nil, at(50), asked, 0) {
		t.Error("an answer from before the notice is taken")
	}
	learn(t, tab, other)
	if e, _, _ := tab.Version(); e != 8 {
		t.Errorf("epoch %d", e)
	}
}

// A failover may lose a tombstone that was acknowledged, in the same epoch.
func TestWhatWasGoneStaysGoneOverAForget(t *testing.T) {
	tab := NewTable()
	learn(t, tab, at(50, hard(50)), "a")
	tab.Forget()
	if k := tab.Known(); k.Clock != 50 {
		t.Errorf("what was seen is forgotten: %+v", k)
	}
	learn(t, tab, at(51, hard(0)), "a")
	want(t, tab, Invalid, 49, "a")
}

func TestAPendingMarkStrikesInTime(t *testing.T) {
	const ms = 1_000_000
	m := at(50, Tombstone{Next: 50, When: 1_005_000}) // 5 ms after Now
	tab := NewTable()
	if !tab.LearnTombstones([]string{"a"}, m, tab.ReadVersion(), 100*ms) {
		t.Fatal("refused")
	}
	check := func(now, end int64, v Validity) {
		t.Helper()
		if got, until := tab.Validate(epoch, 49, 0, []string{"a"}, now); got != v || until != end {
			t.Errorf("at %d: %d until %d, want %d until %d", now, got, until, v, end)
		}
		if got, until := ValidateBy(m, epoch, 49, 0, 100*ms, now); got != v || until != end {
			t.Errorf("by the answer, at %d: %d until %d, want %d until %d", now, got, until, v, end)
		}
	}
	check(100*ms, 105*ms, Valid)
	check(105*ms-1, 105*ms, Valid)
	check(105*ms, 0, Invalid)
	if v, until := tab.Validate(epoch, 50, 0, []string{"a"}, 200*ms); v != Valid || until != math.MaxInt64 {
		t.Errorf("an entry that it does not hit: %d until %d", v, until)
	}
}

func TestOfTwoPendingMarksTheFirstStrikesForBoth(t *testing.T) {
	for name, c := range map[string]struct{ a, b, want tombstone }{
		"both are pending":   {tombstone{next: 10, due: 5}, tombstone{next: 12, due: 9}, tombstone{next: 12, due: 5}},
		"one is due":         {tombstone{next: 10, due: 1}, tombstone{next: 12, due: 9}, tombstone{hard: 10, next: 12, due: 9}},
		"one is overtaken":   {tombstone{next: 10, due: 5}, tombstone{hard: 10}, tombstone{hard: 10}},
		"one is no mark":     {tombstone{}, tombstone{soft: 3, next: 12, due: 9}, tombstone{soft: 3, next: 12, due: 9}},
		"both are due":       {tombstone{next: 10, due: 1}, tombstone{next: 12, due: 0}, tombstone{hard: 12}},
		"the same, sooner":   {tombstone{next: 10, due: 5}, tombstone{next: 10, due: 4}, tombstone{next: 10, due: 4}},
		"one hits all of it": {tombstone{hard: 20}, tombstone{next: 12, due: 9}, tombstone{hard: 20}},
	} {
		for range 2 {
			got := c.a
			got.merge(c.b, 2)
			if got != c.want {
				t.Errorf("%s: %+v, want %+v", name, got, c.want)
			}
			c.a, c.b = c.b, c.a
		}
	}
}

func TestAnUnknownClockOfRedisMakesPendingMarksDue(t *testing.T) {
	tab := NewTable()
	e := Epoch{ID: epoch, Clock: 50, All: Tombstone{Next: 40, When: 1 << 50}}
	if !tab.Learn(e, 0, tab.ReadVersion(), 0) {
		t.Fatal("refused")
	}
	want(t, tab, Invalid, 39)
	want(t, tab, Valid, 40)
}

func TestADeadlineFarAwayDoesNotOverflow(t *testing.T) {
	tab := NewTable()
	e := Epoch{ID: epoch, Clock: 50, All: Tombstone{Next: 40, When: math.MaxInt64}}
	tab.Learn(e, 40, tab.ReadVersion(), math.MaxInt64/2)
	want(t, tab, Valid, 39)
}

func TestNonsenseIsRefused(t *testing.T) {
	tab := NewTable()
	none := at(50)
	none.Epoch.ID = 0
	if tab.LearnTombstones(nil, none, tab.ReadVersion(), 0) || tab.LearnTombstones([]string{"a"}, at(50), tab.ReadVersion(), 0) {
		t.Error("learned")
	}
	tab.Subscribed()
	if tab.ApplyPeer(nil, none, 0) || tab.ApplyPeer([]string{"a"}, at(50), 0) {
		t.Error("heard")
	}
	want(t, tab, Unknown, 60)
}

func TestTheNumberOfTagsIsBounded(t *testing.T) {
	tab := NewTable()
	for i := range maxTags + 100 {
		learn(t, tab, at(50, hard(40)), fmt.Sprint(i))
	}
	if n := len(tab.tags); n != maxTags {
		t.Errorf("%d tags", n)
	}
	if tab.lost != 40 {
		t.Errorf("the marks that were forgotten go to %d", tab.lost)
	}
}

func TestJudgeAllocatesNothing(t *testing.T) {
	tab := NewTable()
	learn(t, tab, at(50, hard(1), hard(2)), "a", "b")
	e := at(50).Epoch
	tags := []string{"a", "b"}
	if n := testing.AllocsPerRun(100, func() {
		tab.Validate(epoch, 45, 0, tags, 0)
		tab.Learn(e, 1, tab.ReadVersion(), 0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A message may come late, and twice:
//
//  1. epoch A is lost, and B begins; this process adopts B
//  2. a late notice of A is heard: which one is the newer is not known, and forgotten
//     what was known
//  3. it is heard once more: adopting A would make every entry of A good again
func TestALateNoticeBringsNoOldEraBack(t *testing.T) {
	tab := NewTable()
	tab.Subscribed()
	old, young := at(50), at(60)
	old.Epoch.ID, young.Epoch.ID = 1, 2
	for _, m := range []*Reading{old, young} {
		if !tab.LearnTombstones(nil, m, tab.ReadVersion(), 0) {
			t.Fatal("refused")
		}
		tab.forget(true)
	}
	if !tab.LearnTombstones(nil, young, tab.ReadVersion(), 0) {
		t.Fatal("refused")
	}
	for range 3 {
		if tab.ApplyPeer(nil, old, 0) {
			t.Error("a notice of an epoch that is not the known one was adopted")
		}
		if v, _ := tab.Validate(1, 50, 0, nil, 0); v == Valid {
			t.Error("an entry of the old epoch is good again")
		}
	}
}

// What can't be used any more is forgotten altogether, and any epoch may follow.
func TestAResetForgetsWhatIsElseNeverForgotten(t *testing.T) {
	tab := NewTable()
	tab.Subscribed()
	m := at(50, hard(45))
	m.Epoch.All = hard(40)
	learn(t, tab, m, "a")
	late := tab.ReadVersion()
	tab.Reset()
	if k := tab.Known(); k != (Known{}) {
		t.Errorf("known after it: %+v", k)
	}
	want(t, tab, Unknown, 50)
	if _, _, ok := tab.Version(); ok {
		t.Error("there is a stamp")
	}
	if tab.LearnTombstones([]string{"a"}, m, late, 0) {
		t.Error("an answer from before it is learned")
	}
	learn(t, tab, at(10))
	want(t, tab, Valid, 10, "a")
}

// A clock of Redis that is set back leaves what is known far ahead of it: Redis would take
// that for nothing, and is not asked with it again.
func TestWhatIsFarAheadOfRedisIsForgotten(t *testing.T) {
	const now, day = 1_000_000, 24 * 3600 * 1_000_000
	tab := NewTable()
	ahead := at(now + 3*day)
	ahead.Now = now + 3*day
	learn(t, tab, ahead)
	if tab.LearnTombstones(nil, at(50), tab.ReadVersion(), 0) {
		t.Error("an answer is merged with what it can't agree with")
	}
	if k := tab.Known(); k != (Known{}) {
		t.Errorf("known after it: %+v", k)
	}
	learn(t, tab, at(50))
	hour := at(now + day/24)
	learn(t, tab, hour)
	learn(t, tab, at(50))
	if k := tab.Known(); k.Clock != now+day/24 {
		t.Errorf("known, an hour ahead: %+v", k)
	}
}
