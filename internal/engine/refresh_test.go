package engine

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// XFetch: the later in an entry's life, the likelier; by the formula of its authors,
// the time from the first early recompute to the end is exponential with a mean of
// delta times beta.
func TestEarlyExpirationFollowsItsFormula(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testCache[string](t, storetest.NewMemory(), nil, strategy.TTL(100*time.Second), strategy.EarlyExpiration(1))
		seed := uint64(1)
		c.rand = func() float64 { // a fixed sequence
			seed = seed*6364136223846793005 + 1442695040888963407
			return float64(seed>>11) / (1 << 53)
		}
		const delta, rounds = 4 * time.Second, 400
		var calls atomic.Int32
		load := loadFunc[string](func(context.Context) (string, error) {
			calls.Add(1)
			time.Sleep(delta)
			return "v", nil
		})
		early := 0.0
		for range rounds {
			if _, err := get[string](t.Context(), c, "k", load, &Options{HasMaxAge: true}); err != nil {
				t.Fatal(err)
			}
			stored := time.Now()
			loads := calls.Load()
			// One read a time unit: then P(early by more than x) = exp(-x/delta) for the
			// sum over reads, up to the step.
			for calls.Load() == loads && time.Since(stored) < 100*time.Second {
				time.Sleep(time.Second)
				if _, err := get[string](t.Context(), c, "k", load, &NoOptions); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			early += (100*time.Second - time.Since(stored)).Seconds()
			time.Sleep(2 * delta)
		}
		// The expectation, by the formula: the first n at which U(n) <= exp(-(100-n)/delta).
		want, alive := 0.0, 1.0
		for n := 1.0; n <= 100; n++ {
			p := math.Exp(-(100 - n) / delta.Seconds())
			want += alive * p * (100 - n)
			alive *= 1 - p
		}
		if got := early / rounds; math.Abs(got-want) > 0.1*want {
			t.Errorf("early by %.2f s on average, want %.2f", got, want)
		}
	})
}
