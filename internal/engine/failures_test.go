package engine

import (
	"context"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// An invalidation moves its key before it forgets its failure: a load that notes one in
// between finds the key moved. An invalidation of tags, or of everything, is left out: the
// logical clock tells what began before.
func TestAKeyIsMovedBeforeItsFailureIsForgotten(t *testing.T) {
	key, val := "k", "v"
	ways := map[string]func(context.Context, *Cache) error{
		"Set": func(ctx context.Context, c *Cache) error { return c.Set(ctx, new(Writing), &key, &val, &NoOptions) },
		"Delete": func(ctx context.Context, c *Cache) error {
			changes := []Change{{Key: &key}}
			c.Delete(ctx, changes)
			return changes[0].Err
		},
		"Invalidate": func(ctx context.Context, c *Cache) error {
			changes := []Change{{Key: &key}}
			c.Invalidate(ctx, changes)
			return changes[0].Err
		},
		"InvalidatePattern": func(ctx context.Context, c *Cache) error {
			_, err := c.InvalidatePattern(ctx, "k*")
			return err
		},
	}
	for name, open := range map[string]func() (store.Store, func(*Config)){
		"two tiers": func() (store.Store, func(*Config)) { return storetest.NewMemory(), nil },
		"one tier": func() (store.Store, func(*Config)) {
			return storetest.NewMemory(), func(cfg *Config) { cfg.Local = nil }
		},
		"local only": func() (store.Store, func(*Config)) { return nil, nil },
	} {
		for way, change := range ways {
			t.Run(name+"/"+way, func(t *testing.T) {
				t.Parallel() // each waits for Redis or for a moment
				st, with := open()
				c := testCache[string](t, st, with)
				rk, _ := c.keyOf(&key)
				moved := c.moved(rk, c.fences.Token("k"))
				c.failures.any.Store(true) // else there is nothing to forget
				c.failures.mu.Lock()
				done := make(chan error, 1)
				go func() { done <- change(t.Context(), c) }()
				for end := time.Now().Add(10 * time.Second); !moved() && time.Now().Before(end); {
					time.Sleep(time.Millisecond)
				}
				if !moved() {
					t.Error("the failure is forgotten first")
				}
				c.failures.mu.Unlock()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		}
	}
}
