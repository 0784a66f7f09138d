package memory_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// A lease that is granted after the callers have left is released, and not left behind
// for its whole life.
//
//  1. a: asks for a lease; its only caller leaves
//  2. Redis grants the lease
//  3. b: reads, and must not wait for the end of a lease of which a knows nothing
func TestALeaseGrantedAfterItsCallersHaveLeftIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		load := func(ctx context.Context, _ string) (string, error) { return "v", ctx.Err() }
		a, net := onWire(t, st, cache.Source[string, string]{Load: load})
		b := onMemory(t, st, cache.Source[string, string]{Load: load})
		_, _ = a.Peek(ctx, "other")
		_, _ = b.Peek(ctx, "other")
		key := a.RedisKey("k")
		on, granted, goOn := onlyOnce(func(cmd store.Command) bool { return cmd.Op == store.SetNX && cmd.Key == key })
		net.watch(nil, on)
		leaving, leave := context.WithCancel(ctx)
		left := make(chan struct{})
		go func() { defer close(left); _, _ = a.Get(leaving, "k") }()
		<-granted
		leave()
		<-left
		synctest.Wait()
		close(goOn)
		synctest.Wait()
		start := time.Now()
		if v, err := b.Get(ctx, "k"); v != "v" || err != nil {
			t.Fatal(v, err)
		}
		if d := time.Since(start); d >= hook.LeaseLife/2 {
			t.Errorf("the next reader waited %v", d)
		}
	})
}

// A refresh that takes longer than its lock lives is not begun by another process as well:
// the lock is extended.
func TestALongRefreshHappensOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		var loads atomic.Int32
		src := cache.Source[string, string]{Load: func(context.Context, string) (string, error) {
			if loads.Add(1) > 1 {
				time.Sleep(5 * hook.LeaseLife)
			}
			return "v", nil
		}}
		policy := cache.WithStrategy(strategy.TTL(time.Minute), strategy.Jitter(0), strategy.StaleWhileRevalidate(time.Hour))
		a, b := onMemory(t, store, src, policy), onMemory(t, store, src, policy)
		read := func(c *cache.Cache[string, string]) {
			t.Helper()
			if v, err := c.Get(ctx, "k"); v != "v" || err != nil {
				t.Fatal(v, err)
			}
		}
		read(a)
		time.Sleep(2 * time.Minute)
		read(a) // stale, and begins a refresh
		time.Sleep(3 * hook.LeaseLife)
		read(b)
		time.Sleep(10 * hook.LeaseLife)
		if n := loads.Load(); n != 2 {
			t.Errorf("%d loads, want the first one and one refresh", n)
		}
	})
}

// A waiter registers before it looks, so that no fill comes in between.
//
//  1. b: loads
//  2. a: looks, and sees b's lease
//  3. b: fills, and a hears of it
//  4. a: begins to wait
func TestAFillBetweenTheLookAndTheWaitWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		a, net := onWire(t, st, cache.Source[string, string]{Load: func(context.Context, string) (string, error) { return "", errors.New("not this way") }})
		g := newGate()
		b := onMemory(t, st, cache.Source[string, string]{})
		_, _ = a.Peek(ctx, "other")
		_, _ = b.Peek(ctx, "other")
		time.Sleep(5 * time.Second)
		loading := get(b, "k", g.load)
		<-g.began
		key := a.RedisKey("k")
		on, looked, goOn := onlyOnce(func(cmd store.Command) bool { return cmd.Op == store.SetNX && cmd.Key == key })
		net.watch(nil, on)
		got := make(chan time.Time, 1)
		go func() {
			if v, err := a.Get(ctx, "k"); v != "v" || err != nil {
				t.Errorf("%q, %v", v, err)
			}
			got <- time.Now()
		}()
		<-looked
		g.end <- "v"
		<-loading
		synctest.Wait()
		start := time.Now()
		close(goOn)
		if d := (<-got).Sub(start); d >= hook.LeasePoll {
			t.Errorf("it waited %v for what was there", d)
		}
	})
}
