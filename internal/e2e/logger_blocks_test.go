package e2e_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// stuckHandler blocks in the line that says that notifications are received again.
type stuckHandler struct {
	slog.Handler
	once     *sync.Once
	in, free chan struct{}
}

func (h stuckHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "cache: notifications restored" {
		h.once.Do(func() { close(h.in) })
		<-h.free
	}
	return nil
}

// The program's logger may block: that costs its own cache, and no other one of its client.
func TestALoggerThatBlocksCostsItsOwnCacheOnly(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client(t)
	rdb := redis.NewClient(server.Options())
	t.Cleanup(func() { rdb.Close() })
	h := stuckHandler{slog.NewTextHandler(t.Output(), nil), new(sync.Once), make(chan struct{}), make(chan struct{})}
	made := func(name string, opts ...cache.Option) *cache.Cache[string, int] {
		c, err := cache.New[string, int](rdb, name, append(opts, slowly, cache.WithStrategy(strategy.LRU(100), strategy.Jitter(0)))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	a := made("a", cache.WithLogger(slog.New(h)))
	b := made("b", cache.WithLogger(slog.New(slog.DiscardHandler)))
	t.Cleanup(func() { close(h.free) })
	for _, c := range []*cache.Cache[string, int]{a, b} {
		if err := c.Set(t.Context(), "k", 1); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
	}
	if err := admin.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-h.in:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was logged")
	}
	stillHits(t, b)
}

// stillHits waits until something that has just begun to block has done so for longer than a
// heartbeat counts, and checks that a cache has its local tier after that.
func stillHits(t *testing.T, c *cache.Cache[string, int]) {
	t.Helper()
	time.Sleep(3 * time.Second)
	hits := c.Metrics().LocalHits
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := c.Get(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		if c.Metrics().LocalHits > hits {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the other cache has no local tier any more")
		}
	}
}
