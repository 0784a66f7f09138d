package retryqueue

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

func keys(items []Item) (list []string) {
	for _, it := range items {
		list = append(list, it.Key)
	}
	return list
}

// takeKeys takes n keys and checks which.
func takeKeys(t *testing.T, q *Queue, n int, want ...string) Batch {
	t.Helper()
	b := q.Take(n)
	if got := keys(b.Items); !slices.Equal(got, want) {
		t.Errorf("took %q, want %q", got, want)
	}
	return b
}

func has(t *testing.T, q *Queue, key string, want bool) {
	t.Helper()
	if q.Has(key) != want {
		t.Errorf("Has(%q) = %v", key, !want)
	}
}

func TestAKeyStaysUntilItIsSettled(t *testing.T) {
	q := NewQueue(10)
	has(t, q, "a", false)
	q.Add(Item{Key: "a", At: 5, Token: "t", Numbers: []uint64{1}})
	has(t, q, "a", true)
	has(t, q, "b", false)
	b := takeKeys(t, q, 10, "a")
	if want := (Item{Key: "a", At: 5, Token: "t", Numbers: []uint64{1}}); !reflect.DeepEqual(b.Items[0], want) {
		t.Errorf("%+v, want %+v", b.Items[0], want)
	}
	has(t, q, "a", true)
	takeKeys(t, q, 10)
	q.Settle(b)
	has(t, q, "a", false)
	q.Settle(b) // again: nothing
	if n := q.Len(); n != 0 {
		t.Errorf("%d left", n)
	}
}

func TestTheLastOperationCountsAndNumbersAddUp(t *testing.T) {
	q := NewQueue(10)
	numbers := []uint64{1}
	q.Add(Item{Key: "a", At: 5, Token: "t", Numbers: numbers})
	q.Add(Item{Key: "a", At: 6, Numbers: []uint64{2, 3}})
	numbers[0] = 99
	b := takeKeys(t, q, 10, "a")
	if want := (Item{Key: "a", At: 6, Token: "", Numbers: []uint64{1, 2, 3}}); !reflect.DeepEqual(b.Items[0], want) {
		t.Errorf("%+v, want %+v", b.Items[0], want)
	}
}

func TestAnOperationMeanwhileIsToldAfterwards(t *testing.T) {
	q := NewQueue(10)
	q.Add(Item{Key: "a", At: 5, Numbers: []uint64{1}})
	b := takeKeys(t, q, 10, "a")
	q.Add(Item{Key: "a", At: 6, Numbers: []uint64{2}})
	takeKeys(t, q, 10) // it is being told
	q.Settle(b)
	has(t, q, "a", true)
	b = takeKeys(t, q, 10, "a")
	if want := (Item{Key: "a", At: 6, Token: "", Numbers: []uint64{2}}); !reflect.DeepEqual(b.Items[0], want) {
		t.Errorf("%+v, want %+v", b.Items[0], want)
	}
}

func TestWhatComesBackGivesWayToWhatIsNewer(t *testing.T) {
	q := NewQueue(10)
	q.Add(Item{Key: "a", At: 5, Token: "t", Numbers: []uint64{1}})
	b := takeKeys(t, q, 10, "a")
	q.Add(Item{Key: "a", At: 6, Token: "u", Numbers: []uint64{2}})
	b.Items[0].Numbers = append(b.Items[0].Numbers, 7) // of the attempt that failed
	q.Return(b)
	b = takeKeys(t, q, 10, "a")
	if want := (Item{Key: "a", At: 6, Token: "u", Numbers: []uint64{2, 1, 7}}); !reflect.DeepEqual(b.Items[0], want) {
		t.Errorf("%+v, want %+v", b.Items[0], want)
	}
	q.Return(b)
	b = takeKeys(t, q, 10, "a")
	if want := (Item{Key: "a", At: 6, Token: "u", Numbers: []uint64{2, 1, 7}}); !reflect.DeepEqual(b.Items[0], want) {
		t.Errorf("%+v, want %+v", b.Items[0], want)
	}
	q.Settle(b)
	has(t, q, "a", false)
}

func TestKeysAreTakenInOrderAndWhatFailsGoesBehind(t *testing.T) {
	q := NewQueue(10)
	for _, k := range []string{"a", "b", "c", "d"} {
		q.Add(Item{Key: k})
	}
	b := takeKeys(t, q, 2, "a", "b")
	q.Add(Item{Key: "b"})
	q.Return(Batch{Items: b.Items[:1]})
	c := takeKeys(t, q, 10, "c", "d", "a")
	q.Settle(Batch{Items: b.Items[1:]})
	takeKeys(t, q, 10, "b")
	q.Settle(c)
	if n := q.Len(); n != 1 {
		t.Errorf("%d left, want 1", n)
	}
}

func TestTagsAreTakenTogether(t *testing.T) {
	q := NewQueue(10)
	q.AddTags([]string{"u", "t"}, []uint64{1}, Past{})
	q.AddTags([]string{"t", "v"}, []uint64{2}, Past{})
	q.AddTags(nil, []uint64{9}, Past{})
	b := q.Take(0)
	if want := (Batch{Tags: []string{"t", "u", "v"}, Pasts: make([]Past, 3), Numbers: []uint64{1, 2}}); !reflect.DeepEqual(b, want) {
		t.Errorf("%+v, want %+v", b, want)
	}
	q.AddTags([]string{"w"}, []uint64{3}, Past{})
	if c := q.Take(1); !c.Empty() {
		t.Errorf("took %+v while tags are being told", c)
	}
	for tag, want := range map[string]bool{"t": true, "w": true, "x": false} {
		if q.HasTag(tag) != want {
			t.Errorf("HasTag(%q) = %v", tag, !want)
		}
	}
	has(t, q, "t", false)
	b.Numbers = append(b.Numbers, 4)
	q.Return(b)
	b = q.Take(0)
	if want := (Batch{Tags: []string{"t", "u", "v", "w"}, Pasts: make([]Past, 4), Numbers: []uint64{3, 1, 2, 4}}); !reflect.DeepEqual(b, want) {
		t.Errorf("%+v, want %+v", b, want)
	}
	q.Settle(b)
	if q.HasTag("t") || q.Len() != 0 {
		t.Error("still there")
	}
}

func TestEverythingStandsForAllThatWaits(t *testing.T) {
	q := NewQueue(10)
	q.Add(Item{Key: "a", Numbers: []uint64{1}})
	q.AddTags([]string{"t"}, []uint64{2}, Past{})
	q.AddAll([]uint64{3}, Past{})
	q.Add(Item{Key: "b", Numbers: []uint64{4}})
	q.AddTags([]string{"u"}, []uint64{5}, Past{})
	if n := q.Len(); n != 1 {
		t.Errorf("%d left", n)
	}
	has(t, q, "any", true)
	if !q.HasTag("any") {
		t.Error("not any tag")
	}
	b := q.Take(10)
	slices.Sort(b.Numbers)
	if want := (Batch{All: true, Numbers: []uint64{1, 2, 3, 4, 5}}); !reflect.DeepEqual(b, want) {
		t.Errorf("%+v, want %+v", b, want)
	}
	q.Add(Item{Key: "c", Numbers: []uint64{6}}) // it may come after the invalidation
	has(t, q, "any", true)
	q.Return(b)
	b = q.Take(10)
	slices.Sort(b.Numbers)
	if want := (Batch{All: true, Numbers: []uint64{1, 2, 3, 4, 5, 6}}); !reflect.DeepEqual(b, want) {
		t.Errorf("%+v, want %+v", b, want)
	}
	q.Add(Item{Key: "c"})
	q.Settle(b)
	has(t, q, "any", false)
	has(t, q, "c", true)
}

func TestWhatComesBackIsCoveredByEverything(t *testing.T) {
	q := NewQueue(10)
	q.Add(Item{Key: "a", Numbers: []uint64{1}})
	q.AddTags([]string{"t"}, []uint64{2}, Past{})
	b := q.Take(10)
	q.AddAll(nil, Past{})
	q.Return(b)
	b = q.Take(10)
	slices.Sort(b.Numbers)
	if want := (Batch{All: true, Numbers: []uint64{1, 2}}); !reflect.DeepEqual(b, want) {
		t.Errorf("%+v, want %+v", b, want)
	}
}

func TestWhatDoesNotFitIsReplacedByEverything(t *testing.T) {
	for name, add := range map[string]func(*Queue) bool{
		"a key":  func(q *Queue) bool { return q.Add(Item{Key: "c", Numbers: []uint64{3}}) },
		"a tag":  func(q *Queue) bool { return q.AddTags([]string{"t"}, []uint64{3}, Past{}) },
		"a lot":  func(q *Queue) bool { return q.AddTags([]string{"t", "u", "v"}, []uint64{3}, Past{}) },
		"no key": func(q *Queue) bool { return q.Add(Item{Key: "", Numbers: []uint64{3}}) },
	} {
		q := NewQueue(2)
		q.Add(Item{Key: "a", Numbers: []uint64{1}})
		if q.Add(Item{Key: "b", Numbers: []uint64{2}}) || q.Add(Item{Key: "a"}) {
			t.Errorf("%s: full too early", name)
		}
		if !add(q) {
			t.Errorf("%s: not full", name)
		}
		if add(q) {
			t.Errorf("%s: full twice", name)
		}
		b := q.Take(10)
		slices.Sort(b.Numbers)
		if want := (Batch{All: true, Numbers: []uint64{1, 2, 3, 3}}); !reflect.DeepEqual(b, want) {
			t.Errorf("%s: %+v, want %+v", name, b, want)
		}
	}
}

func TestTheNumberOfNumbersIsBounded(t *testing.T) {
	q := NewQueue(10)
	for n := range uint64(10 * keepNumbers) {
		q.Add(Item{Key: string(rune('a' + n%3)), Numbers: []uint64{n}})
	}
	q.AddTags([]string{"t"}, []uint64{10 * keepNumbers}, Past{})
	b := q.Take(10)
	all := b.Numbers
	for _, it := range b.Items {
		all = append(all, it.Numbers...)
	}
	slices.Sort(all)
	if len(all) < keepNumbers || len(all) > 2*keepNumbers+1 {
		t.Fatalf("%d numbers", len(all))
	}
	for i, n := range all {
		if n != 10*keepNumbers-uint64(len(all)-1-i) {
			t.Fatalf("%d is there, in place of a later one", n)
		}
	}
}

// waits starts a Wait in a bubble, and returns whether it has ended.
func waits(q *Queue) (ended func() bool) {
	var done bool
	var mu sync.Mutex
	go func() {
		err := q.Wait(context.Background())
		mu.Lock()
		defer mu.Unlock()
		done = err == nil
	}()
	synctest.Wait()
	return func() bool {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return done
	}
}

func TestWaitWaitsForWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(10)
		if !waits(q)() {
			t.Error("waits for nothing")
		}
		q.Add(Item{Key: "a"})
		q.AddTags([]string{"t"}, nil, Past{})
		ended := waits(q)
		first := q.Take(10)
		q.Add(Item{Key: "later"})
		q.Settle(Batch{Items: first.Items})
		if ended() {
			t.Error("the tag is not told")
		}
		q.Settle(Batch{Tags: first.Tags})
		if !ended() {
			t.Error("waits for what came later")
		}
		q.Settle(q.Take(10))
	})
}

func TestWaitWaitsForWhatIsAddedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(10)
		q.Add(Item{Key: "a"})
		q.Add(Item{Key: "b"})
		ended := waits(q)
		b := q.Take(1)
		q.Add(Item{Key: "a"})
		second := waits(q)
		q.Return(b) // what it waits for is now told with what came later
		b = q.Take(1)
		q.Settle(b)
		if ended() {
			t.Error("a is not told")
		}
		q.Settle(q.Take(1))
		if !ended() || !second() {
			t.Error("all is told")
		}
	})
}

func TestWaitWaitsForWhatIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(10)
		q.Add(Item{Key: "a"})
		ended := waits(q)
		q.AddAll(nil, Past{})
		b := q.Take(1)
		if ended() {
			t.Error("nothing is told")
		}
		q.Settle(b)
		if !ended() {
			t.Error("all is told")
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	q := NewQueue(10)
	q.Add(Item{Key: "a"})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := q.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestLookingAllocatesNothing(t *testing.T) {
	q := NewQueue(10)
	look := func() {
		q.Has("b")
		q.HasTag("b")
		q.Len()
	}
	for range 2 {
		if n := testing.AllocsPerRun(100, look); n != 0 {
			t.Errorf("%v allocations", n)
		}
		q.Add(Item{Key: "a"})
	}
}
