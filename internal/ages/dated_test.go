package ages

import (
	"math"
	"testing"

	"github.com/delqhi/cache/internal/remote"
)

// by judges an entry of this era by one answer, in which m is of all entries, or of a tag.
func by(t *testing.T, m remote.Mark, tag bool, redisNow, stamp, began, now int64) (Verdict, int64) {
	t.Helper()
	answer := &remote.Marks{Epoch: remote.Epoch{Era: era, Clock: 1 << 40}, Now: redisNow}
	if tag {
		answer.Tags = []remote.Mark{m}
	} else {
		answer.Epoch.All = m
	}
	return JudgeBy(answer, era, stamp, began, 0, now)
}

func TestAMarkThatWasMadeLateLeavesWhatBeganAfterIt(t *testing.T) {
	m := remote.Mark{Next: 40, When: 30}
	for _, tag := range []bool{false, true} {
		for _, c := range []struct {
			stamp, began int64
			want         Verdict
		}{{39, 0, Gone}, {39, 30, Gone}, {39, 31, Good}, {40, 0, Good}} {
			if v, until := by(t, m, tag, 50, c.stamp, c.began, 0); v != c.want || v == Good && until != math.MaxInt64 {
				t.Errorf("stamp %d, began at %d: verdict %d until %d, want %d", c.stamp, c.began, v, until, c.want)
			}
		}
	}
}

// A mark whose own clock is far ahead of Redis's is from before that clock went back; one
// that is a little ahead was made by a process whose estimate of it is.
func TestAPendingMarkFromAClockThatWentBackStrikesAtOnce(t *testing.T) {
	const made = 10 * estimate
	m := remote.Mark{Next: made, When: made + 500}
	for _, c := range []struct {
		now   int64
		want  Verdict
		until int64
	}{{made - estimate - 1, Gone, 0}, {made - estimate, Good, 500_000}, {made, Good, 500_000}, {made + 100, Good, 400_000}, {made + 500, Gone, 0}} {
		if v, until := by(t, m, false, c.now, made-1, 0, 0); v != c.want || until != c.until {
			t.Errorf("Redis's clock is %d: verdict %d until %d, want %d until %d", c.now, v, until, c.want, c.until)
		}
	}
	if v, until := by(t, m, false, made, made, 0, 0); v != Good || until != math.MaxInt64 {
		t.Errorf("of the mark's own time: verdict %d until %d", v, until)
	}
}

func TestAnAnswerJudgesByTheFloor(t *testing.T) {
	m := at(50, remote.Mark{})
	m.Epoch.Floor = 30
	none := at(50)
	none.Epoch.Floor = 30
	for _, c := range []struct {
		m     *remote.Marks
		stamp int64
		want  Verdict
	}{{m, 29, Gone}, {m, 30, Good}, {none, 29, Good}} {
		if v, _ := JudgeBy(c.m, era, c.stamp, 0, 0, 0); v != c.want {
			t.Errorf("stamp %d, %d tags: verdict %d, want %d", c.stamp, len(c.m.Tags), v, c.want)
		}
	}
}

func TestMarksOfTwoTimesSayWhatEitherSays(t *testing.T) {
	const due, late = 1000, math.MaxInt64
	for name, c := range map[string]struct {
		marks        []mark
		stamp, began int64
		v            Verdict
		until        int64
	}{
		"what is covered by a mark of now says nothing more":           {[]mark{{dated: 40, before: 39}, {hard: 45}, {dated: 50, before: 30}}, 46, 35, Good, late},
		"of the same time as well":                                     {[]mark{{dated: 45, before: 39}, {hard: 45}, {dated: 50, before: 30}}, 46, 35, Good, late},
		"nor if it comes after that":                                   {[]mark{{hard: 45}, {dated: 40, before: 39}, {dated: 50, before: 30}}, 46, 35, Good, late},
		"nor of the same time, after that":                             {[]mark{{hard: 45}, {dated: 45, before: 39}, {dated: 50, before: 30}}, 46, 35, Good, late},
		"nor beside one that says more":                                {[]mark{{hard: 45}, {dated: 50, before: 30}, {dated: 40, before: 39}}, 46, 35, Good, late},
		"nor of the same time, beside it":                              {[]mark{{hard: 45}, {dated: 50, before: 30}, {dated: 45, before: 39}}, 46, 35, Good, late},
		"two late ones are one":                                        {[]mark{{dated: 40, before: 20}, {dated: 50, before: 30}}, 49, 30, Gone, 0},
		"in any order":                                                 {[]mark{{dated: 50, before: 30}, {dated: 40, before: 20}}, 49, 30, Gone, 0},
		"and leave what began after both":                              {[]mark{{dated: 50, before: 30}, {dated: 40, before: 20}}, 39, 31, Good, late},
		"one that is pending does not hit what began after a late one": {[]mark{{next: 30, due: due}, {dated: 40, before: 35}}, 29, 36, Good, late},
		"nor if the late one is as of its time":                        {[]mark{{next: 30, due: due}, {dated: 40, before: 30}}, 29, 36, Good, late},
		"it does if the late one is of an earlier time":                {[]mark{{next: 30, due: due}, {dated: 40, before: 25}}, 29, 27, Good, due},
	} {
		var m mark
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
	known := remote.Epoch{Era: era, Tick: 60, Clock: 50, Floor: 20, All: remote.Mark{Hard: 10, Soft: 15, Next: 40, When: 30}}
	mark := func(change func(*remote.Mark)) func(*remote.Epoch) { return func(e *remote.Epoch) { change(&e.All) } }
	for name, c := range map[string]struct {
		change       func(*remote.Epoch)
		stamp, began int64
		tags         []string
		want         Verdict
	}{
		"the same":             {func(*remote.Epoch) {}, 41, 0, nil, Good},
		"the clock":            {func(e *remote.Epoch) { e.Clock = 51 }, 51, 0, nil, Good},
		"the floor":            {func(e *remote.Epoch) { e.Floor = 21 }, 20, 31, []string{"t"}, Gone},
		"a hard mark":          {mark(func(m *remote.Mark) { m.Hard = 11 }), 10, 31, nil, Gone},
		"a soft mark":          {mark(func(m *remote.Mark) { m.Soft = 16 }), 15, 31, nil, Stale},
		"a later late mark":    {mark(func(m *remote.Mark) { m.Next = 41 }), 40, 30, nil, Gone},
		"one of a later time":  {mark(func(m *remote.Mark) { m.When = 31 }), 39, 31, nil, Gone},
		"a mark that is due":   {mark(func(m *remote.Mark) { m.Next, m.When = 45, 46 }), 44, 100, nil, Gone},
		"another era":          {func(e *remote.Epoch) { e.Era = 8 }, 41, 0, nil, Gone},
		"nothing, of all this": {mark(func(m *remote.Mark) { *m = remote.Mark{Hard: 9} }), 39, 31, nil, Good},
	} {
		tab := NewTable()
		for _, change := range []func(*remote.Epoch){func(*remote.Epoch) {}, c.change} {
			e := known
			change(&e)
			if !tab.Learn(e, 1_000_000, tab.Asked(), 0) {
				t.Fatalf("%s: refused", name)
			}
		}
		if v, _ := tab.Judge(era, c.stamp, c.began, c.tags, 0); v != c.want {
			t.Errorf("%s: verdict %d, want %d", name, v, c.want)
		}
	}

	tab := NewTable()
	for _, tick := range []int64{60, 61} {
		e := known
		e.Tick = tick
		tab.Learn(e, 1_000_000, tab.Asked(), 0)
		if k := tab.Known(); k.Tick != tick {
			t.Errorf("the tick is %d, want %d", k.Tick, tick)
		}
	}
	tab.Forget()
	if !tab.Learn(known, 1_000_000, tab.Asked(), 0) {
		t.Fatal("refused")
	}
	want(t, tab, Good, 41) // what was known is known again
}

func TestOnlyMarksThatWereMadeLateAskWhenValuesBegan(t *testing.T) {
	late := remote.Mark{Next: 40, When: 30}
	for name, c := range map[string]struct {
		all, tag remote.Mark
		want     bool
	}{
		"none":     {remote.Mark{}, remote.Mark{Hard: 40}, false},
		"pending":  {remote.Mark{Next: 40, When: 41}, remote.Mark{Next: 40, When: 40}, false},
		"of all":   {late, remote.Mark{}, true},
		"of a tag": {remote.Mark{}, late, true},
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
	want(t, tab, Good, 1<<50+1)
}

func TestANoticeThatComesToADeafTableBeginsNothing(t *testing.T) {
	for _, tab := range []*Table{NewTable(), func() *Table { tab := NewTable(); tab.Armed(); tab.Forget(); return tab }()} {
		if tab.Heard(nil, at(50), 0) {
			t.Error("it is believed to say all")
		}
		want(t, tab, Unknown, 50)
	}
}

func TestATagIsUnknownAlsoIfTheClockBeganAtZero(t *testing.T) {
	tab := NewTable()
	tab.Armed()
	learn(t, tab, at(0))
	learn(t, tab, at(5))
	want(t, tab, Unknown, 3, "t")
}
