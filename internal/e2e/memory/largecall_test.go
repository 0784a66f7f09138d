package memory_test

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// A call for many keys goes to Redis in pieces, and may take several times as long as a
// lease or an intent for one key lasts. What it loads and writes is kept all the same.
func TestACallForManyKeysOutlastsItsLeases(t *testing.T) {
	redistest.Thorough(t)
	const n = 6_000
	for name, s := range map[string][]strategy.Strategy{
		"plain":         nil,
		"two tiers":     {strategy.LRU(100)},
		"write-through": {strategy.WriteThrough()},
		"write-behind":  {strategy.WriteBehind()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				src := cache.Source[int, string]{LoadMany: func(_ context.Context, keys []int) (map[int]string, error) {
					vals := make(map[int]string, len(keys))
					for _, k := range keys {
						vals[k] = "loaded"
					}
					return vals, nil
				}}
				if name != "plain" && name != "two tiers" {
					src.StoreMany = func(context.Context, map[int]string) error { return nil }
				}
				c, w := onWireWith(t, storetest.NewMemory(), src, cache.WithStrategy(s...))
				keys, vals := make([]int, n), make(map[int]string, n)
				for i := range keys {
					keys[i], vals[i] = i, strconv.Itoa(i)
				}
				// Four pieces of 256 commands are under way at a time.
				w.watch(func([]store.Command) { time.Sleep(hook.LeaseLife / 5) }, nil)
				begin := time.Now()
				if got, err := c.GetMany(ctx, keys); len(got) != n || err != nil {
					t.Fatalf("%d keys, %v", len(got), err)
				}
				if took := time.Since(begin); took < 3*hook.LeaseLife {
					t.Fatalf("it took %v: that shows nothing", took)
				}
				kept := func(what, k, want string) {
					t.Helper()
					i, _ := strconv.Atoi(k)
					if v, err := c.Peek(ctx, i); v != want || err != nil {
						t.Errorf("%s: %s: %q, %v", what, k, v, err)
					}
				}
				for _, i := range []int{0, n / 2, n - 1} {
					kept("loaded", strconv.Itoa(i), "loaded")
				}
				if m := c.Metrics(); m.Outdated != 0 {
					t.Errorf("%d loads were outdated", m.Outdated)
				}
				if err := c.SetMany(ctx, vals); err != nil {
					t.Fatal(err)
				}
				for _, i := range []int{0, n / 2, n - 1} {
					kept("set", strconv.Itoa(i), strconv.Itoa(i))
				}
			})
		})
	}
}
