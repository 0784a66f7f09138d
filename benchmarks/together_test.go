package benchmarks

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/invalidate"
	"github.com/maypok86/otter/v2"
	"github.com/redis/go-redis/v9"
	"github.com/viccon/sturdyc"
)

// loadTime is how long the source of a stampede takes.
const loadTime = 2 * time.Millisecond

// BenchmarkStampede has many callers ask at once, in two processes where there is a
// Redis, for what is nowhere. One operation is a stampede; loads/op is how often the
// source was asked. The libraries without Redis have one process.
func BenchmarkStampede(b *testing.B) {
	s := server(b)
	shared, other := openShared(b, s), openShared(b, s)
	loaders := map[string][2]func(string, func() ([]byte, error)) ([]byte, error){}
	names := []string{"cache", "cache-listening", "go-redis", "go-redis-cache"}
	for _, lib := range names {
		loaders[lib] = [2]func(string, func() ([]byte, error)) ([]byte, error){shared[lib].load, other[lib].load}
	}
	names = append(names, "otter", "sturdyc")
	o := otter.Must(&otter.Options[string, []byte]{MaximumSize: 10_000})
	b.Cleanup(func() { o.StopAllGoroutines() })
	inOtter := func(k string, load func() ([]byte, error)) ([]byte, error) {
		return o.Get(ctx, k, otter.LoaderFunc[string, []byte](func(context.Context, string) ([]byte, error) { return load() }))
	}
	st := sturdyc.New[[]byte](10_000, 16, life, 10)
	inSturdyc := func(k string, load func() ([]byte, error)) ([]byte, error) {
		return st.GetOrFetch(ctx, k, func(context.Context) ([]byte, error) { return load() })
	}
	loaders["otter"] = [2]func(string, func() ([]byte, error)) ([]byte, error){inOtter, inOtter}
	loaders["sturdyc"] = [2]func(string, func() ([]byte, error)) ([]byte, error){inSturdyc, inSturdyc}

	keys, val := new(fresh), makeValue(64)
	for _, callers := range which([]int{8, 64, 256}, 64) {
		for _, lib := range names {
			b.Run(param("callers", callers)+"/"+param("lib", lib), func(b *testing.B) {
				var loads atomic.Int64
				load := func() ([]byte, error) {
					loads.Add(1)
					time.Sleep(loadTime)
					return val, nil
				}
				first := keys.take(b.N)
				b.ResetTimer()
				for i := range b.N {
					var wg sync.WaitGroup
					errs := make([]error, callers)
					for n := range callers {
						wg.Go(func() { _, errs[n] = loaders[lib][n%2](freshKey(first+i), load) })
					}
					wg.Wait()
					for _, err := range errs {
						must(b, err)
					}
				}
				b.ReportMetric(float64(loads.Load())/float64(b.N), "loads/op")
			})
		}
	}
}

// BenchmarkInvalidation writes in one process and waits until another, which has the
// old value at hand, gets the new one: from the acknowledgement of the write on.
func BenchmarkInvalidation(b *testing.B) {
	s := server(b)
	const key = "k"
	type pair struct {
		lib string
		set func(v []byte) error
		get func() ([]byte, error)
	}
	var pairs []pair
	for _, t := range []struct {
		lib string
		by  invalidate.Transport
	}{{"cache", invalidate.Broadcast()}, {"cache-tracking", invalidate.Tracking()}} {
		writer := twoTiers(b, client(b, s), 100, cache.WithTransport(t.by), cache.WithPrefix(t.lib+":"))
		reader := twoTiers(b, client(b, s), 100, cache.WithTransport(t.by), cache.WithPrefix(t.lib+":"))
		pairs = append(pairs, pair{t.lib,
			func(v []byte) error { return writer.Set(ctx, key, v) },
			func() ([]byte, error) { return reader.Get(ctx, key) },
		})
	}
	rdb := client(b, s)
	csc := client(b, s, func(o *redis.Options) {
		o.Protocol = 3
		o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{MaxEntries: 100}
	})
	plainSet := func(v []byte) error { return rdb.Set(ctx, key, v, life).Err() }
	rc := rueidisClient(b, s)
	pairs = append(pairs,
		pair{"go-redis-csc", plainSet, func() ([]byte, error) { return csc.Get(ctx, key).Bytes() }},
		pair{"rueidis-docache", plainSet, func() ([]byte, error) {
			return rc.DoCache(ctx, rc.B().Get().Key(key).Cache(), life).AsBytes()
		}},
	)
	for _, p := range pairs {
		b.Run(param("lib", p.lib), func(b *testing.B) {
			val := func(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }
			took := make([]time.Duration, b.N)
			must(b, p.set(val(0)))
			for i := range b.N {
				// The reader has the old value at hand.
				for {
					v, err := p.get()
					must(b, err)
					if binary.BigEndian.Uint64(v) == uint64(i) {
						break
					}
				}
				must(b, p.set(val(i+1)))
				start := time.Now()
				for {
					v, err := p.get()
					must(b, err)
					if binary.BigEndian.Uint64(v) == uint64(i+1) {
						break
					}
					if time.Since(start) > 10*time.Second {
						must(b, fmt.Errorf("%s: the new value is not seen", p.lib))
					}
					runtime.Gosched()
				}
				took[i] = time.Since(start)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
			b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
		})
	}
}
