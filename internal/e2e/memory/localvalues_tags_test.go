package memory_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// An entry whose tags were not invalidated, as Redis can tell, is there for all methods: also for
// those that change it, and although this process does not know the tombstones of its tags.
func TestChangesOfLocalValuesWithUnknownTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		net := &wire{Memory: storetest.NewMemory()}
		c := onMemory(t, net, cache.Source[string, int]{}, cache.LocalValues(), cache.WithStrategy(strategy.TTL(time.Hour)))
		for _, k := range []string{"update", "touch", "keep", "down"} {
			if err := c.Set(ctx, k, 1, cache.Tags("of "+k)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.InvalidateTags(ctx, "other"); err != nil { // the clock moves on
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		add := func(old int, ok bool) (int, error) { return old + 1, nil }
		if v, err := c.Update(ctx, "update", add); v != 2 || err != nil {
			t.Errorf("Update: %d, %v", v, err)
		}
		if err := c.Touch(ctx, "touch"); err != nil {
			t.Errorf("Touch: %v", err)
		}
		if err := c.Set(ctx, "keep", 2, cache.KeepTTL()); err != nil {
			t.Errorf("KeepTTL: %v", err)
		}
		if e, err := c.Inspect(ctx, "keep"); err != nil || e.Value != 2 || e.TTL != 59*time.Minute {
			t.Errorf("kept: %+v, %v", e, err)
		}
		net.lose("read_clock")
		if v, err := c.Update(ctx, "down", add); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("Redis can't be asked: %d, %v", v, err)
		}
		net.heal()
		if v, err := c.Get(ctx, "down"); v != 1 || err != nil {
			t.Errorf("and is back: %d, %v", v, err)
		}
	})
}
