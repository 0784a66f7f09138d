package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// What is invalidated by a policy that leaves it there for a while stays there for it, also
// if the process has to make sure, key by key, that Redis has not lost what it was told:
//
//  1. a key is invalidated, to be gone in a minute
//  2. the process has a reason to doubt, and can't ask who Redis is
//  3. it tells again what it has told lately, which would remove the key now
func TestWhatIsToStayForAWhileIsNotRemovedToMakeSure(t *testing.T) {
	for policy, p := range map[string]invalidate.Policy{"delayed": invalidate.Delayed(time.Minute), "lazy": invalidate.Lazy()} {
		for way, change := range map[string]func(context.Context, *cache.Cache[string, string]) error{
			"Invalidate": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
			"Invalidate of many": func(ctx context.Context, c *cache.Cache[string, string]) error {
				return c.Invalidate(ctx, "x", "k", "y")
			},
			"InvalidatePattern": func(ctx context.Context, c *cache.Cache[string, string]) error {
				_, err := c.InvalidatePattern(ctx, "k*")
				return err
			},
			"InvalidateTags": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
			"Clear":          func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
		} {
			for _, lost := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					st := storetest.NewMemory()
					c, net := onWireWith(t, st, cache.Source[string, string]{}, cache.WithInvalidator(p), cache.WithTransport(invalidate.NoTransport()),
						cache.WithStrategy(strategy.TTL(time.Hour), strategy.StaleIfError(time.Hour)))
					net.lose("server_id")
					if err := c.Set(ctx, "k", "v", cache.Tags("t")); err != nil {
						t.Fatal(err)
					}
					time.Sleep(20 * time.Second)
					get := store.Command{Op: store.Get, Key: c.RedisKey("k")}
					before := st.Do(ctx, []store.Command{get})[0].Record
					if err := change(ctx, c); err != nil {
						t.Fatal(err)
					}
					key := way == "Invalidate" || way == "Invalidate of many" || way == "InvalidatePattern"
					if lost && key { // the record is what it was before
						st.Do(ctx, []store.Command{{Op: store.Set, Key: get.Key, Frame: before.Raw}})
					}
					hook.Of(c).Coherence.Suspect()
					_, err := c.Get(ctx, "else")
					if !errors.Is(err, cache.ErrMiss) || errors.Is(err, cache.ErrUnavailable) {
						t.Fatal(err)
					}
					if err := c.Sync(ctx); err != nil {
						t.Fatal(err)
					}
					there := st.Do(ctx, []store.Command{get})[0].Record.State == store.Found
					if want := !(lost && key); there != want {
						t.Errorf("%s, %s, lost: %v: the record is there: %v", way, policy, lost, there)
					}
					v, err := c.Get(ctx, "k")
					if policy == "delayed" && there && (v != "v" || err != nil) {
						t.Errorf("%s, %s: %q, %v", way, policy, v, err)
					}
					e, err := c.Inspect(ctx, "k")
					if there && (e.Value != "v" || err != nil) {
						t.Errorf("%s, %s: Inspect: %q, %v", way, policy, e.Value, err)
					}
				})
			}
		}
	}
}
