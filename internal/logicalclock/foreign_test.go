package logicalclock

import "testing"

// An entry without a logical time is valid if nothing that may concern it was invalidated since it
// was stored.
func TestAnEntryOfAnotherProgramIsHeldAgainstAllThatMayConcernIt(t *testing.T) {
	table := func(subscribed bool, e Epoch, tags map[string]Tombstone) *Table {
		tb := NewTable()
		if subscribed {
			tb.Subscribed()
		}
		var names []string
		m := Reading{Epoch: e, Now: 1}
		for name, tomb := range tags {
			names, m.Tags = append(names, name), append(m.Tags, tomb)
		}
		if !tb.LearnTombstones(names, &m, tb.ReadVersion(), 0) {
			t.Fatal("not learned")
		}
		return tb
	}
	begun := Epoch{ID: 1, Tick: 100, Clock: 100, LowWatermark: 100}
	tagged := Epoch{ID: 1, Tick: 200, Clock: 200, LowWatermark: 100}
	cleared := Epoch{ID: 1, Tick: 200, Clock: 200, LowWatermark: 100, All: Tombstone{Hard: 200}}
	soft := Epoch{ID: 1, Tick: 200, Clock: 200, LowWatermark: 100, All: Tombstone{Soft: 200}}
	pending := Epoch{ID: 1, Tick: 200, Clock: 200, LowWatermark: 100, All: Tombstone{Next: 200, When: 1 << 40}}
	dated := Epoch{ID: 1, Tick: 200, Clock: 200, LowWatermark: 100, All: Tombstone{Next: 200, When: 150}}
	red := map[string]Tombstone{"red": {Hard: 200}}
	for _, c := range []struct {
		what   string
		epoch  Epoch
		known  map[string]Tombstone
		stored int64
		tags   []string
		all    bool
		want   Validity
	}{
		{"a new cache", begun, nil, 0, nil, false, Valid},
		{"a new cache, dated before", begun, nil, 50, []string{"red"}, true, Valid},
		{"any tag", tagged, nil, 0, nil, false, Invalid},
		{"any tag, dated before", tagged, nil, 200, nil, false, Invalid},
		{"any tag, dated after", tagged, nil, 201, nil, false, Valid},
		{"no tags", tagged, nil, 0, nil, true, Valid},
		{"a tag that is not known", tagged, nil, 150, []string{"red"}, true, Unknown},
		{"its tag", tagged, red, 150, []string{"red"}, true, Invalid},
		{"its tag, at the same time", tagged, red, 200, []string{"red"}, true, Invalid},
		{"another tag", tagged, map[string]Tombstone{"red": {Hard: 200}, "blue": {}}, 150, []string{"blue"}, true, Valid},
		{"another tag, from before the beginning", tagged, map[string]Tombstone{"blue": {}}, 100, []string{"blue"}, true, Invalid},
		{"one of its tags is not known, another is hit", tagged, red, 150, []string{"blue", "red"}, true, Invalid},
		{"its tag, dated after", tagged, nil, 201, []string{"red"}, true, Valid},
		{"cleared", cleared, nil, 0, nil, true, Invalid},
		{"cleared after", cleared, nil, 200, nil, true, Invalid},
		{"cleared before", cleared, nil, 201, nil, true, Valid},
		{"a soft Clear", soft, nil, 150, nil, true, Invalid},
		{"a delayed Clear", pending, nil, 150, nil, true, Invalid},
		{"a late Clear", dated, nil, 150, nil, true, Invalid},
		{"a late Clear, long after", dated, nil, 201, nil, true, Valid},
	} {
		for _, subscribed := range []bool{false, true} {
			v, known := table(subscribed, c.epoch, c.known).ValidateForeign(c.stored, c.tags, c.all)
			if v != c.want || known.Epoch != 1 || known.Clock != c.epoch.Clock {
				t.Errorf("%s, subscribed %v: %v, %+v; want %v", c.what, subscribed, v, known, c.want)
			}
		}
	}
	if v, _ := NewTable().ValidateForeign(1, nil, true); v != Unknown {
		t.Errorf("%v without a clock", v)
	}
}
