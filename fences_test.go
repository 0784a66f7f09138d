package cache

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/storetest"
)

// A key whose invalidation is pending is not read from the local tier, whatever has put it
// there, and what is read meanwhile is not kept there.
func TestTheLocalTierHasNoPartInWhatIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		c, net := onWire(t, store, Source[string, string]{})
		if err := c.Set(ctx, "k", "v1"); err != nil {
			t.Fatal(err)
		}
		net.lose("delete", "release", "head")
		if err := c.Invalidate(ctx, "k"); err == nil {
			t.Fatal("it was acknowledged")
		}
		at := local.Now()
		put := func() {
			ans := result[string]{val: "v0"}
			c.local.Put("k", "k", c.localEntry(&ans, at, freshness{remaining: time.Hour, fresh: time.Hour}, stamp{}), c.fences.Token("k"))
		}
		put()
		if v, _ := c.Get(ctx, "k"); v == "v0" {
			t.Errorf("%q was served from the local tier", v)
		}
		c.local.Remove("k")
		_, _ = c.Get(ctx, "k")
		if e, ok := c.local.Peek("k"); ok {
			t.Errorf("%q was kept in the local tier", e.Value)
		}
		put()
		net.heal()
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if e, ok := c.local.Peek("k"); ok {
			t.Errorf("%q is in the local tier when the invalidation has been delivered", e.Value)
		}
	})
}

// When a pending invalidation by pattern has been delivered, nothing that matches it is in
// the local tier.
func TestADeliveredPatternLeavesNothingInTheLocalTier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		c, net := onWire(t, storetest.NewMemory(), Source[string, string]{})
		_, _ = c.Peek(ctx, "other")
		net.lose("publish")
		if _, err := c.InvalidatePattern(ctx, "k*"); err == nil {
			t.Fatal("it was acknowledged")
		}
		ans := result[string]{val: "v0"}
		c.local.Put("k1", "k1", c.localEntry(&ans, local.Now(), freshness{remaining: time.Hour, fresh: time.Hour}, stamp{}), c.fences.Token("k1"))
		net.heal()
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if e, ok := c.local.Peek("k1"); ok {
			t.Errorf("%q is in the local tier", e.Value)
		}
	})
}
