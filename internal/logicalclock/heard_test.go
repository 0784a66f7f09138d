package logicalclock

import (
	"fmt"
	"testing"
)

// What a table has learned counts when it has forgotten that it is up to date, and only that.
func TestValidateHeard(t *testing.T) {
	const epoch = 7
	tb := NewTable()
	if v := tb.ValidateHeard(0, 0, 0, []string{"a"}, 0); v != Valid {
		t.Errorf("nothing is known, and the entry is of no epoch: %v", v)
	}
	tb.Subscribed()
	learn := func(clock int64, tags []string, marks ...Tombstone) {
		t.Helper()
		m := &Reading{Epoch: Epoch{ID: epoch, Tick: clock, Clock: clock}, Now: clock, Tags: marks}
		if !tb.LearnTombstones(tags, m, tb.ReadVersion(), 0) {
			t.Fatal("not learned")
		}
	}
	learn(100, nil)
	learn(110, []string{"a"}, Tombstone{Hard: 110})
	tb.Forget()
	for _, c := range []struct {
		epoch uint64
		time  int64
		tags  []string
		want  Validity
	}{
		{epoch, 105, nil, Valid},
		{epoch, 105, []string{"b"}, Valid},
		{epoch, 105, []string{"a"}, Invalid},
		{epoch, 105, []string{"b", "a"}, Invalid},
		{epoch, 110, []string{"a"}, Valid},
		{epoch, 111, nil, Unknown}, // the clock has not issued it, as far as is known
		{epoch + 1, 105, nil, Invalid},
		{0, 0, nil, Invalid},
	} {
		if v := tb.ValidateHeard(c.epoch, c.time, 0, c.tags, 0); v != c.want {
			t.Errorf("%d, %d, %q: %v, want %v", c.epoch, c.time, c.tags, v, c.want)
		}
	}
	// A pending tombstone takes effect in its time, whatever is received.
	learn(1200, []string{"d"}, Tombstone{Next: 1190, When: 1200 + 1000})
	tb.Forget()
	if v, w := tb.ValidateHeard(epoch, 115, 0, []string{"d"}, 0), tb.ValidateHeard(epoch, 115, 0, []string{"d"}, 1_000_000_000); v != Valid || w != Invalid {
		t.Errorf("a pending tombstone: %v before, %v after", v, w)
	}
	// More tags than are kept: one of those forgotten may concern the entry.
	for i := range maxTags + 1 {
		learn(2000+int64(i), []string{fmt.Sprint("many", i)}, Tombstone{Hard: 2000 + int64(i)})
	}
	if v := tb.ValidateHeard(epoch, 115, 0, []string{"other"}, 0); v != Unknown {
		t.Errorf("tombstones were forgotten: %v", v)
	}
}
