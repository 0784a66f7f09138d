package local

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/fence"
)

type point struct{ X, Y int }

func tier[K comparable](t testing.TB, capacity int, decode func(string) (K, bool)) (*Tier[K, int], *fence.Table) {
	t.Helper()
	return tierBy(t, LRU, capacity, decode)
}

func tierBy[K comparable](t testing.TB, p Policy, capacity int, decode func(string) (K, bool)) (*Tier[K, int], *fence.Table) {
	t.Helper()
	f := fence.NewTable()
	tr, err := New[K, int](Config[K]{Capacity: capacity, Policy: p, Fences: f, Decode: decode})
	if err != nil {
		t.Fatal(err)
	}
	return tr, f
}

// whole decodes keys that are their own encodings.
func whole(s string) (string, bool) { return s, true }

func number(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func entry(v int) *Entry[int] { return until(v, math.MaxInt64) }

func until(v int, deadline int64) *Entry[int] {
	return &Entry[int]{Head: Head{Deadline: deadline}, Value: v}
}

func put(tr *Tier[string, int], f *fence.Table, k string, v int) bool {
	return tr.Put(k, k, entry(v), f.Token(k))
}

func has[K comparable](tr *Tier[K, int], k K) bool {
	_, ok := tr.Get(k, Now())
	return ok
}

func TestCapacityIsExactHoweverManyShards(t *testing.T) {
	for _, c := range []struct{ capacity, shards int }{
		{1, 1}, {2, 1}, {255, 1}, {512, 1}, {1000, 1}, {1023, 1}, {1024, 4}, {2047, 4}, {2048, 8},
		{5000, 16}, {16_383, 16}, {16_384, 16}, {100_003, 16}, {math.MaxInt, 16},
	} {
		tr, f := tier(t, c.capacity, whole)
		sum := 0
		for i := range tr.shards {
			sum += tr.shards[i].capacity
		}
		if sum != c.capacity || len(tr.shards) != c.shards {
			t.Errorf("capacity %d: %d in %d shards, want %d shards", c.capacity, sum, len(tr.shards), c.shards)
		}
		for i := range 2 * min(c.capacity, 5000) {
			put(tr, f, strconv.Itoa(i), i)
			if n := tr.Len(); n > c.capacity {
				t.Fatalf("capacity %d: %d entries", c.capacity, n)
			}
		}
		if n := tr.Len(); len(tr.shards) == 1 && n != c.capacity {
			t.Errorf("capacity %d: %d entries", c.capacity, n)
		}
	}
}

func TestNewRefusesWhatMakesNoTier(t *testing.T) {
	for name, cfg := range map[string]Config[string]{
		"no room":       {Fences: fence.NewTable()},
		"less than no":  {Capacity: -1, Fences: fence.NewTable()},
		"fence missing": {Capacity: 1},
	} {
		if _, err := New[string, int](cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestWhatOneProcessorWritesAnotherDoesNotHaveToRead(t *testing.T) {
	if strconv.IntSize != 64 {
		t.Skip("the layout is made for 64 bits")
	}
	if n := reflect.TypeFor[shard[string, int]]().Size(); n != 128 {
		t.Errorf("a shard has %d bytes", n)
	}
	if n := reflect.TypeFor[shard[string, int]]().Field(2).Offset; n != 64 {
		t.Errorf("what writers use begins at %d", n)
	}
	if n := reflect.TypeFor[bucket[string, int]]().Size(); n != 64 {
		t.Errorf("a table's bucket has %d bytes", n)
	}
	if n := reflect.TypeFor[part[string]]().Size(); n != 64 {
		t.Errorf("a part of the index has %d bytes", n)
	}
}

func TestDeadlinesAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, f := tier(t, 10, whole)
		tr.Put("k", "k", until(1, Now()+int64(time.Second)), f.Token("k"))
		put(tr, f, "ever", 1)
		time.Sleep(time.Second - 1)
		if !has(tr, "k") {
			t.Error("gone too early")
		}
		time.Sleep(time.Nanosecond)
		if has(tr, "k") {
			t.Error("still there")
		}
		time.Sleep(200 * 365 * 24 * time.Hour)
		if !has(tr, "ever") {
			t.Error("what has no deadline is gone")
		}
		if tr.Len() != 2 {
			t.Errorf("%d entries: a read removes none", tr.Len())
		}
	})
}

func TestTheClockOnlyGoesForward(t *testing.T) {
	last := Now()
	for range 10_000 {
		now := Now()
		if now < last {
			t.Fatalf("%d after %d", now, last)
		}
		last = now
	}
	synctest.Test(t, func(t *testing.T) {
		start := Now()
		if again := Now(); again != start {
			t.Errorf("%d and %d, and the bubble's clock stands still", start, again)
		}
		for _, d := range []time.Duration{1, time.Millisecond, 30 * 24 * time.Hour} {
			before := Now()
			time.Sleep(d)
			if got := Now() - before; got != int64(d) {
				t.Errorf("%v is %v", d, time.Duration(got))
			}
		}
	})
}

func TestRangeGivesEveryEntryAndStopsWhenTold(t *testing.T) {
	tr, f := tier(t, 5000, whole)
	want := map[string]int{}
	for i := range 200 {
		k := strconv.Itoa(i)
		put(tr, f, k, i)
		want[k] = i
	}
	got := map[string]int{}
	tr.Range(func(k string, e *Entry[int]) bool {
		got[k] = e.Value
		return true
	})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%d of %d entries, or other values", len(got), len(want))
	}
	calls := 0
	tr.Range(func(k string, _ *Entry[int]) bool {
		tr.Remove(k) // no lock is held
		calls++
		return calls < 3
	})
	if calls != 3 || tr.Len() != 197 {
		t.Errorf("%d calls, %d entries left", calls, tr.Len())
	}
}

func TestAClosedTierHoldsNothing(t *testing.T) {
	tr, f := tier(t, 10, whole)
	put(tr, f, "a", 1)
	tr.Close()
	tr.Close()
	stored := map[string]bool{
		"Put":      put(tr, f, "b", 1),
		"PutMoved": tr.PutAndBump("b", "b", entry(1), f.Move("b")),
		"Swap":     tr.Swap("b", "b", entry(1), f.Token("b")),
	}
	for name, ok := range stored {
		if ok {
			t.Errorf("%s is not refused", name)
		}
	}
	if tr.Len() != 0 {
		t.Errorf("%d entries", tr.Len())
	}
}

func TestRemoveOfWhatIsNoKeyRemovesNothing(t *testing.T) {
	tr, f := tier(t, 10, number)
	tr.Put(7, "7", entry(1), f.Token("7"))
	if tr.Remove("seven") || tr.Remove("8") || tr.Len() != 1 {
		t.Errorf("%d entries", tr.Len())
	}
	if !tr.Remove("7") || tr.Len() != 0 {
		t.Errorf("%d entries", tr.Len())
	}
}

// A key that is not equal to itself must not fill the tier with entries that can't
// be found to be removed, nor keep a writer busy for ever.
func TestKeysThatAreNotEqualToThemselvesAreNotHeld(t *testing.T) {
	tr, f := tier[float64](t, 2, nil)
	for range 10 {
		tr.Put(math.NaN(), "nan", entry(1), f.Token("nan"))
		tr.Swap(math.NaN(), "nan", entry(1), f.Token("nan"))
		before := f.Token("nan")
		tr.PutAndBump(math.NaN(), "nan", entry(1), f.Move("nan"))
		if f.Valid("nan", before) {
			t.Fatal("the write has not moved the key")
		}
	}
	if tr.Len() != 0 {
		t.Errorf("%d entries", tr.Len())
	}
	checkIndex(t, tr)
}

// A key whose comparison panics is a mistake of the caller, who may recover from
// it: no lock may stay behind.
func TestAPanickingKeyLeavesNoLock(t *testing.T) {
	for _, capacity := range []int{10, 5000} {
		tr, f := tier[any](t, capacity, nil)
		attempt := func(name string, do func()) {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of a slice does not panic", name)
				}
			}()
			do()
		}
		attempt("Get", func() { tr.Get([]int{1}, Now()) })
		attempt("Put", func() { tr.Put([]int{1}, "1", entry(1), f.Token("1")) })
		for i := range tr.shards {
			if !tr.shards[i].mu.TryLock() {
				t.Fatalf("capacity %d: shard %d is locked", capacity, i)
			}
			tr.shards[i].mu.Unlock()
		}
	}
}

func TestAHitWaitsForNoLock(t *testing.T) {
	tr, f := tier(t, 10, whole)
	put(tr, f, "k", 1)
	s := tr.shard(tr.hash("k"))
	s.mu.Lock()
	defer s.mu.Unlock()
	done := make(chan bool)
	go func() {
		_, any := tr.Peek("k")
		done <- any && has(tr, "k")
	}()
	select {
	case ok := <-done:
		if !ok {
			t.Error("not found")
		}
	case <-time.After(10 * time.Second):
		t.Error("a hit waits for a writer")
	}
}

func TestGetAllocatesNothing(t *testing.T) {
	type tenant struct {
		Name string
		ID   int64
		Tags [2]uint8
	}
	getAllocatesNothing(t, "some words", "other words")
	getAllocatesNothing(t, int64(1<<40), int64(7))
	getAllocatesNothing(t, point{1, 2}, point{2, 1})
	getAllocatesNothing(t, tenant{"acme", 1, [2]uint8{1, 2}}, tenant{"acme", 2, [2]uint8{1, 2}})
}

func getAllocatesNothing[K comparable](t *testing.T, here, missing K) {
	t.Helper()
	for _, capacity := range []int{10, 10_000} {
		tr, f := tier[K](t, capacity, nil)
		enc := fmt.Sprint(here)
		tr.Put(here, enc, entry(1), f.Token(enc))
		if n := testing.AllocsPerRun(200, func() {
			if !has(tr, here) || has(tr, missing) {
				t.Fatal("not what was put")
			}
		}); n != 0 {
			t.Errorf("%T, capacity %d: %v allocations", here, capacity, n)
		}
	}
}
