package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
)

func TestTheLeaseOfADeadProcessIsTakenOverInASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		dead := testCache[string](t, store, nil)
		// What a process leaves behind that dies right after it took the lease.
		key := "k"
		rk, _ := dead.RedisKey(&key)
		dead.backend.acquire(t.Context(), local.Now(), &Options{}, []*inflightLoad{{call: &flight.Call[string, beginning, *result]{Key: rk}, loadKey: loadKey{key: &key, rk: rk}, redisLoad: new(redisLoad)}})

		c := testCache[string](t, store, nil)
		start := time.Now()
		v, err := get[string](t.Context(), c, key, loadFunc[string](func(context.Context) (string, error) { return "v", nil }), &NoOptions)
		if v != "v" || err != nil {
			t.Fatal(v, err)
		}
		if d := time.Since(start); d > leaseLife+pollMost || d < leaseLife-pollMost {
			t.Errorf("it took %v", d)
		}
	})
}

// unnotified configures a cache without notifications.
func unnotified(c *Config) { c.Transport = invalidate.NoTransport() }

// A process that is not told of the end of another's load is late by an eighth of the time that it has
// waited, at most.
func TestAnotherProcesssLoadIsSeenSoon(t *testing.T) {
	for _, takes := range []time.Duration{3200 * time.Microsecond, 8 * time.Millisecond, 40 * time.Millisecond, 400 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			store := storetest.NewMemory()
			loader, waiter := testCache[string](t, store, unnotified), testCache[string](t, store, unnotified)
			load := loadFunc[string](func(context.Context) (string, error) { time.Sleep(takes); return "v", nil })
			go func() { _, _ = get[string](t.Context(), loader, "k", load, &NoOptions) }()
			synctest.Wait()
			start := time.Now()
			v, err := get[string](t.Context(), waiter, "k", load, &NoOptions)
			if v != "v" || err != nil {
				t.Fatal(v, err)
			}
			if late := time.Since(start) - takes; late > min(max(takes/8, pollFirst), pollMost) {
				t.Errorf("a load of %v was seen %v later", takes, late)
			}
		})
	}
}

// distantStore answers each call after a while, and counts the leases that it is asked for.
type distantStore struct {
	*storetest.Memory
	after  time.Duration
	leases atomic.Int32
}

func (s *distantStore) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	for i := range cmds {
		if cmds[i].Op == store.SetNX {
			s.leases.Add(1)
		}
	}
	time.Sleep(s.after)
	return s.Memory.Do(ctx, cmds)
}

// A store that takes long to answer, as when a fleet of processes waits for one load, is not asked
// more often for that: the time until an answer counts as waited.
func TestASlowStoreIsNotPolledMoreOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory()
		distant := &distantStore{Memory: memory, after: 20 * time.Millisecond}
		loader, waiter := testCache[string](t, memory, unnotified), testCache[string](t, distant, unnotified)
		load := loadFunc[string](func(context.Context) (string, error) { time.Sleep(400 * time.Millisecond); return "v", nil })
		go func() { _, _ = get[string](t.Context(), loader, "k", load, &NoOptions) }()
		synctest.Wait()
		if v, err := get[string](t.Context(), waiter, "k", load, &NoOptions); v != "v" || err != nil {
			t.Fatal(v, err)
		}
		if n := distant.leases.Load(); n > 11 {
			t.Errorf("the lease was asked for %d times", n)
		}
	})
}

// The lease of one key is what a process that dies holds up others for.
func TestALeaseOfOneKeyIsShort(t *testing.T) {
	for n, want := range map[int]time.Duration{1: leaseLife, 1_000: leaseLife + 199*time.Millisecond, 10_000_000: leaseMost} {
		if d := leaseFor(n); d != want {
			t.Errorf("of %d keys: %v, want %v", n, d, want)
		}
	}
}
