package e2e_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// An invalidate.Client does not retry. Of what it does not know to be published it tells all
// processes, which drop their whole local tiers.
func TestWhatAClientCouldNotPublishIsNoticed(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client(t)
	front, beats := heartbeats(t, server.Addr())
	o := server.Options()
	o.Addr = front
	own := redis.NewClient(o)
	t.Cleanup(func() { own.Close() })
	c, err := cache.New[string, string](own, "c", slowly, cache.WithStrategy(strategy.LRU(100), strategy.TTL(time.Hour), strategy.Jitter(0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Set(t.Context(), "k", "old"); err != nil {
		t.Fatal(err)
	}
	beats(10)                                                                 // the session is direct
	if n, err := rdb.Del(t.Context(), "c:k").Result(); n != 1 || err != nil { // as an eviction
		t.Fatal(n, err)
	}
	if v, err := c.Get(t.Context(), "k"); v != "old" || err != nil {
		t.Fatal(v, err)
	}
	var hungUp atomic.Bool
	o = server.Options()
	o.Addr = redistest.NewFront(t, server.Addr(), func(args []string) string {
		if name := strings.ToLower(args[0]); strings.HasPrefix(name, "eval") && len(args) > 3 && args[2] != "0" && !hungUp.Swap(true) {
			return redistest.Hangup
		}
		return ""
	}).Addr()
	other := redis.NewClient(o)
	t.Cleanup(func() { other.Close() })
	inv, err := invalidate.NewClient(other, "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inv.Close() })
	if err := inv.Invalidate(t.Context(), "k"); err == nil || !hungUp.Load() {
		t.Fatalf("hung up: %v; %v", hungUp.Load(), err)
	}
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if _, err := c.Get(t.Context(), "k"); err != nil {
			break
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("not noticed after %v; %d flushes", time.Since(start), c.Metrics().Flushes)
		}
	}
	if n := c.Metrics().Flushes; n != 1 {
		t.Errorf("%d flushes", n)
	}
}

// heartbeats returns the address of a front of a server, and a function that waits for so many
// heartbeats after the last INFO.
func heartbeats(t *testing.T, server string) (addr string, wait func(atLeast int32)) {
	var beats atomic.Int32
	addr = redistest.NewFront(t, server, func(args []string) string {
		switch name := strings.ToLower(args[0]); {
		case name == "info":
			beats.Store(0)
		case strings.HasPrefix(name, "eval") && len(args) > 2 && args[2] == "0":
			beats.Add(1)
		}
		return ""
	}).Addr()
	return addr, func(atLeast int32) {
		t.Helper()
		for start := time.Now(); beats.Load() < atLeast; time.Sleep(10 * time.Millisecond) {
			if time.Since(start) > time.Minute {
				t.Fatal("no heartbeats")
			}
		}
	}
}
