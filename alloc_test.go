package cache_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

// A local hit allocates nothing, whatever the types.
func TestALocalHitAllocatesNothing(t *testing.T) {
	type key struct {
		Tenant string
		ID     int64
	}
	type big struct {
		Name string
		Data [64]int64
	}
	allocs(t, "string", "k", "v")
	allocs(t, "int64", int64(42), 7)
	allocs(t, "struct", key{"acme", 42}, big{Name: "n"})
	allocs(t, "pointer value", "k", &big{})
	allocs(t, "slice value", uint32(1), []byte("v"))
}

func allocs[K comparable, V any](t *testing.T, name string, key K, val V) {
	t.Helper()
	for _, kind := range []string{"two tiers", "LocalOnly", "audited", "looked into"} {
		rdb := startRedis()
		var src cache.Source[K, V]
		if kind == "looked into" {
			src.Removed = func(K, V, cache.Reason) {}
		}
		opts := []cache.Option{cache.WithStrategy(strategy.LRU(1000), strategy.TTL(time.Hour))}
		if kind == "LocalOnly" {
			rdb, opts = nil, append(opts, cache.LocalOnly())
		}
		if kind == "audited" { // the few hits that are looked at allocate, after they were answered
			opts = append(opts, cache.WithStrategy(strategy.Audit(0.0001)))
		}
		c, err := cache.NewFrom(rdb, "allocs", src, append(opts, cache.WithCodec(lossyJSON))...)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, load := context.Background(), func(context.Context, K) (V, error) { t.Error("loaded"); return val, nil }
		if err := c.Set(ctx, key, val); err != nil {
			t.Fatal(err)
		}
		if kind == "looked into" {
			c.HotKeys(1)
			if _, err := c.Get(ctx, key, cache.SkipLocal()); err != nil { // from now on the key is counted
				t.Fatal(err)
			}
		}
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := c.Get(ctx, key); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s, %s: Get makes %v allocations", name, kind, n)
		}
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := c.GetOrLoad(ctx, key, load); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s, %s: GetOrLoad makes %v allocations", name, kind, n)
		}
	}
}

// A miss, a load and a fill allocate what outlives the call, and little else.
func TestAllocationsOfALoad(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates")
	}
	var texts []string
	var numbers []int64
	for i := range int64(2100) {
		texts, numbers = append(texts, fmt.Sprint(i)), append(numbers, 1000+i)
	}
	canceled, cancel := context.WithCancel(context.Background())
	defer cancel()
	allocsOfLoads(t, context.Background(), "string", 2, texts)
	allocsOfLoads(t, canceled, "string, of a caller that may leave", 5, texts)
	allocsOfLoads(t, context.Background(), "int64", 3, numbers)
}

func allocsOfLoads[K comparable](t *testing.T, ctx context.Context, name string, most float64, keys []K) {
	src := cache.SourceFunc(func(_ context.Context, key K) (K, error) { return key, nil })
	c, err := cache.NewFrom(nil, "allocs", src, cache.LocalOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	load := func() {
		if v, err := c.Get(ctx, keys[0]); err != nil || v != keys[0] {
			t.Fatal(v, err)
		}
		keys = keys[1:]
	}
	for range 1000 {
		load()
	}
	if n := testing.AllocsPerRun(1000, load); n > most {
		t.Errorf("%s: a load makes %v allocations, want %v at most", name, n, most)
	}
}

// A Set without Redis allocates the entry, and the text of the key unless it is one itself.
func TestAllocationsOfASet(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates")
	}
	allocsOfSets(t, "string", 1, "key")
	allocsOfSets(t, "int64", 2, int64(123456))
	allocsOfSets(t, "struct", 3, struct{ A, B string }{"a", "b"})
}

func allocsOfSets[K comparable](t *testing.T, name string, most float64, key K) {
	c, err := cache.New[K, []byte](nil, "allocs", cache.LocalOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, val := context.Background(), []byte("v")
	if n := testing.AllocsPerRun(1000, func() {
		if err := c.Set(ctx, key, val); err != nil {
			t.Fatal(err)
		}
	}); n > most {
		t.Errorf("%s: a Set makes %v allocations, want %v at most", name, n, most)
	}
}
