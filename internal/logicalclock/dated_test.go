package logicalclock

import (
	"math"
	"testing"
)

// by judges an entry of this epoch by one answer, in which m is of all entries, or of a tag.
func by(t *testing.T, m Tombstone, tag bool, redisNow, stamp, began, now int64) (Validity, int64) {
	t.Helper()
	answer := &Reading{Epoch: Epoch{ID: epoch, Clock: 1 << 40}, Now: redisNow}
	if tag {
		answer.Tags = []Tombstone{m}
	} else {
		answer.Epoch.All = m
	}
	return ValidateBy(answer, epoch, stamp, began, 0, now)
}

func TestAMarkThatWasMadeLateLeavesWhatBeganAfterIt(t *testing.T) {
	m := Tombstone{Next: 40, When: 30}
	for _, tag := range []bool{false, true} {
		for _, c := range []struct {
			stamp, began int64
			want         Validity
		}{{39, 0, Invalid}, {39, 30, Invalid}, {39, 31, Valid}, {40, 0, Valid}} {
			if v, until := by(t, m, tag, 50, c.stamp, c.began, 0); v != c.want || v == Valid && until != math.MaxInt64 {
				t.Errorf("stamp %d, began at %d: verdict %d until %d, want %d", c.stamp, c.began, v, until, c.want)
			}
		}
	}
}

// A tombstone whose own clock is far ahead of Redis's is from before that clock went back; one
// that is a little ahead was made by a process whose estimate of it is.
func TestAPendingMarkFromAClockThatWentBackStrikesAtOnce(t *testing.T) {
	const made = 10 * estimate
	m := Tombstone{Next: made, When: made + 500}
	for _, c := range []struct {
		now   int64
		want  Validity
		until int64
	}{{made - estimate - 1, Invalid, 0}, {made - estimate, Valid, 500_000}, {made, Valid, 500_000}, {made + 100, Valid, 400_000}, {made + 500, Invalid, 0}} {
		if v, until := by(t, m, false, c.now, made-1, 0, 0); v != c.want || until != c.until {
			t.Errorf("Redis's clock is %d: verdict %d until %d, want %d until %d", c.now, v, until, c.want, c.until)
		}
	}
	if v, until := by(t, m, false, made, made, 0, 0); v != Valid || until != math.MaxInt64 {
		t.Errorf("of the mark's own time: verdict %d until %d", v, until)
	}
}

func TestAnAnswerJudgesByTheFloor(t *testing.T) {
	m := at(50, Tombstone{})
	m.Epoch.LowWatermark = 30
	none := at(50)
	none.Epoch.LowWatermark = 30
	for _, c := range []struct {
		m     *Reading
		stamp int64
		want  Validity
	}{{m, 29, Invalid}, {m, 30, Valid}, {none, 29, Valid}} {
		if v, _ := ValidateBy(c.m, epoch, c.stamp, 0, 0, 0); v != c.want {
			t.Errorf("stamp %d, %d tags: verdict %d, want %d", c.stamp, len(c.m.Tags), v, c.want)
		}
	}
}

func TestMarksOfTwoTimesSayWhatEitherSays(t *testing.T) {
	const due, late = 1000, math.MaxInt64
	for name, c := range map[string]struct {
		marks        []tombstone
		stamp, began int64
		v            Validity
		until        int64
	}{
		"what is covered by a mark of now says nothing more":           {[]tombstone{{dated: 40, before: 39}, {hard: 45}, {dated: 50, before: 30}}, 46, 35, Valid, late},
		"of the same time as well":                                     {[]tombstone{{dated: 45, before: 39}, {hard: 45}, {dated: 50, before: 30}}, 46, 35, Valid, late},
		"nor if it comes after that":                                   {[]tombstone{{hard: 45}, {dated: 40, before: 39}, {dated: 50, before: 30}}, 46, 35, Valid, late},
		"nor of the same time, after that":                             {[]tombstone{{hard: 45}, {dated: 45, before: 39}, {dated: 50, before: 30}}, 46, 35, Valid, late},
		"nor beside one that says more":                                {[]tombstone{{hard: 45}, {dated: 50, before: 30}, {dated: 40, before: 39}}, 46, 35, Valid, late},
		"nor of the same time, beside it":                              {[]tombstone{{hard: 45}, {dated: 50, before: 30}, {dated: 45, before: 39}}, 46, 35, Valid, late},
		"two late ones are one":                                        {[]tombstone{{dated: 40, before: 20}, {dated: 50, before: 30}}, 49, 30, Invalid, 0},
		"in any order":                                                 {[]tombstone{{dated: 50, before: 30}, {dated: 40, before: 20}}, 49, 30, Invalid, 0},
		"and leave what began after both":                              {[]tombstone{{dated: 50, before: 30}, {dated: 40, before: 20}}, 39, 31, Valid, late},
		"one that is pending does not hit what began after a late one": {[]tombstone{{next: 30, due: due}, {dated: 40, before: 35}}, 29, 36, Valid, late},
		"nor if the late one is as of its time":                        {[]tombstone{{next: 30, due: due}, {dated: 40, before: 30}}, 29, 36, Valid, late},
		"it does if the late one is of an earlier time":                {[]tombstone{{next: 30, due: due}, {dated: 40, before: 25}}, 29, 27, Valid, due},
	} {
		var m tombstone
		for _, o := range c.marks {
			m.merge(o, 0)
		}
		if v, until := m.judge(c.stamp, c.began, 0); v != c.v || until != c.until {
			t.Errorf("%s: verdict %d until %d, want %d until %d", name, v, until, c.v, c.until)
		}
	}
}

// Learn spares what is known already, and nothing else.
func TestWhatAnEpochSaysAnewIsLearned(t *testing.T) {
	known := Epoch{ID: epoch, Tick: 60, Clock: 50, LowWatermark: 20, All: Tombstone{Hard: 10, Soft: 15, Next: 40, When: 30}}
	mark := func(change func(*Tombstone)) func(*Epoch) { return func(e *Epoch) { change(&e.All) } }
	for name, c := range map[string]struct {
		change       func(*Epoch)
		stamp, began int64
		tags         []string
		want         Validity
	}{
		"the same":             {func(*Epoch) {}, 41, 0, nil, Valid},
		"the clock":            {func(e *Epoch) { e.Clock = 51 }, 51, 0, nil, Valid},
		"the floor":            {func(e *Epoch) { e.LowWatermark = 21 }, 20, 31, []string{"t"}, Invalid},
		"a hard mark":          {mark(func(m *Tombstone) { m.Hard = 11 }), 10, 31, nil, Invalid},
		"a soft mark":          {mark(func(m *Tombstone) { m.Soft = 16 }), 15, 31, nil, Stale},
		"a later late mark":    {mark(func(m *Tombstone) { m.Next = 41 }), 40, 30, nil, Invalid},
		"one of a later time":  {mark(func(m *Tombstone) { m.When = 31 }), 39, 31, nil, Invalid},
		"a mark that is due":   {mark(func(m *Tombstone) { m.Next, m.When = 45, 46 }), 44, 100, nil, Invalid},
		"another epoch":        {func(e *Epoch) { e.ID = 8 }, 41, 0, nil, Invalid},
		"nothing, of all this": {mark(func(m *Tombstone) { *m = Tombstone{Hard: 9} }), 39, 31, nil, Valid},
	} {
		tab := NewTable()
		for _, change := range []func(*Epoch){func(*Epoch) {}, c.change} {
			e := known
			change(&e)
			if !tab.Learn(e, 1_000_000, tab.ReadVersion(), 0) {
				t.Fatalf("%s: refused", name)
			}
		}
		if v, _ := tab.Validate(epoch, c.stamp, c.began, c.tags, 0); v != c.want {
			t.Errorf("%s: verdict %d, want %d", name, v, c.want)
		}
	}

	tab := NewTable()
	for _, tick := range []int64{60, 61} {
		e := known
		e.Tick = tick
		tab.Learn(e, 1_000_000, tab.ReadVersion(), 0)
		if k := tab.Known(); k.Tick != tick {
			t.Errorf("the tick is %d, want %d", k.Tick, tick)
		}
	}
	tab.Forget()
	if !tab.Learn(known, 1_000_000, tab.ReadVersion(), 0) {
		t.Fatal("refused")
	}
	want(t, tab, Valid, 41) // what was known is known again
}

func TestOnlyMarksThatWereMadeLateAskWhenValuesBegan(t *testing.T) {
	late := Tombstone{Next: 40, When: 30}
	for name, c := range map[string]struct {
		all, tag Tombstone
		want     bool
	}{
		"none":     {Tombstone{}, Tombstone{Hard: 40}, false},
		"pending":  {Tombstone{Next: 40, When: 41}, Tombstone{Next: 40, When: 40}, false},
		"of all":   {late, Tombstone{}, true},
		"of a tag": {Tombstone{}, late, true},
	} {
		tab := NewTable()
		m := at(50, c.tag)
		m.Epoch.All = c.all
		if tab.AnyDated() {
			t.Fatal("at first")
		}
		if learn(t, tab, m, "t"); tab.AnyDated() != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
}

// Where Redis's clock is not known, nothing is said of what is ahead of it.
func TestAnAnswerWithoutRedissClockIsLearned(t *testing.T) {
	tab := NewTable()
	ahead := at(1 << 50)
	ahead.Now = 1 << 50
	learn(t, tab, ahead)
	unknown := at(1<<50 + 1)
	unknown.Now = 0
	learn(t, tab, unknown)
	want(t, tab, Valid, 1<<50+1)
}

func TestANoticeThatComesToADeafTableBeginsNothing(t *testing.T) {
	for _, tab := range []*Table{NewTable(), func() *Table { tab := NewTable(); tab.Subscribed(); tab.Forget(); return tab }()} {
		if tab.ApplyPeer(nil, at(50), 0) {
			t.Error("it is believed to say all")
		}
		want(t, tab, Unknown, 50)
	}
}

func TestATagIsUnknownAlsoIfTheClockBeganAtZero(t *testing.T) {
	tab := NewTable()
	tab.Subscribed()
	learn(t, tab, at(0))
	learn(t, tab, at(5))
	want(t, tab, Unknown, 3, "t")
}
