package local

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// checkTable checks that every node is where it can be found, and that each bucket knows
// how many have passed.
func checkTable[K comparable](t *testing.T, tab *table[K, int], hash func(K) uint64) {
	t.Helper()
	passed := make([]uint64, len(tab.buckets))
	n := 0
	for i := range tab.buckets {
		b := &tab.buckets[i]
		for j := range b.nodes {
			tag, node := b.head.Load()>>(8*j)&aTag, b.nodes[j].Load()
			if node == nil {
				if tag != 0 {
					t.Errorf("slot %d of bucket %d has a tag and no node", j, i)
				}
				continue
			}
			n++
			h := hash(node.key)
			if tag != tagOf(h) {
				t.Errorf("%v has the tag %d, and not %d", node.key, tag, tagOf(h))
			}
			for k := tab.home(h); k != i; k = tab.next(h, k) {
				passed[k]++
			}
		}
	}
	for i := range tab.buckets {
		if has := tab.buckets[i].head.Load() >> passedShift; has != passed[i] && has != mostPassed {
			t.Errorf("%d have passed bucket %d, which says %d", passed[i], i, has)
		}
	}
	if n != tab.len {
		t.Errorf("%d nodes in a table of %d", n, tab.len)
	}
}

// hashes are ways to hash numbers, good ones and such as make life hard.
var hashes = map[string]func(k int) uint64{
	"mixed":        func(k int) uint64 { return rand.New(rand.NewPCG(uint64(k), 7)).Uint64() },
	"one tag":      func(k int) uint64 { return rand.New(rand.NewPCG(uint64(k), 7)).Uint64() &^ (aTag << 16) },
	"one home":     func(k int) uint64 { return 1<<63 + uint64(k&0xffff)<<16 },
	"the last":     func(k int) uint64 { return uint64(math.MaxUint32)<<32 + uint64(k&0xffff)<<16 },
	"all the same": func(int) uint64 { return 1 << 63 },
}

func TestATableHasWhatAMapHas(t *testing.T) {
	for name, hash := range hashes {
		for _, most := range []int{1, 5, 6, 7, 40, 300, 2000} {
			t.Run(fmt.Sprintf("%s, %d", name, most), func(t *testing.T) {
				tab, m := newTable[int, int](1), map[int]*node[int, int]{}
				r := rand.New(rand.NewPCG(uint64(most), 3))
				for step := range min(20*most, 10_000) {
					k := r.IntN(most * 3 / 2)
					old, n := m[k], &node[int, int]{key: k}
					switch {
					case old != nil && r.IntN(2) == 0:
						tab.find(hash(k), old).replace(n)
						m[k] = n
					case old != nil:
						tab.remove(hash(k), old)
						delete(m, k)
					case len(m) < most:
						if tab.full() {
							tab = tab.grown(hash, most)
						}
						tab.add(hash(k), n)
						m[k] = n
					}
					if got, _ := tab.get(hash(k), k); got != m[k] {
						t.Fatalf("step %d: %d is %p, want %p", step, k, got, m[k])
					}
				}
				for k := range most * 3 / 2 {
					if got, _ := tab.get(hash(k), k); got != m[k] {
						t.Errorf("in the end %d is %p, want %p", k, got, m[k])
					}
				}
				if len(tab.buckets) > len(newTable[int, int](bucketsFor(most)).buckets) {
					t.Errorf("%d buckets for %d", len(tab.buckets), most)
				}
				checkTable(t, tab, hash)
				for k, n := range m {
					tab.remove(hash(k), n)
				}
				checkTable(t, tab, hash)
				for i := range tab.buckets {
					if head := tab.buckets[i].head.Load(); head != 0 && head>>passedShift != mostPassed {
						t.Errorf("bucket %d is empty and says %#x", i, head)
					}
				}
			})
		}
	}
}

func TestATableGrowsToWhatItIsMadeFor(t *testing.T) {
	for _, most := range []int{1, 5, 6, 7, 100, 1001} {
		tab := newTable[int, int](1)
		for k := range most {
			if tab.full() {
				before := len(tab.buckets)
				if tab = tab.grown(hashes["mixed"], most); len(tab.buckets) <= before {
					t.Fatalf("%d of %d: still %d buckets", k, most, before)
				}
			}
			tab.add(hashes["mixed"](k), &node[int, int]{key: k})
		}
		if len(tab.buckets) > len(newTable[int, int](bucketsFor(most)).buckets) || tab.len > perBucket*len(tab.buckets) {
			t.Errorf("%d buckets for %d", len(tab.buckets), most)
		}
	}
	for n := range 3000 {
		if got := len(newTable[int, int](n).buckets); got < n || got%2 == 0 {
			t.Errorf("%d buckets for %d", got, n)
		}
	}
	if n := bucketsFor(math.MaxInt); n < math.MaxInt/perBucket || n > math.MaxInt/perBucket+2 {
		t.Errorf("%d buckets", n)
	}
}

// However long nodes come and go, look-ups stay short.
func TestATableStaysInOrder(t *testing.T) {
	const most = 5000
	hash, r := hashes["mixed"], rand.New(rand.NewPCG(1, 1))
	tab := newTable[int, int](bucketsFor(most))
	var held []*node[int, int]
	for k := range 30 * most {
		n := &node[int, int]{key: k}
		if len(held) < most {
			held = append(held, n)
		} else {
			i := r.IntN(most)
			tab.remove(hash(held[i].key), held[i])
			held[i] = n
		}
		tab.add(hash(k), n)
	}
	checkTable(t, tab, hash)
	hits, misses := 0, 0
	for _, n := range held {
		h := hash(n.key)
		for i := tab.home(h); tab.buckets[i].slot(n) == slots; i = tab.next(h, i) {
			hits++
		}
		h = hash(-1 - n.key)
		for i := tab.home(h); tab.buckets[i].head.Load() >= onePassed; i = tab.next(h, i) {
			misses++
		}
	}
	if hits > most*4/10 || misses > most*2 {
		t.Errorf("of %d look-ups, hits look at %d buckets too many, misses at %d", most, hits, misses)
	}
}

// What stays is found at every moment, and in its place nothing else, whatever comes,
// goes and grows around it.
func TestWhatStaysIsFoundMeanwhile(t *testing.T) {
	for _, name := range []string{"mixed", "one tag", "one home"} {
		t.Run(name, func(t *testing.T) {
			const most = 600
			hash := hashes[name]
			var now atomic.Pointer[table[int, int]]
			now.Store(newTable[int, int](1))
			stay := []int{3, 50, 77, 200}
			var wg sync.WaitGroup
			done := make(chan struct{})
			for _, k := range stay {
				wg.Go(func() {
					for last := 0; ; {
						select {
						case <-done:
							return
						default:
						}
						n, at := now.Load().get(hash(k), k)
						if n == nil {
							continue // not yet
						}
						if n.key != k || n.entry.Value < last {
							t.Errorf("%d is %d's %d, after %d", k, n.key, n.entry.Value, last)
							return
						}
						last = n.entry.Value
						at.use()
						for range 100 {
							if n, _ := now.Load().get(hash(k), k); n == nil {
								t.Errorf("%d is gone", k)
								return
							}
						}
					}
				})
			}
			r := rand.New(rand.NewPCG(1, 1))
			for round := range 20 {
				tab, held := newTable[int, int](1), map[int]*node[int, int]{}
				add := func(n *node[int, int]) {
					if tab.full() {
						tab = tab.grown(hash, most)
						now.Store(tab)
					}
					tab.add(hash(n.key), n)
					held[n.key] = n
				}
				for _, k := range stay {
					add(&node[int, int]{key: k, entry: Entry[int]{Value: round << 20}})
				}
				now.Store(tab)
				for i := range 3000 {
					k := r.IntN(most)
					old, n := held[k], &node[int, int]{key: k, entry: Entry[int]{Value: round<<20 + i}}
					switch {
					case old == nil:
						add(n)
					case slices.Contains(stay, k) || i%2 == 0:
						tab.find(hash(k), old).replace(n)
						held[k] = n
					default:
						tab.remove(hash(k), old)
						delete(held, k)
					}
				}
			}
			close(done)
			wg.Wait()
		})
	}
}
