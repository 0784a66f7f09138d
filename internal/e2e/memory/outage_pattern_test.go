package memory_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
)

// A record that is read while an invalidation by pattern fails is not served afterwards:
//
//  1. notifications are not received; the local tier goes on
//  2. InvalidatePattern is not acknowledged, and drops what the tier has
//  3. meanwhile a read finds the record that is still in Redis
func TestARecordReadDuringAFailedPatternIsNotServedInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, s := t.Context(), newSource("a", "k")
		st := storetest.NewMemory()
		var c *cache.Cache[string, string]
		var armed atomic.Bool
		src := cache.Source[string, string]{Load: s.Load, Key: func(k string) string {
			// It is encoded to see whether it matches.
			if k == "a" && armed.CompareAndSwap(true, false) {
				_, _ = c.Get(ctx, "k")
			}
			return k
		}}
		var net *outageWire
		c, net = withOutage(t, st, src)
		other, _ := withOutage(t, st, src)
		wants(t, c, s, "a", "old a", 1)
		wants(t, other, s, "k", "old k", 1)
		net.deaf.Store(true)
		net.CutListeners(errDown)
		time.Sleep(2 * time.Second)
		s.set("k", "new k")
		net.lose("scan")
		armed.Store(true)
		if _, err := c.InvalidatePattern(ctx, "*"); err == nil || armed.Load() {
			t.Fatalf("InvalidatePattern: %v; nothing was read: %v", err, armed.Load())
		}
		if v, err := c.Get(ctx, "k"); v != "new k" || err != nil {
			t.Errorf("afterwards: %q, %v", v, err)
		}
		net.up()
	})
}
