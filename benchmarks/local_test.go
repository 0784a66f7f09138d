package benchmarks

import (
	"context"
	"errors"
	"testing"
	"time"

	theine "github.com/Yiling-J/theine-go"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/strategy"
	"github.com/dgraph-io/ristretto/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/jellydator/ttlcache/v3"
	"github.com/maypok86/otter/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/viccon/sturdyc"
)

var errMissed = errors.New("a key is missing")

// inProcess is a library that keeps values in the process.
type inProcess struct {
	name string
	open func(b *testing.B, capacity int) memory
}

// memory is one of its caches.
type memory struct {
	set  func(k string, v []byte)
	get  func(k string) bool
	wait func() // until what was set is there; nil: at once
}

// evicting are those whose policy of eviction is compared: inProcesses, and other policies of
// the same libraries.
var evicting = append(inProcesses[1:], // a map evicts nothing
	inProcess{"cache-tinylfu", func(b *testing.B, capacity int) memory {
		c, err := cache.New[string, []byte](nil, "bench", cache.LocalOnly(), cache.WithStrategy(strategy.TinyLFU(capacity), strategy.TTL(life)))
		must(b, err)
		b.Cleanup(func() { c.Close() })
		return ours(b, c)
	}},
	inProcess{"golang-lru-2q", func(b *testing.B, capacity int) memory {
		c, err := lru.New2Q[string, []byte](max(capacity, 4)) // below, it has no room for what it has evicted
		must(b, err)
		return memory{set: func(k string, v []byte) { c.Add(k, v) }, get: func(k string) bool { _, ok := c.Get(k); return ok }}
	}})

// inProcesses are those that know nothing of Redis. Where a library knows lifetimes,
// they are used. The first is the physical limit: a map without writers.
var inProcesses = []inProcess{
	{"map", func(*testing.B, int) memory {
		m := map[string][]byte{}
		return memory{set: func(k string, v []byte) { m[k] = v }, get: func(k string) bool { _, ok := m[k]; return ok }}
	}},
	{"cache-localonly", func(b *testing.B, capacity int) memory {
		c, err := cache.New[string, []byte](nil, "bench", cache.LocalOnly(), cache.WithStrategy(strategy.LRU(capacity), strategy.TTL(life)))
		must(b, err)
		b.Cleanup(func() { c.Close() })
		return ours(b, c)
	}},
	{"golang-lru", func(b *testing.B, capacity int) memory {
		c, err := lru.New[string, []byte](capacity)
		must(b, err)
		return memory{set: func(k string, v []byte) { c.Add(k, v) }, get: func(k string) bool { _, ok := c.Get(k); return ok }}
	}},
	{"golang-lru-expirable", func(_ *testing.B, capacity int) memory {
		c := expirable.NewLRU[string, []byte](capacity, nil, life)
		return memory{set: func(k string, v []byte) { c.Add(k, v) }, get: func(k string) bool { _, ok := c.Get(k); return ok }}
	}},
	{"otter", func(b *testing.B, capacity int) memory {
		c := otter.Must(&otter.Options[string, []byte]{MaximumSize: capacity, ExpiryCalculator: otter.ExpiryWriting[string, []byte](life)})
		b.Cleanup(func() { c.StopAllGoroutines() })
		return memory{
			set: func(k string, v []byte) { c.Set(k, v) }, get: func(k string) bool { _, ok := c.GetIfPresent(k); return ok },
			wait: c.CleanUp,
		}
	}},
	{"theine", func(b *testing.B, capacity int) memory {
		c, err := theine.NewBuilder[string, []byte](int64(capacity)).Build()
		must(b, err)
		b.Cleanup(c.Close)
		return memory{
			set: func(k string, v []byte) { c.SetWithTTL(k, v, 1, life) }, get: func(k string) bool { _, ok := c.Get(k); return ok },
			wait: c.Wait,
		}
	}},
	{"ristretto", func(b *testing.B, capacity int) memory {
		c, err := ristretto.NewCache(&ristretto.Config[string, []byte]{
			NumCounters: int64(10 * capacity), MaxCost: int64(capacity), BufferItems: 64, IgnoreInternalCost: true,
		})
		must(b, err)
		b.Cleanup(c.Close)
		return memory{
			set: func(k string, v []byte) { c.SetWithTTL(k, v, 1, life) }, get: func(k string) bool { _, ok := c.Get(k); return ok },
			wait: c.Wait,
		}
	}},
	{"sturdyc", func(_ *testing.B, capacity int) memory {
		c := sturdyc.New[[]byte](capacity, 64, life, 10)
		return memory{set: func(k string, v []byte) { c.Set(k, v) }, get: func(k string) bool { _, ok := c.Get(k); return ok }}
	}},
	{"ttlcache", func(_ *testing.B, capacity int) memory {
		c := ttlcache.New(ttlcache.WithTTL[string, []byte](life), ttlcache.WithCapacity[string, []byte](uint64(capacity)))
		return memory{set: func(k string, v []byte) { c.Set(k, v, ttlcache.DefaultTTL) }, get: func(k string) bool { return c.Get(k) != nil }}
	}},
}

func ours(b *testing.B, c *cache.Cache[string, []byte]) memory {
	return memory{
		set: func(k string, v []byte) {
			if err := c.Set(ctx, k, v); err != nil {
				must(b, err)
			}
		},
		get: func(k string) bool { _, err := c.Get(ctx, k); return err == nil },
	}
}

// put stores every key, and sees to it that all are there: some libraries drop a part
// of what they are given while they are busy.
func (m memory) put(b *testing.B, keys []string, val []byte) {
	b.Helper()
	missing := keys
	for range 50 {
		for i, k := range missing {
			m.set(k, val)
			if i%64 == 63 && m.wait != nil {
				m.wait()
			}
		}
		if m.wait != nil {
			m.wait()
		}
		var again []string
		for _, k := range missing {
			if !m.get(k) {
				again = append(again, k)
			}
		}
		if missing = again; len(missing) == 0 {
			return
		}
	}
	must(b, errMissed)
}

// clientSide are the caches that have Redis behind them, and are filled from it.
func clientSide(b *testing.B, s *redistest.Server, keys []string, val []byte) map[string]func(string) bool {
	b.Helper()
	rdb := client(b, s)
	fill(b, rdb, "plain:", keys, val)

	// The names of the plain libraries' keys are made before: the time is not theirs.
	plain := make(map[string]string, len(keys))
	for _, k := range keys {
		plain[k] = "plain:" + k
	}

	two := twoTiers(b, rdb, 4*len(keys))
	ours(b, two).put(b, keys, val)

	csc := client(b, s, func(o *redis.Options) {
		o.Protocol = 3
		o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{MaxEntries: 4 * len(keys)}
	})
	rc := rueidisClient(b, s)
	gets := map[string]func(string) bool{
		"cache": ours(b, two).get,
		"go-redis-csc": func(k string) bool {
			_, err := csc.Get(ctx, plain[k]).Bytes()
			return err == nil
		},
		"rueidis-docache": func(k string) bool {
			_, err := rc.DoCache(ctx, rc.B().Get().Key(plain[k]).Cache(), life).AsBytes()
			return err == nil
		},
	}
	for _, get := range gets {
		for _, k := range keys {
			if !get(k) {
				must(b, errMissed)
			}
		}
	}
	return gets
}

func twoTiers(b *testing.B, rdb redis.UniversalClient, capacity int, opts ...cache.Option) *cache.Cache[string, []byte] {
	b.Helper()
	c, err := cache.New[string, []byte](rdb, "bench", append([]cache.Option{
		cache.WithStrategy(strategy.LRU(capacity), strategy.TTL(life), strategy.LocalTTL(life)), cache.WithTimeout(5 * time.Second)}, opts...)...)
	must(b, err)
	b.Cleanup(func() { c.Close() })
	return c
}

func rueidisClient(b *testing.B, s *redistest.Server) rueidis.Client {
	b.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr()}, CacheSizeEachConn: 1 << 30})
	must(b, err)
	b.Cleanup(c.Close)
	return c
}

var localNames = []string{"map", "cache", "cache-localonly", "golang-lru", "golang-lru-expirable", "otter", "theine", "ristretto", "sturdyc", "ttlcache", "go-redis-csc", "rueidis-docache"}

// openLocals opens and fills every library.
func openLocals(b *testing.B, s *redistest.Server, keys []string, val []byte) map[string]func(string) bool {
	gets := clientSide(b, s, keys, val)
	for _, lib := range inProcesses {
		m := lib.open(b, 4*len(keys))
		m.put(b, keys, val)
		gets[lib.name] = m.get
	}
	return gets
}

// BenchmarkLocalHit reads what is in the process. "cache" has two tiers and listens.
func BenchmarkLocalHit(b *testing.B) {
	s := server(b)
	for _, size := range which([]int{64, 1024, 16384}, 64) {
		b.Run(param("size", size), func(b *testing.B) {
			keys := makeKeys(keyCount(size))
			gets := openLocals(b, s, keys, makeValue(size))
			for _, dist := range which([]string{"uniform", "zipf"}, "zipf") {
				seq := sequence(keys, dist)
				for _, callers := range which([]int{1, 8, 64, 256}, 1, 64) {
					for _, lib := range localNames {
						b.Run(param("keys", dist)+"/"+param("callers", callers)+"/"+param("lib", lib), func(b *testing.B) {
							hits(b, callers, seq, gets[lib])
						})
					}
				}
			}
		})
	}
}

// BenchmarkInProcess reads with one library, and has no other open: for instructions to be
// counted.
func BenchmarkInProcess(b *testing.B) {
	keys := makeKeys(keyCount(64))
	seq := sequence(keys, "zipf")
	for _, lib := range inProcesses {
		b.Run(param("lib", lib.name), func(b *testing.B) {
			m := lib.open(b, 4*len(keys))
			m.put(b, keys, makeValue(64))
			hits(b, 1, seq, m.get)
		})
	}
}

// BenchmarkLive reads from the local tier while the program looks in: "plain" makes use of nothing,
// "removed" is told what leaves, and "hotkeys" has asked which keys are read most.
func BenchmarkLive(b *testing.B) {
	keys := makeKeys(keyCount(64))
	seq := sequence(keys, "zipf")
	for _, uses := range []string{"plain", "removed", "hotkeys", "both"} {
		for _, callers := range which([]int{1, 8, 64}, 1, 64) {
			b.Run(param("uses", uses)+"/"+param("callers", callers), func(b *testing.B) {
				var src cache.Source[string, []byte]
				if uses == "removed" || uses == "both" {
					src.Removed = func(string, []byte, cache.Reason) {}
				}
				c, err := cache.NewFrom(nil, "bench", src, cache.LocalOnly(), cache.WithStrategy(strategy.LRU(4*len(keys)), strategy.TTL(life)))
				must(b, err)
				b.Cleanup(func() { c.Close() })
				if uses == "hotkeys" || uses == "both" {
					c.HotKeys(1)
				}
				m := ours(b, c)
				m.put(b, keys, makeValue(64))
				hits(b, callers, seq, m.get)
			})
		}
	}
}

func hits(b *testing.B, callers int, seq []string, get func(string) bool) {
	share(b, callers, func(from, to int) error {
		missed := false
		for i := from; i < to; i++ {
			if !get(seq[i&(sequenceLen-1)]) {
				missed = true
			}
		}
		if missed {
			return errMissed
		}
		return nil
	})
}

// BenchmarkScaling is LocalHit with as many goroutines as there are processors: run it
// with -cpu 1,2,4,8.
func BenchmarkScaling(b *testing.B) {
	keys := makeKeys(keyCount(64))
	gets := openLocals(b, server(b), keys, makeValue(64))
	seq := sequence(keys, "zipf")
	for _, lib := range localNames {
		b.Run(param("lib", lib), func(b *testing.B) {
			get := gets[lib]
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if !get(seq[i&(sequenceLen-1)]) {
						b.Error(errMissed)
						return
					}
				}
			})
		})
	}
}

// BenchmarkInProcessSet replaces values of keys that are there.
func BenchmarkInProcessSet(b *testing.B) {
	keys := makeKeys(keyCount(64))
	seq := sequence(keys, "zipf")
	val := makeValue(64)
	for _, lib := range inProcesses {
		b.Run(param("lib", lib.name), func(b *testing.B) {
			m := lib.open(b, 4*len(keys))
			m.put(b, keys, val)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				m.set(seq[i&(sequenceLen-1)], val)
				i++
			}
		})
	}
}

// loading are the libraries that load a missing value once for all that ask for it, and keep it.
// load returns the function that reads a key, and calls f if it is not there.
var loading = []struct {
	name string
	open func(b *testing.B, capacity int, f func() []byte) func(k string) error
}{
	{"cache-localonly", func(b *testing.B, capacity int, f func() []byte) func(k string) error {
		src := cache.SourceFunc(func(context.Context, string) ([]byte, error) { return f(), nil })
		c, err := cache.NewFrom(nil, "bench", src, cache.LocalOnly(), cache.WithStrategy(strategy.LRU(capacity), strategy.TTL(life)))
		must(b, err)
		b.Cleanup(func() { c.Close() })
		return func(k string) error { _, err := c.Get(ctx, k); return err }
	}},
	{"otter", func(b *testing.B, capacity int, f func() []byte) func(k string) error {
		c := otter.Must(&otter.Options[string, []byte]{MaximumSize: capacity, ExpiryCalculator: otter.ExpiryWriting[string, []byte](life)})
		b.Cleanup(func() { c.StopAllGoroutines() })
		load := otter.LoaderFunc[string, []byte](func(context.Context, string) ([]byte, error) { return f(), nil })
		return func(k string) error { _, err := c.Get(ctx, k, load); return err }
	}},
	{"sturdyc", func(_ *testing.B, capacity int, f func() []byte) func(k string) error {
		c := sturdyc.New[[]byte](capacity, 64, life, 10)
		load := func(context.Context) ([]byte, error) { return f(), nil }
		return func(k string) error { _, err := c.GetOrFetch(ctx, k, load); return err }
	}},
}

// BenchmarkInProcessLoad reads keys that are not there, each once: a miss, a load, a fill.
func BenchmarkInProcessLoad(b *testing.B) {
	val := makeValue(64)
	for _, lib := range loading {
		b.Run(param("lib", lib.name), func(b *testing.B) {
			get := lib.open(b, 10_000, func() []byte { return val })
			keys := makeKeys(1 << 20)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if err := get(keys[i&(1<<20-1)]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// BenchmarkInProcessGetMany reads 100 keys that are there.
func BenchmarkInProcessGetMany(b *testing.B) {
	keys := makeKeys(keyCount(64))
	val := makeValue(64)
	hundred := keys[:100]
	for name, open := range map[string]func(b *testing.B) func() int{
		"cache-localonly": func(b *testing.B) func() int {
			c, err := cache.New[string, []byte](nil, "bench", cache.LocalOnly(), cache.WithStrategy(strategy.LRU(4*len(keys)), strategy.TTL(life)))
			must(b, err)
			b.Cleanup(func() { c.Close() })
			ours(b, c).put(b, keys, val)
			return func() int { vals, _ := c.GetMany(ctx, hundred); return len(vals) }
		},
		"otter": func(b *testing.B) func() int {
			c := otter.Must(&otter.Options[string, []byte]{MaximumSize: 4 * len(keys), ExpiryCalculator: otter.ExpiryWriting[string, []byte](life)})
			b.Cleanup(func() { c.StopAllGoroutines() })
			for _, k := range keys {
				c.Set(k, val)
			}
			load := otter.BulkLoaderFunc[string, []byte](func(context.Context, []string) (map[string][]byte, error) { return nil, errMissed })
			return func() int { vals, _ := c.BulkGet(ctx, hundred, load); return len(vals) }
		},
		"sturdyc": func(b *testing.B) func() int {
			c := sturdyc.New[[]byte](8*len(keys), 64, life, 10)
			for _, k := range keys {
				c.Set(k, val)
			}
			return func() int { return len(c.GetMany(hundred)) }
		},
	} {
		b.Run(param("lib", name), func(b *testing.B) {
			get := open(b)
			b.ReportAllocs()
			for b.Loop() {
				if n := get(); n != 100 {
					b.Fatalf("%d values", n)
				}
			}
		})
	}
}
