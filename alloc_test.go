package cache_test

import (
	"context"
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
	src := cache.SourceFunc(func(_ context.Context, key int64) (int64, error) { return key, nil })
	c, err := cache.NewFrom(nil, "allocs", src, cache.LocalOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, key := context.Background(), int64(0)
	if n := testing.AllocsPerRun(1000, func() {
		key++
		if v, err := c.Get(ctx, key); err != nil || v != key {
			t.Fatal(v, err)
		}
	}); n > 13 {
		t.Errorf("a load makes %v allocations, want 13 at most", n)
	}
}
