package memory_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// A failure that Redis has no record of, because it granted no lease, is forgotten by an
// invalidation all the same, by any way and in any combination of tiers.
func TestAnInvalidationForgetsAFailureThatRedisHasNoRecordOf(t *testing.T) {
	for way, change := range ways {
		for tiers, opts := range map[string][]cache.Option{
			"one tier":                 nil,
			"one tier, no transport":   {cache.WithTransport(invalidate.NoTransport())},
			"two tiers":                {cache.WithStrategy(strategy.LRU(10))},
			"two tiers, no transport":  {cache.WithStrategy(strategy.LRU(10)), cache.WithTransport(invalidate.NoTransport())},
			"two tiers, with tracking": {cache.WithStrategy(strategy.LRU(10)), cache.WithTransport(invalidate.Tracking())},
			"two tiers, lazy":          {cache.WithStrategy(strategy.LRU(10), strategy.StaleIfError(time.Hour)), cache.WithInvalidator(invalidate.Lazy())},
		} {
			for _, refused := range [][]string{{"set_nx"}, {"get", "set_nx"}} { // of the second load no logical time is known
				t.Run(way+"/"+tiers+"/"+strings.Join(refused, " and "), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						ctx := t.Context()
						st := &refusing{Memory: storetest.NewMemory()}
						failing := errors.New("the source fails")
						loads := 0
						src := cache.Source[string, int]{Load: func(context.Context, string) (int, error) { loads++; return 0, failing }}
						opts := append([]cache.Option{quietLog, cache.WithStrategy(strategy.Jitter(0), strategy.TTL(time.Hour), strategy.ErrorTTL(time.Minute))}, opts...)
						c := newCache(t, st, src, opts...)
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
