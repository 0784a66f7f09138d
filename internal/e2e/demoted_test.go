package e2e_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// A name stands for another server from now on, and the connections to the one before,
// which becomes a replica of nothing that it can reach, stay open and are answered. Readers
// that have only such connections see what is written to the new master, and never again
// what was there before.
func TestConnectionsToADemotedMasterAreLeft(t *testing.T) {
	redistest.Require(t)
	leaveDemoted(t, func(_ *testing.T, s *redistest.Server) string { return s.Addr() })
}

// So they do where the scripts of heartbeats have to be those for servers before Redis 7.0.
func TestConnectionsToADemotedOldMasterAreLeft(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	leaveDemoted(t, func(t *testing.T, s *redistest.Server) string {
		return redistest.NewFront(t, s.Addr(), redistest.Restricted(redistest.OldSet, redistest.OldScripts)).Addr()
	})
}

func leaveDemoted(t *testing.T, addrOf func(*testing.T, *redistest.Server) string) {
	sideBySide(t, names(demotedReaders), func(t *testing.T, name string) {
		ctx := t.Context()
		first, second := redistest.Start(t), redistest.Start(t)
		addr := addrOf(t, second)
		proxy := redistest.NewProxy(t, addrOf(t, first))
		client := func() *redis.Client {
			o := first.Options()
			o.Addr = proxy.Addr()
			c := redis.NewClient(o)
			t.Cleanup(func() { c.Close() })
			return c
		}
		one, two := first.Client(t), second.Client(t)
		host, port, _ := net.SplitHostPort(first.Addr())
		if err := two.ReplicaOf(ctx, host, port).Err(); err != nil {
			t.Fatal(err)
		}
		writer, err := cache.New[string, int](client(), "n", discard, slowly)
		if err != nil {
			t.Fatal(err)
		}
		defer writer.Close()
		reader, err := cache.New[string, int](client(), "n", append([]cache.Option{discard}, demotedReaders[name]...)...)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		if err := writer.Set(ctx, "k", 1); err != nil {
			t.Fatal(err)
		}
		read := func(n int) (old, fresh int) {
			var mu sync.Mutex
			var all sync.WaitGroup
			for range n {
				all.Go(func() {
					v, err := reader.Get(ctx, "k")
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil && v == 1:
						old++
					case err == nil && v == 2:
						fresh++
					}
				})
			}
			all.Wait()
			return old, fresh
		}
		for range 20 {
			read(32)
		}
		for two.DBSize(ctx).Val() < one.DBSize(ctx).Val() {
			time.Sleep(10 * time.Millisecond)
		}
		for _, err := range []error{
			two.ReplicaOf(ctx, "NO", "ONE").Err(),
			one.ReplicaOf(ctx, "127.0.0.1", "1").Err(), // nothing is there
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		proxy.Redirect(addr)
		another, err := cache.New[string, int](client(), "n", discard, slowly)
		if err != nil {
			t.Fatal(err)
		}
		defer another.Close()
		if err := another.Set(ctx, "k", 2); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(patience); ; {
			if old, fresh := read(32); old == 0 && fresh == 32 {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the reader sees only what the demoted master has")
			}
			time.Sleep(10 * time.Millisecond)
		}
		for range 50 {
			if old, _ := read(32); old > 0 {
				t.Fatalf("%d reads of what the demoted master has, after others of what the new one has", old)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

var demotedReaders = map[string][]cache.Option{
	"one tier":       nil,
	"one tier, deaf": {cache.WithTransport(invalidate.NoTransport())},
	"two tiers":      {cache.WithStrategy(strategy.LRU(100))},
	"tracking keys":  {cache.WithStrategy(strategy.LRU(100)), cache.WithTransport(invalidate.TrackingKeys())},
	"tracking":       {cache.WithStrategy(strategy.LRU(100)), cache.WithTransport(invalidate.Tracking())},
}
