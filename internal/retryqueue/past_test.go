package retryqueue

import (
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
)

func TestTheTimeOfTwoInvalidationsIsThatOfTheLater(t *testing.T) {
	for _, c := range []struct{ p, q, want Past }{
		{Past{Since: 1, At: 10}, Past{Since: 2, At: 20}, Past{Since: 2, At: 20}},
		{Past{Since: 1, At: 30}, Past{Since: 2, At: 20}, Past{Since: 2, At: 30}}, // two nodes' clocks
		{Past{Since: 1, At: 10}, Past{Since: 2}, Past{Since: 2}},                 // its clock is not known
		{Past{Since: 1}, Past{Since: 2, At: 20}, Past{Since: 2, At: 20}},
		{Past{Since: 1, Acked: true}, Past{Since: 2}, Past{Since: 2}},
		{Past{Since: 1}, Past{Since: 2, Acked: true}, Past{Since: 2}},
		{Past{Since: 1, Acked: true}, Past{Since: 2, Acked: true}, Past{Since: 2, Acked: true}},
	} {
		if got := c.p.and(c.q); got != c.want {
			t.Errorf("%+v and %+v: %+v, want %+v", c.p, c.q, got, c.want)
		}
		if got := c.q.and(c.p); got != c.want {
			t.Errorf("%+v and %+v: %+v, want %+v", c.q, c.p, got, c.want)
		}
	}
}

// An invalidation that stands for others is as late as the last of them: what was stored
// between two of them goes with the second. Everything stands for what was called for before
// it, and for all that does not fit.
func TestWhatStandsForOthersIsAsLateAsTheLast(t *testing.T) {
	past := func(since int64) Past { return Past{Since: since, At: since * 10} }
	key := func(name string, since int64) Item { return Item{Key: name, Since: since, At: since * 10} }
	for name, c := range map[string]struct {
		max  int
		do   func(q *Queue)
		tags []string // each as of want; the last of want is of everything, if there is one more
		want []Past
	}{
		"a tag once more":                    {9, func(q *Queue) { q.AddTags([]string{"t"}, nil, past(1)); q.AddTags([]string{"t"}, nil, past(2)) }, []string{"t"}, []Past{past(2)}},
		"a tag once more, but earlier":       {9, func(q *Queue) { q.AddTags([]string{"t"}, nil, past(2)); q.AddTags([]string{"t"}, nil, past(1)) }, []string{"t"}, []Past{past(2)}},
		"tags of two times":                  {9, func(q *Queue) { q.AddTags([]string{"t"}, nil, past(1)); q.AddTags([]string{"s"}, nil, past(2)) }, []string{"s", "t"}, []Past{past(2), past(1)}},
		"a tag of before the clock's zero":   {9, func(q *Queue) { q.AddTags([]string{"t"}, nil, Past{Since: -1, Acked: true}) }, []string{"t"}, []Past{{Since: -1, Acked: true}}},
		"everything before the clock's zero": {9, func(q *Queue) { q.AddAll(nil, Past{Since: -1, Acked: true}) }, nil, []Past{{Since: -1, Acked: true}}},
		"everything":                         {9, func(q *Queue) { q.AddAll(nil, past(3)) }, nil, []Past{past(3)}},
		"everything, twice":                  {9, func(q *Queue) { q.AddAll(nil, past(3)); q.AddAll(nil, past(2)) }, nil, []Past{past(3)}},
		"everything after a later tag":       {9, func(q *Queue) { q.AddTags([]string{"t"}, nil, past(4)); q.AddAll(nil, past(3)) }, []string{"t"}, []Past{past(4), past(3)}},
		"a tag after everything":             {9, func(q *Queue) { q.AddAll(nil, past(3)); q.AddTags([]string{"t"}, nil, past(4)) }, []string{"t"}, []Past{past(4), past(3)}},
		"a key after everything":             {9, func(q *Queue) { q.AddAll(nil, past(3)); q.Add(key("k", 4)) }, nil, []Past{past(3)}},
		"everything after a later key":       {9, func(q *Queue) { q.Add(key("k", 4)); q.AddAll(nil, past(3)) }, nil, []Past{past(3)}},
		"keys that do not fit":               {1, func(q *Queue) { q.Add(key("k", 4)); q.Add(key("l", 5)) }, nil, []Past{{Since: 5}}},
		"tags that do not fit":               {1, func(q *Queue) { q.AddTags([]string{"t"}, nil, past(5)); q.AddTags([]string{"s"}, nil, past(4)) }, nil, []Past{past(5)}},
		"a key that comes back": {9, func(q *Queue) {
			q.Add(key("k", 4))
			b := q.Take(9)
			q.AddAll(nil, past(3))
			q.Return(b)
		}, nil, []Past{past(3)}},
		"a tag that comes back": {9, func(q *Queue) {
			q.AddTags([]string{"t"}, nil, past(4))
			b := q.Take(9)
			q.AddAll(nil, past(3))
			q.Return(b)
		}, []string{"t"}, []Past{past(4), past(3)}},
		"everything that comes back": {9, func(q *Queue) {
			q.AddAll(nil, past(4))
			b := q.Take(9)
			q.AddTags([]string{"t"}, nil, past(3))
			q.Return(b)
		}, nil, []Past{past(4)}},
	} {
		q := NewQueue(c.max)
		c.do(q)
		b := q.Take(9)
		if b.All {
			b.Pasts = append(b.Pasts, b.Past)
		}
		if b.All != (len(c.tags) < len(c.want)) || !slices.Equal(b.Tags, c.tags) || !slices.Equal(b.Pasts, c.want) {
			t.Errorf("%s: everything %v, tags %q, of %+v; want %q of %+v", name, b.All, b.Tags, b.Pasts, c.tags, c.want)
		}
	}
}

func TestFindTellsOfTheLastOperationOnAKey(t *testing.T) {
	q := NewQueue(9)
	find := func(key string, want Item, there bool) {
		t.Helper()
		if got, ok := q.Find(key); ok != there || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v; want %+v, %v", key, got, ok, want, there)
		}
	}
	find("a", Item{}, false)
	q.Add(Item{Key: "a", At: 1, Since: 10, Numbers: []uint64{7}})
	find("a", Item{Key: "a", At: 1, Since: 10}, true)
	find("b", Item{}, false)
	first := q.Take(9)
	find("a", Item{Key: "a", At: 1, Since: 10}, true)
	q.Add(Item{Key: "a", At: 2, Token: "t", Since: 20})
	find("a", Item{Key: "a", At: 2, Token: "t", Since: 20}, true)
	q.Settle(first)
	find("a", Item{Key: "a", At: 2, Token: "t", Since: 20}, true)
	q.Settle(q.Take(9))
	find("a", Item{}, false)
}

func TestAllIsThatEverythingWaitsOrIsTold(t *testing.T) {
	q := NewQueue(9)
	is := func(want bool) {
		t.Helper()
		if got := q.All(); got != want {
			t.Errorf("everything: %v", got)
		}
	}
	is(false)
	q.Add(Item{Key: "a"})
	is(false)
	q.AddTags([]string{"t"}, nil, Past{})
	is(false)
	b := q.Take(9)
	is(false)
	q.AddAll(nil, Past{})
	is(true)
	q.Settle(b)
	b = q.Take(9)
	is(true)
	q.Settle(b)
	is(false)
}

// A later operation that was acknowledged replaces the pending notifications of earlier ones, but
// not what was added after it was sent.
func TestAnAcknowledgedOperationTakesThePlaceOfEarlierOnes(t *testing.T) {
	q := NewQueue(9)
	want := func(token string, at int64, acked bool) {
		t.Helper()
		if it, ok := q.Find("a"); !ok || it.Token != token || it.At != at || it.Acked != acked {
			t.Errorf("%+v, %v; want token %q at %d, acknowledged %v", it, ok, token, at, acked)
		}
	}
	q.Acknowledge("a", 5, 50, "none")
	q.Add(Item{Key: "a", Token: "first", At: 1, Since: 10, Acked: true})
	q.Acknowledge("b", 10, 99, "another")
	want("first", 1, true)
	q.Acknowledge("a", 9, 90, "before")
	want("first", 1, true)
	q.Acknowledge("a", 10, 100, "at once")
	want("at once", 100, false)
	b := q.Take(9)
	q.Acknowledge("a", 11, 110, "while it is told")
	want("while it is told", 110, false)
	q.Return(b)
	want("while it is told", 110, false)
	if it, _ := q.Find("a"); it.Since != 10 {
		t.Errorf("since %d", it.Since)
	}
}

func TestDismissedTagsAreNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(9)
		dismiss := func(want []uint64, left int, tags ...string) {
			t.Helper()
			if got := q.Dismiss(tags); !slices.Equal(got, want) || q.Len() != left {
				t.Errorf("dismissed %q: numbers %d, %d left; want %d, %d", tags, got, q.Len(), want, left)
			}
		}
		dismiss(nil, 0, "s")
		q.AddTags([]string{"r", "s", "t"}, []uint64{1, 2}, Past{})
		if q.Len() != 3 {
			t.Errorf("%d tags", q.Len())
		}
		dismiss(nil, 2, "s") // the numbers are also open because of the others
		if q.HasTag("s") || !q.HasTag("t") {
			t.Error("another tag was dismissed")
		}
		ended := waits(q)
		dismiss([]uint64{1, 2}, 0, "r", "t", "u")
		if !ended() {
			t.Error("what was dismissed is waited for")
		}
		if b := q.Take(9); !b.Empty() {
			t.Errorf("%+v is told", b)
		}

		q.AddTags([]string{"s"}, nil, Past{})
		told := q.Take(9)
		dismiss(nil, 1, "s") // it is being told
		q.Settle(told)

		q.AddTags([]string{"s"}, nil, Past{})
		q.AddAll([]uint64{3}, Past{})
		dismiss(nil, 1, "s")
		if !q.All() {
			t.Error("a tag has dismissed everything")
		}
	})
}

func TestWhatIsNotBeingToldDoesNotComeBack(t *testing.T) {
	q := NewQueue(9)
	q.Add(Item{Key: "a"})
	b := q.Take(9)
	q.Add(Item{Key: "a", At: 2})
	if q.Len() != 2 {
		t.Errorf("%d keys", q.Len())
	}
	q.Return(b)
	if q.Len() != 1 {
		t.Errorf("%d keys of one that came back", q.Len())
	}
	q.Settle(q.Take(9))
	q.Return(b)
	if q.Len() != 0 || q.Has("a") {
		t.Errorf("%d keys came back", q.Len())
	}
}

func TestOnlyTheFirstThatDoesNotFitIsReported(t *testing.T) {
	q := NewQueue(1)
	q.Add(Item{Key: "a"})
	b := q.Take(9)
	if !q.Add(Item{Key: "b"}) {
		t.Error("it fits")
	}
	if q.AddTags([]string{"t"}, nil, Past{}) || q.Add(Item{Key: "c"}) {
		t.Error("what everything stands for already did not fit once more")
	}
	q.Settle(b)
}

func TestAMarkIsInWhatTakesItsPlace(t *testing.T) {
	m := Tombstone{Epoch: 1, Hard: 10, Soft: 20, Next: 30}
	dated := Tombstone{Epoch: 1, Hard: 10, Next: 30, Before: 25}
	for _, c := range []struct {
		m, now Tombstone
		in     bool
	}{
		{m, m, true},
		{m, Tombstone{Epoch: 1, Hard: 11, Soft: 21, Next: 31}, true},
		{m, Tombstone{Epoch: 2, Hard: 10, Soft: 20, Next: 30}, false},
		{m, Tombstone{Epoch: 1, Hard: 9, Soft: 20, Next: 30}, false},
		{m, Tombstone{Epoch: 1, Hard: 10, Soft: 19, Next: 30}, false},
		{m, Tombstone{Epoch: 1, Hard: 10, Soft: 20, Next: 29}, false},
		{m, Tombstone{Epoch: 1, Hard: 10, Soft: 20}, false},
		{m, Tombstone{Epoch: 1, Hard: 30, Soft: 20}, true},  // it has struck
		{m, Tombstone{Epoch: 1, Hard: 29, Soft: 20}, false}, // another one has
		{m, Tombstone{Epoch: 1, Hard: 10, Soft: 20, Next: 30, Before: 29}, false},
		{dated, dated, true},
		{dated, Tombstone{Epoch: 1, Hard: 10, Next: 31, Before: 26}, true},
		{dated, Tombstone{Epoch: 1, Hard: 10, Next: 31, Before: 24}, false},
		{dated, Tombstone{Epoch: 1, Hard: 10, Next: 29, Before: 26}, false},
		{dated, Tombstone{Epoch: 1, Hard: 10, Next: 31}, false},
		{dated, Tombstone{Epoch: 1, Hard: 30}, true},
		{Tombstone{Epoch: 1}, Tombstone{Epoch: 1}, true},
		{Tombstone{}, Tombstone{}, false}, // nothing was answered
		{Tombstone{Hard: 1}, Tombstone{Epoch: 1, Hard: 2}, false},
	} {
		if got := c.m.In(c.now); got != c.in {
			t.Errorf("%+v in %+v: %v", c.m, c.now, got)
		}
	}
}

func TestRecentRemembersWhatRedisAnsweredAndSinceWhen(t *testing.T) {
	r := NewRecentWrites()
	mark := func(n int64) Tombstone { return Tombstone{Epoch: 1, Hard: n} }
	r.NoteTombstones([]string{"a", "b"}, []Tombstone{mark(1), mark(2)}, []Past{{Since: 3, At: 30}, {Since: 4}}, 5, 6)
	r.NoteTombstones([]string{"c"}, nil, nil, 7, 8)
	r.NoteTombstones([]string{"d"}, []Tombstone{{}}, nil, 9, 10)
	got := r.Since(11, all)
	if want := map[string]Tombstone{"a": mark(1), "b": mark(2)}; !reflect.DeepEqual(got.Tombstones, want) {
		t.Errorf("marks %+v, want %+v", got.Tombstones, want)
	}
	want := map[string]Past{
		"a": {Since: 3, At: 30, Acked: true}, "b": {Since: 4, Acked: true},
		"c": {Since: 7, Acked: true}, "d": {Since: 9, Acked: true},
	}
	if !reflect.DeepEqual(got.Pasts, want) {
		t.Errorf("since %+v, want %+v", got.Pasts, want)
	}

	r = NewRecentWrites()
	r.NoteTombstones(nil, []Tombstone{mark(3)}, nil, 12, 13)
	got = r.Since(14, all)
	if got.Tombstones[""] != mark(3) || got.Pasts[""] != (Past{Since: 12, Acked: true}) {
		t.Errorf("of everything: %+v, %+v", got.Tombstones, got.Pasts)
	}
}

func TestAnyIsWhetherSomethingMayHaveBeenLost(t *testing.T) {
	r := NewRecentWrites()
	any := func(now int64, want bool) {
		t.Helper()
		if got := r.Any(now); got != want {
			t.Errorf("at %d: %v", now, got)
		}
	}
	for _, now := range []int64{-5 * sec, 0, 5 * sec, 1 << 62} {
		any(now, false)
	}
	r.Note(Item{Key: "a"}, -8*sec, -8*sec)
	any(-8*sec, true)
	any(2*sec-1, true)
	any(2*sec, false)
	r.Note(Item{Key: "b"}, -9*sec, -9*sec) // two goroutines note in any order
	any(2*sec-1, true)
	r.NoteTombstones(nil, nil, nil, 3*sec, 3*sec)
	any(13*sec-1, true)
	any(13*sec, false)
}

func TestTheLatestNumbersAreKept(t *testing.T) {
	q := NewQueue(9)
	const n = 2*keepNumbers + 1 // beyond which they are looked through
	for i := range uint64(n) {
		q.Add(Item{Key: string(rune('a' + i%3)), Numbers: []uint64{n - i}})
	}
	var kept []uint64
	for _, it := range q.Take(9).Items {
		kept = append(kept, it.Numbers...)
	}
	slices.Sort(kept)
	if len(kept) != keepNumbers || kept[0] != n-keepNumbers+1 || kept[keepNumbers-1] != n {
		t.Errorf("%d numbers from %d to %d", len(kept), kept[0], kept[len(kept)-1])
	}
}

func TestABatchIsEmptyIfThereIsNothingToTell(t *testing.T) {
	for _, c := range []struct {
		b     Batch
		empty bool
	}{
		{Batch{}, true},
		{Batch{Numbers: []uint64{1}}, true},
		{Batch{Items: []Item{{}}}, false},
		{Batch{Tags: []string{"t"}}, false},
		{Batch{All: true}, false},
	} {
		if c.b.Empty() != c.empty {
			t.Errorf("%+v: %v", c.b, !c.empty)
		}
	}
}
