package cache

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// A failure that Redis has no record of, because it granted no lease, is forgotten by an
// invalidation all the same, by any way and in any combination of tiers.
func TestAnInvalidationForgetsAFailureThatRedisHasNoRecordOf(t *testing.T) {
	for way, change := range ways {
		for tiers, opts := range map[string][]Option{
			"one tier":                 nil,
			"one tier, no transport":   {WithTransport(invalidate.NoTransport())},
			"two tiers":                {WithStrategy(strategy.LRU(10))},
			"two tiers, no transport":  {WithStrategy(strategy.LRU(10)), WithTransport(invalidate.NoTransport())},
			"two tiers, with tracking": {WithStrategy(strategy.LRU(10)), WithTransport(invalidate.Tracking())},
			"two tiers, lazy":          {WithStrategy(strategy.LRU(10), strategy.StaleIfError(time.Hour)), WithInvalidator(invalidate.Lazy())},
		} {
			for _, refused := range [][]string{{"add"}, {"get", "add"}} { // of the second load no logical time is known
				t.Run(way+"/"+tiers+"/"+strings.Join(refused, " and "), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						ctx := t.Context()
						st := &refusing{Memory: storetest.NewMemory()}
						failing := errors.New("the source fails")
						loads := 0
						src := Source[string, int]{Load: func(context.Context, string) (int, error) { loads++; return 0, failing }}
						opts := append([]Option{quietLog, WithStrategy(strategy.Jitter(0), strategy.TTL(time.Hour), strategy.ErrorTTL(time.Minute))}, opts...)
						c, err := build("test", src, opts, func(*config) store.Store { return st })
						if err != nil {
							t.Fatal(err)
						}
						t.Cleanup(func() { c.Close() })
						_, _ = c.Peek(ctx, "other")
						time.Sleep(5 * time.Second)
						st.refuse(refused...)
						for range 2 {
							if _, err := c.Get(ctx, "k"); !errors.Is(err, failing) || loads != 1 {
								t.Fatalf("%v, %d loads", err, loads)
							}
						}
						st.refuse()
						if err := change(ctx, c); err != nil {
							t.Fatal(err)
						}
						if _, err := c.Get(ctx, "k"); err != nil && loads != 2 {
							t.Errorf("%v, %d loads: the source is not asked", err, loads)
						}
					})
				})
			}
		}
	}
}

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
