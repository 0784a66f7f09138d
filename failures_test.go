package cache

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// A failure that is over, or of another key, does not keep reads from being loaded at once.
func TestOneFailureDoesNotEndThePrediction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := t.Context(), &ops{Memory: storetest.NewMemory()}
		c, err := build("test", SourceFunc(func(_ context.Context, k int) (int, error) {
			if k < 0 {
				return 0, errFlaky
			}
			return k, nil
		}), []Option{quietLog, WithStrategy(strategy.ErrorTTL(time.Minute))}, func(*config) store.Store { return st })
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Get(ctx, -1)
		for i := range 50 {
			c.Get(ctx, i)
		}
		st.take()
		c.Get(ctx, 1000)
		if did := st.take(); did != "[add swap]" {
			t.Errorf("a miss while another key's failure is remembered: %s", did)
		}
		time.Sleep(2 * time.Minute)
		if !c.failures.none() {
			t.Error("a failure is remembered that is over")
		}
	})
}
