package local

import (
	"fmt"
	"math"
	"testing"

	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/redistest"
)

// never reports of no entry that it is invalid.
func never(*Head) bool { return false }

func lasting(v int) *Entry[int] {
	return &Entry[int]{Head: Head{Deadline: math.MaxInt64, Expires: math.MaxInt64}, Value: v}
}

func (t *Tier[K, V]) bucketCount() (n int) {
	for i := range t.shards {
		n += len(t.shards[i].table.Load().buckets)
	}
	return n
}

// A tier takes memory for what is in it, and not for its capacity, also when that is made smaller.
func TestASmallerTierThatIsAlmostEmptyStaysSmall(t *testing.T) {
	for _, p := range []Policy{LRU, TinyLFU} {
		f := fence.NewTable()
		tr, err := New[string, int](Config[string]{Capacity: 1 << 24, Policy: p, Fences: f, Decode: whole})
		if err != nil {
			t.Fatal(err)
		}
		for k := range 100 {
			tr.Put(fmt.Sprint(k), fmt.Sprint(k), lasting(k), f.Token(fmt.Sprint(k)))
		}
		before := tr.bucketCount()
		if err := tr.Resize(1 << 23); err != nil {
			t.Fatal(err)
		}
		if n := tr.bucketCount(); n > before {
			t.Errorf("policy %d: %d buckets after %d, for 100 entries", p, n, before)
		}
		for k := range 100 {
			if e, ok := tr.Get(fmt.Sprint(k), 0); !ok || e.Value != k {
				t.Errorf("policy %d: %d is lost", p, k)
			}
		}
	}
}

// TinyLFU knows about four keys that have left for each entry, and takes half as many as entries
// for recent ones, also when the tier has become smaller.
func TestTheHistoryOfASmallerTierIsSmaller(t *testing.T) {
	redistest.Serial(t)
	for _, from := range []int{400, 401, 6400, 6401} {
		f := fence.NewTable()
		tr, err := New[string, int](Config[string]{Capacity: from, Policy: TinyLFU, Fences: f, Decode: whole})
		if err != nil {
			t.Fatal(err)
		}
		put := func(k int) { tr.Put(fmt.Sprint(k), fmt.Sprint(k), lasting(k), f.Token(fmt.Sprint(k))) }
		for k := range 8 * from {
			put(k)
		}
		const to = 64
		if err := tr.Resize(to); err != nil {
			t.Fatal(err)
		}
		entries := 0
		for i := range tr.shards {
			o := tr.shards[i].order
			room := to / len(tr.shards)
			if n := len(o.history.buckets); n >= 2*((room+perItemBucket-1)/perItemBucket) {
				t.Errorf("from %d: %d buckets of history for %d entries", from, n, room)
			}
			numbers := o.history.numbers
			o.history.shrink(room) // counts them
			if numbers != o.history.numbers {
				t.Errorf("from %d: %v items, and counted are %v", from, numbers, o.history.numbers)
			}
			entries += o.len()
		}
		if entries != to || tr.Len() != to || tr.Capacity() != to {
			t.Errorf("from %d: %d entries, %d, room for %d", from, entries, tr.Len(), tr.Capacity())
		}
		for k := range 8 * from { // it goes on
			put(-k)
		}
		if n := tr.Len(); n != to {
			t.Errorf("from %d: %d entries in the end", from, n)
		}
	}
}

// Where the number of buckets allows it, the youngest of what is known is kept.
func TestAHistoryKeepsTheYoungestWhenItShrinks(t *testing.T) {
	var x history
	x.fit(1)
	for x.fit(32); len(x.buckets) < 8; {
		x.fit(32)
	}
	var c clock
	hash := func(i int) uint64 { return uint64(i) * 0x9e3779b97f4a7c15 }
	const keys = 40
	for i := range keys {
		x.add(hash(i), c.frequency(3), refused)
	}
	x.shrink(2 * perItemBucket)
	if len(x.buckets) != 2 || x.numbers[refused] == 0 || x.numbers[refused] > 32 {
		t.Fatalf("%d buckets, %v items", len(x.buckets), x.numbers)
	}
	for i := keys - 1; i > keys-8; i-- {
		if uses, how, _ := x.take(hash(i), &c); uses != 3 || how != refused {
			t.Errorf("key %d: %d uses, left by %d", i, uses, how)
		}
	}
}
