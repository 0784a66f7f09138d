package cache

import (
	"testing"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// An invalidation moves its key before it forgets its failure: a load that notes one in
// between finds the key moved.
func TestAKeyIsMovedBeforeItsFailureIsForgotten(t *testing.T) {
	for name, opts := range map[string][]Option{"two tiers": {WithStrategy(strategy.LRU(10))}, "one tier": nil, "local only": {LocalOnly()}} {
		for way, change := range ways {
			if way == "InvalidateTags" || way == "Clear" || way == "SetMany" {
				continue // the logical clock tells what began before the former; many keys are settled one by one
			}
			t.Run(name+"/"+way, func(t *testing.T) {
				c, err := build("test", Source[string, int]{}, append(opts, quietLog), func(cfg *config) store.Store {
					if cfg.localOnly {
						return nil
					}
					return storetest.NewMemory()
				})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				moved := c.moved("test:k", c.fences.Token("k"))
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
