package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/storetest"
)

// While no heartbeat comes back, as with one node of a cluster down, the local tier is not used, but
// kept. An Update then has no entry, and must not take that for another write that was faster.
func TestAnUpdateOfLocalValuesEndsWhileNothingIsHeard(t *testing.T) {
	for _, loads := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			st := storetest.NewMemory()
			src := newRules().source()
			if !loads {
				src.Load = nil
			}
			c := withValues(t, st, src)
			if err := c.Set(t.Context(), "k", &rule{name: "old"}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute) // a recent write would be replayed, and removed
			st.Intercept(func(d storetest.Delivery) (int, time.Duration) {
				if d.Kind == storetest.DeliverPulse {
					return 0, 0
				}
				return 1, 0
			})
			time.Sleep(10 * time.Second)
			if localOf(c).Len() == 0 || hook.Of(c).Coherence.LocalValid(local.Now()) {
				t.Errorf("the tier has %d entries, and is valid: %v", localOf(c).Len(), hook.Of(c).Coherence.LocalValid(local.Now()))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			calls := 0
			v, err := c.Update(ctx, "k", func(old *rule, ok bool) (*rule, error) {
				calls++
				return &rule{name: "new"}, nil
			})
			if calls != 1 || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("with a loader: %v: Update returned %v, %v after %d calls", loads, v, err, calls)
			}
		})
	}
}
