package e2e_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// batchLog is a log.
type batchLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *batchLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *batchLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var _ io.Writer = (*batchLog)(nil)

// A call for many keys does what it says, for all of them, on a server that is well, and
// costs nothing else.
func TestACallForManyKeys(t *testing.T) {
	redistest.Long(t)
	redistest.Require(t)
	server := redistest.Start(t)
	const n, size = 30_000, 100
	for name, opts := range map[string][]cache.Option{
		"Redis only":        nil,
		"two tiers":         {cache.WithStrategy(strategy.LRU(1000))},
		"Lazy":              {cache.WithInvalidator(invalidate.Lazy()), cache.WithStrategy(strategy.TTL(time.Minute))},
		"through the cache": {cache.WithStrategy(strategy.WriteThrough())},
	} {
		t.Run(name, func(t *testing.T) {
			o := server.Options()
			rdb := redis.NewClient(o)
			t.Cleanup(func() { rdb.Close() })
			log := &batchLog{}
			src := cache.Source[int, string]{}
			if name == "through the cache" {
				src.StoreMany = func(context.Context, map[int]string) error { return nil }
				src.Store = func(context.Context, int, string) error { return nil }
				src.Delete = func(context.Context, int) error { return nil }
			}
			c, err := cache.NewFrom(rdb, strings.ReplaceAll(name, " ", "-"), src, append(opts, cache.WithTimeout(2*time.Second), cache.WithLogger(slog.New(slog.NewTextHandler(log, nil))))...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			ctx := t.Context()
			check := func(what string, err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			stored := func(what string, want bool) {
				t.Helper()
				for i := 0; i < n; i += 997 {
					if there, err := rdb.Exists(ctx, c.RedisKey(i)).Result(); err != nil || (there == 1) != want {
						t.Fatalf("%s: of key %d there are %d, %v", what, i, there, err)
					}
				}
			}
			vals, keys := map[int]string{}, make([]int, n)
			for i := range n {
				vals[i], keys[i] = strings.Repeat("v", size), i
			}
			check("SetMany", c.SetMany(ctx, vals))
			stored("SetMany", true)
			_, err = c.GetMany(ctx, keys)
			check("GetMany", err)
			check("Invalidate", c.Invalidate(ctx, keys...))
			stored("Invalidate", name == "Lazy")
			check("Invalidate again", c.Invalidate(ctx, keys...))
			got, err := c.GetMany(ctx, keys)
			if check("GetMany", err); len(got) != 0 {
				t.Errorf("GetMany of what was invalidated: %d of %d", len(got), n)
			}
			check("SetMany", c.SetMany(ctx, vals))
			check("Delete", c.Delete(ctx, keys...))
			stored("Delete", false)
			check("Sync", c.Sync(ctx))
			if m := c.Metrics(); m.Breaker.String() != "closed" {
				t.Errorf("the circuit is %v", m.Breaker)
			}
			if strings.Contains(log.String(), "WARN") {
				t.Errorf("the log: %s", log)
			}
		})
	}
}
