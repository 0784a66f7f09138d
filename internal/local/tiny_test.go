package local

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"testing"

	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/redistest"
)

// A trace is read, and each miss of it is filled.
func hitsBy(t *testing.T, p Policy, capacity int, bytes int64, trace []int) int {
	t.Helper()
	f := fence.NewTable()
	tr, err := New[string, int](Config[string]{Capacity: capacity, Bytes: bytes, Policy: p, Fences: f, Decode: whole})
	if err != nil {
		t.Fatal(err)
	}
	hits := 0
	for _, n := range trace {
		k := strconv.Itoa(n)
		if _, ok := tr.Get(k, 0); ok {
			hits++
		} else if !tr.Put(k, k, sized(n, 1), f.Token(k)) {
			t.Fatal("not stored")
		}
		if tr.Len() > capacity || bytes > 0 && tr.Bytes() > bytes {
			t.Fatalf("%d entries of %d bytes", tr.Len(), tr.Bytes())
		}
	}
	checkTables(t, tr)
	for i := range tr.shards {
		checkOrder(t, tr.shards[i].order)
	}
	return hits
}

func TestTinyLFUKeepsWhatLRULoses(t *testing.T) {
	redistest.Serial(t)
	redistest.Thorough(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rnd, 1.05, 1, 50_000)
	scan := func(i int) int { return 1_000_000 + i }
	for _, c := range []struct {
		name  string
		next  func(i int) int
		times float64 // the least hits, as a share of LRU's
		least float64 // and of all reads
	}{
		{"a loop over more than there is room for", func(i int) int { return i % 1500 }, 0, 0.35},
		{"skewed", func(int) int { return int(zipf.Uint64()) }, 1.03, 0},
		{"skewed, with scans", func(i int) int {
			if i/4000%2 == 1 {
				return scan(i)
			}
			return int(zipf.Uint64())
		}, 1.10, 0},
		// What LRU is best at must not be bad.
		{"shifting", func(i int) int { return i/20 + int(zipf.Uint64())%1000 }, 0.97, 0},
		{"all anew after a while", func(i int) int { return i/50_000*100_000 + int(zipf.Uint64()) }, 0.93, 0},
	} {
		trace := make([]int, 150_000)
		for i := range trace {
			trace[i] = c.next(i)
		}
		for _, b := range []struct {
			capacity int
			bytes    int64
		}{{1000, 0}, {4096, 0}, {1 << 30, 1000}} {
			if b.capacity == 4096 && c.least > 0 {
				continue // all of the loop has room
			}
			lru, tiny := hitsBy(t, LRU, b.capacity, b.bytes, trace), hitsBy(t, TinyLFU, b.capacity, b.bytes, trace)
			t.Logf("%s, %d entries, %d bytes: %d hits of %d, LRU %d", c.name, b.capacity, b.bytes, tiny, len(trace), lru)
			if float64(tiny) < c.times*float64(lru) || float64(tiny) < c.least*float64(len(trace)) {
				t.Errorf("%s, %d entries, %d bytes: %d hits, LRU %d, want %v times as many, and %v of all", c.name, b.capacity, b.bytes, tiny, lru, c.times, c.least)
			}
		}
	}
}

// What is read twice remains, whatever the capacity and the hash, while three times as many keys
// as there is room for are read once. Of the keys that have left, one in thousands is mistaken for
// another one.
func TestAScanDisplacesNothingAtAnyCapacity(t *testing.T) {
	for capacity := 10; capacity <= 500; capacity += 1 + capacity/100 {
		for _, twice := range []bool{true, false} {
			tr, f := tierBy(t, TinyLFU, capacity, whole)
			read := func(k string) {
				if !has(tr, k) {
					put(tr, f, k, 1)
				}
			}
			for i := range capacity / 2 {
				if k := fmt.Sprint("popular", i); twice {
					read(k)
					read(k)
				} else {
					read(k) // and is the older one: a key that was used as often does not displace it
				}
			}
			for i := range 3 * capacity {
				read(fmt.Sprint("scan", i))
			}
			left := 0
			for i := range capacity / 2 {
				if !has(tr, fmt.Sprint("popular", i)) {
					left++
				}
			}
			if left > capacity/20 {
				t.Errorf("capacity %d, read twice %v: %d of %d have left", capacity, twice, left, capacity/2)
			}
		}
	}
}

// An entry that is invalidated again and again, and read in between, is no stranger.
func TestTinyLFURemembersWhatWasInvalidated(t *testing.T) {
	tr, f := tierBy(t, TinyLFU, 100, whole)
	for i := range 200 {
		put(tr, f, strconv.Itoa(i), 1)
	}
	const hot = "hot"
	for range 5 {
		put(tr, f, hot, 1)
		has(tr, hot)
		tr.Remove(hot)
	}
	put(tr, f, hot, 1)
	n, _ := tr.shard(tr.hash(hot)).table.Load().get(tr.hash(hot), hot)
	if uses := tr.shards[0].order.clock.uses(n.frequency); uses < 10 {
		t.Errorf("it was put and read 5 times, and has a frequency of %d", uses)
	}
	if share := tr.shards[0].order.share; share != initialShare {
		t.Errorf("an invalidation has moved the window's share to %v", share)
	}
}

func TestANodeThatHasLeftHoldsNoOther(t *testing.T) {
	for _, p := range []Policy{LRU, TinyLFU} {
		tr, f := tierBy(t, p, 10, whole)
		var left []*node[string, int]
		for i := range 50 {
			put(tr, f, strconv.Itoa(i), i)
			left = append(left, nodesOf(tr)...)
		}
		put(tr, f, "49", 1) // replaced
		tr.Remove("48")
		for _, n := range left {
			if got, _ := tr.shards[0].table.Load().get(tr.hash(n.key), n.key); got != n && (n.older != nil || n.younger != nil) {
				t.Fatalf("policy %d: %s has left and holds others", p, n.key)
			}
		}
	}
}

func TestFrequenciesAreHalvedInEachPeriod(t *testing.T) {
	var c clock
	f := c.frequency(100)
	for period, want := range []int{15, 7, 3, 1, 0, 0} {
		if got := c.uses(f); got != want {
			t.Errorf("after %d periods %d is left, want %d", period, got, want)
		}
		for range perPeriod * 3 {
			c.count(3)
		}
	}
	c.period = 1<<16 - 1
	f = c.frequency(8)
	for range perPeriod {
		c.count(0) // as of one node
	}
	if got := c.uses(f); c.period != 0 || got != 4 {
		t.Errorf("where the number of the period wraps around to %d, %d is left", c.period, got)
	}
}

func TestAHistoryThatGrowsForgetsNothing(t *testing.T) {
	var x history
	var c clock
	if n, how, recent := x.take(1, &c); n != 0 || how != 0 || recent {
		t.Error("an empty one knows a key")
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	hashes := make([]uint64, 100)
	for i := range hashes {
		hashes[i] = rnd.Uint64()
	}
	x.fit(100)
	if len(x.buckets) != 25 {
		t.Errorf("%d buckets for 100 nodes", len(x.buckets))
	}
	for i, h := range hashes {
		x.add(h, c.frequency(1+i%15), departure(1+i%3))
	}
	for _, nodes := range []int{190, 200, 399, 1600, 5} {
		x.fit(nodes)
	}
	if len(x.buckets) != 200 {
		t.Errorf("%d buckets for at most 1600 nodes, from 25 on", len(x.buckets))
	}
	for i, h := range hashes {
		if n, how, _ := x.take(h, &c); n != 1+i%15 || how != departure(1+i%3) {
			t.Errorf("key %d: %d uses, departure %d", i, n, how)
		}
		if n, how, _ := x.take(h, &c); n != 0 || how != 0 {
			t.Errorf("key %d is there twice", i)
		}
	}
	if size := reflect.TypeFor[bucketOfItems]().Size(); size != 64 {
		t.Errorf("a bucket has %d bytes", size)
	}
}
