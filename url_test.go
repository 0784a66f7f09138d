package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
)

// A cache over what NewClient makes of the URL of each kind of Redis.
func TestNewClientReachesEveryKindOfRedis(t *testing.T) {
	redistest.Require(t)
	for name, start := range map[string]func(*testing.T) string{
		"one server": func(t *testing.T) string { return redistest.Start(t).URL() },
		"password":   func(t *testing.T) string { return redistest.Start(t, redistest.Password("a secret/?#@")).URL() },
		"TLS":        func(t *testing.T) string { return redistest.Start(t, redistest.TLS()).URL() },
		"socket":     func(t *testing.T) string { return redistest.Start(t, redistest.Socket()).URL() },
		"cluster":    func(t *testing.T) string { return redistest.StartCluster(t, 3).URL() },
		"sentinel":   func(t *testing.T) string { return redistest.StartSentinel(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			rdb, err := cache.NewClient(start(t))
			if err != nil {
				t.Fatal(err)
			}
			defer rdb.Close()
			c, err := cache.New[string, int](rdb, "n", discard, cache.WithTimeout(10*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			vals := map[string]int{"a": 1, "b": 2, "c": 3, "d": 4}
			if err := c.SetMany(ctx, vals); err != nil {
				t.Fatal(err)
			}
			if got, err := c.GetMany(ctx, []string{"a", "b", "c", "d", "e"}); len(got) != 4 || err != nil {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// A failover is no failure of a reader with a loader, and the cache finds the new
// master by itself.
func TestASentinelFailover(t *testing.T) {
	redistest.Require(t)
	ctx := t.Context()
	st := redistest.StartSentinel(t)
	rdb, err := cache.NewClient(st.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	c, err := cache.NewFrom(rdb, "n", cache.SourceFunc(func(_ context.Context, k string) (int, error) { return len(k), nil }), discard)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Get(ctx, "before"); err != nil {
		t.Fatal(err)
	}
	st.Failover(t)
	deadline := time.Now().Add(time.Minute)
	for {
		var info cache.Info
		if v, err := c.Get(ctx, "after", cache.Report(&info)); v != 5 || err != nil {
			t.Fatalf("a read during the failover: %d, %v", v, err)
		}
		if info.Tier == metrics.Remote {
			return // loaded into the new master, and read from there
		}
		if time.Now().After(deadline) {
			t.Fatal("the new master was not found")
		}
	}
}
