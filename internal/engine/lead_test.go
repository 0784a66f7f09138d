package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/storetest"
)

func TestTheLeaseOfADeadProcessIsTakenOverInASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		dead := testCache[string](t, store, nil)
		// What a process leaves behind that dies right after it took the lease.
		key := "k"
		rk, _ := dead.RedisKey(&key)
		dead.backend.acquire(t.Context(), &Options{}, []*inflightLoad{{call: &flight.Call[string, beginning, result]{Key: rk}, loadKey: loadKey{key: &key, rk: rk}, redisLoad: new(redisLoad)}})

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

// The lease of one key is what a process that dies holds up others for.
func TestALeaseOfOneKeyIsShort(t *testing.T) {
	for n, want := range map[int]time.Duration{1: leaseLife, 1_000: leaseLife + 199*time.Millisecond, 10_000_000: leaseMost} {
		if d := leaseFor(n); d != want {
			t.Errorf("of %d keys: %v, want %v", n, d, want)
		}
	}
}
