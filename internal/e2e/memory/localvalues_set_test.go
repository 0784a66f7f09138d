package memory_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/metrics"
)

// A Set is seen by its own process at once, whatever else is invalidated while it is sent:
//
//  1. a Set claims its key, and tells the other processes
//  2. something else is invalidated, and Redis does not acknowledge that: all claims are lost
//  3. the Set is acknowledged: its value is not kept, and neither is the one from before
func TestASetIsSeenAtOnceBesideAnInvalidationThatFails(t *testing.T) {
	for name, invalidate := range map[string]func(ctx context.Context, c *cache.Cache[string, *rule]) error{
		"tags": func(ctx context.Context, c *cache.Cache[string, *rule]) error { return c.InvalidateTags(ctx, "other") },
		"pattern": func(ctx context.Context, c *cache.Cache[string, *rule]) error {
			_, err := c.InvalidatePattern(ctx, "x*")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				src, net := newRules(), &wire{Memory: storetest.NewMemory()}
				c := withValues(t, net, src.source())
				wantRule(t, "before", c, "k", "v1", metrics.Source)
				hold := net.hold(store.Delete, false)
				src.set("k", "v2")
				set := make(chan error, 1)
				go func() { set <- c.Set(ctx, "k", &rule{"v2", func(string) bool { return true }}) }()
				<-hold.reached
				over, cancel := context.WithCancel(ctx)
				cancel()
				if err := invalidate(over, c); err == nil {
					t.Fatal("it was acknowledged")
				}
				close(hold.release)
				if err := <-set; err != nil {
					t.Fatal(err)
				}
				if v, err := c.Get(ctx, "k"); err != nil || v.name != "v2" {
					t.Errorf("after the Set: %v, %v", v, err)
				}
				if v, err := c.Get(ctx, "k"); err != nil || v.name != "v2" {
					t.Errorf("and later: %v, %v", v, err)
				}
				synctest.Wait()
				time.Sleep(10 * time.Second)
				if v, err := c.Get(ctx, "k"); err != nil || v.name != "v2" {
					t.Errorf("in the end: %v, %v", v, err)
				}
			})
		})
	}
}
