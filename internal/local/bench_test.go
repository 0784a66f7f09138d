package local

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/redistest"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// BenchmarkGet compares hits, with -cpu 1 and more, side by side with golang-lru's
// own cache and with simplelru behind one lock. The tier's time has that of its
// clock in it, which the others don't have.
func BenchmarkGet(b *testing.B) {
	b.Run("string", func(b *testing.B) {
		benchmarkGet(b, func(n uint64) string { return fmt.Sprintf("key-%08d", n) }, whole)
	})
	b.Run("int64", func(b *testing.B) {
		benchmarkGet(b, func(n uint64) int64 { return int64(n) }, number)
	})
}

func benchmarkGet[K comparable](b *testing.B, key func(uint64) K, decode func(string) (K, bool)) {
	const n, capacity = 16_384, 20_000
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.01, 1, n-1)
	keys := make([]K, n)
	for i := range keys {
		keys[i] = key(zipf.Uint64())
	}
	tr, f := tier(b, capacity, decode)
	tiny, tf := tierBy(b, TinyLFU, capacity, decode)
	plain, err := lru.New[K, int](capacity)
	if err != nil {
		b.Fatal(err)
	}
	simple, err := simplelru.NewLRU[K, int](capacity, nil)
	if err != nil {
		b.Fatal(err)
	}
	for i, k := range keys {
		enc := fmt.Sprint(k)
		tr.Put(k, enc, entry(i), f.Token(enc))
		tiny.Put(k, enc, entry(i), tf.Token(enc))
		plain.Add(k, i)
		simple.Add(k, i)
	}
	var mu sync.Mutex
	for _, c := range []struct {
		name string
		get  func(K)
	}{
		{"tier", func(k K) { tr.Get(k, Now()) }},
		{"tier-tinylfu", func(k K) { tiny.Get(k, Now()) }},
		{"tier-without-clock", func(k K) { tr.Get(k, 0) }},
		{"golang-lru", func(k K) { plain.Get(k) }},
		{"simplelru-mutex", func(k K) {
			mu.Lock()
			simple.Get(k)
			mu.Unlock()
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					c.get(keys[i%n])
				}
			})
		})
	}
}

// BenchmarkPut measures puts into a full tier: each evicts.
func BenchmarkPut(b *testing.B) {
	for _, c := range []struct {
		name   string
		policy Policy
		decode func(string) (string, bool)
	}{{"decoded", LRU, whole}, {"indexed", LRU, nil}, {"decoded-tinylfu", TinyLFU, whole}} {
		b.Run(c.name, func(b *testing.B) {
			keys := make([]string, 1<<16)
			for i := range keys {
				keys[i] = strconv.Itoa(i)
			}
			tr, f := tierBy(b, c.policy, len(keys)/4, c.decode)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				put(tr, f, keys[i%len(keys)], i)
			}
		})
	}
}

func BenchmarkNow(b *testing.B) {
	for b.Loop() {
		Now()
	}
}

// An entry's cost is what is allocated beyond the key and the value themselves. It is averaged
// over capacities from one power of two to the next, since Go's maps double.
func TestAnEntryCosts90BytesAtMost(t *testing.T) {
	redistest.Serial(t)
	redistest.Thorough(t)
	point := func(i int) point { return point{i, i} }
	for name, c := range map[string]struct{ got, most float64 }{
		"string":           {cost(t, LRU, strconv.Itoa, whole) - 16 - 8, 75},
		"int64":            {cost(t, LRU, func(i int) int64 { return int64(i) }, number) - 8 - 8, 82},
		"point, indexed":   {cost(t, LRU, point, nil) - 16 - 8, 125},
		"string, full":     {cost(t, LRU, strconv.Itoa, whole, full) - 16 - 8, 75},
		"string, TinyLFU":  {cost(t, TinyLFU, strconv.Itoa, whole, full) - 16 - 8, 90},
		"int64, TinyLFU":   {cost(t, TinyLFU, func(i int) int64 { return int64(i) }, number, full) - 8 - 8, 98},
		"TinyLFU, not yet": {cost(t, TinyLFU, strconv.Itoa, whole) - 16 - 8, 75},
	} {
		t.Logf("%s: %.0f bytes", name, c.got)
		if c.got > c.most {
			t.Errorf("%s: %.0f bytes an entry, want %v", name, c.got, c.most)
		}
	}
}

// full says that entries were evicted, so that all is there that a policy needs for that.
const full = true

func cost[K comparable](t *testing.T, p Policy, key func(int) K, decode func(string) (K, bool), full ...bool) float64 {
	const low, sizes = 8192, 8
	keys := make([]K, 2*low)
	encs := make([]string, len(keys))
	for i := range keys {
		keys[i] = key(i)
		encs[i] = fmt.Sprint(keys[i])
	}
	sum := 0.0
	for i := range sizes {
		n := low + i*low/sizes
		capacity := 2 * n // room for all
		if len(full) > 0 {
			capacity = n / 2
		}
		f := fence.NewTable() // which a cache has without a tier as well
		before := heap()
		tr, err := New[K, int](Config[K]{Capacity: capacity, Policy: p, Fences: f, Decode: decode})
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			tr.Put(keys[i], encs[i], entry(i), f.Token(encs[i]))
		}
		sum += float64(heap()-before) / float64(tr.Len())
		runtime.KeepAlive(tr)
	}
	runtime.KeepAlive(keys)
	runtime.KeepAlive(encs)
	return sum / sizes
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
