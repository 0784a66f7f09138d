package cache

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
		dead := onMemory(t, store, Source[string, string]{})
		// What a process leaves behind that dies right after it took the lease.
		dead.acquire(t.Context(), &callOptions{}, []*inflightLoad[string, string]{{
			call: &flight.Call[string, beginning, result[string]]{Key: "k"}, loadKey: loadKey{rk: dead.RedisKey("k")},
		}})

		c := onMemory(t, store, Source[string, string]{})
		start := time.Now()
		v, err := c.GetOrLoad(t.Context(), "k", func(context.Context, string) (string, error) { return "v", nil })
		if v != "v" || err != nil {
			t.Fatal(v, err)
		}
		if d := time.Since(start); d > leaseLife+pollMost || d < leaseLife-pollMost {
			t.Errorf("it took %v", d)
		}
	})
}
