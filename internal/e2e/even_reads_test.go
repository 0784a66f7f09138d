package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/redis/go-redis/v9"
)

// A read of a cache without a local tier asks the logical clock. No master of a cluster has more of
// these reads than its share of the keys.
func TestReadsAreEvenOverTheMasters(t *testing.T) {
	t.Parallel()
	const masters, each = 3, 300 // keys of each master
	cluster := redistest.StartCluster(t, masters)
	ctx, client := t.Context(), cluster.Client(t)
	c, err := cache.New[string, string](cluster.Client(t), "even", cache.WithTransport(invalidate.NoTransport()), slowly)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	keys := map[string][]string{} // by master
	for n, have := 0, 0; have < masters*each; n++ {
		k := fmt.Sprint("k", n)
		m, err := client.MasterForKey(ctx, c.RedisKey(k))
		if err != nil {
			t.Fatal(err)
		}
		if addr := m.Options().Addr; len(keys[addr]) < each {
			keys[addr] = append(keys[addr], k)
			have++
		}
	}
	for _, some := range keys {
		for _, k := range some {
			if err := c.Set(ctx, k, "v"); err != nil {
				t.Fatal(err)
			}
		}
	}
	hands := map[string]*redis.Client{}
	for _, s := range cluster.Nodes {
		hands[s.Addr()] = s.Client(t)
	}
	if len(keys) != masters || len(hands) != masters {
		t.Fatalf("keys of %d masters, %d nodes", len(keys), len(hands))
	}
	for _, hand := range hands {
		if err := hand.ConfigResetStat(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range each {
		for _, some := range keys {
			if v, err := c.Get(ctx, some[i]); v != "v" || err != nil {
				t.Fatalf("%q, %v", v, err)
			}
		}
	}
	// What a read consists of: the record and the clock, in one command or two.
	least, most, all := 1<<30, 0, 0
	for addr, hand := range hands {
		info, err := hand.InfoMap(ctx, "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for name, text := range info["Commandstats"] {
			switch strings.TrimPrefix(name, "cmdstat_") {
			case "get", "mget":
				calls := 0
				if _, err := fmt.Sscanf(text, "calls=%d,", &calls); err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				n += calls
			}
		}
		t.Logf("%s: %d", addr, n)
		least, most, all = min(least, n), max(most, n), all+n
	}
	if all < 2*masters*each || most-least > least/10 {
		t.Errorf("%d reads took from %d to %d commands of each master", masters*each, least, most)
	}
}
