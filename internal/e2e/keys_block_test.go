package e2e_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// A pattern that another process invalidates has the keys of the whole tier encoded. If that blocks,
// it costs its own cache, and no other one of its client.
func TestAKeyThatBlocksCostsItsOwnCacheOnly(t *testing.T) {
	server := redistest.Start(t)
	rdb := redis.NewClient(server.Options())
	t.Cleanup(func() { rdb.Close() })
	var blocks atomic.Bool
	in, free := make(chan struct{}), make(chan struct{})
	entered := sync.OnceFunc(func() { close(in) })
	tier := cache.WithOptions(slowly, cache.WithStrategy(strategy.LRU(100), strategy.Jitter(0)))
	a, err := cache.NewFrom(rdb, "a", cache.Source[int, int]{Key: func(k int) string {
		if blocks.Load() {
			entered()
			<-free
		}
		return strconv.Itoa(k)
	}}, tier)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	b, err := cache.New[string, int](rdb, "b", tier)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	freed := sync.OnceFunc(func() { close(free) })
	t.Cleanup(freed)
	other, err := cache.New[int, int](server.Client(t), "a", tier)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	for i := range 10 {
		if err := a.Set(t.Context(), i, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Set(t.Context(), "k", 1); err != nil {
		t.Fatal(err)
	}
	blocks.Store(true)
	if _, err := other.InvalidatePattern(t.Context(), "7*"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-in:
	case <-time.After(20 * time.Second):
		t.Fatal("no key was encoded")
	}
	stillHits(t, b)
	blocks.Store(false)
	freed()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // it comes back
		hits := a.Metrics().LocalHits
		if _, err := a.Get(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if a.Metrics().LocalHits > hits {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the cache whose keys blocked has no local tier any more")
		}
	}
}
