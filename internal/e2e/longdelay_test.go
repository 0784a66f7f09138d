package e2e_test

import (
	"errors"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
)

// A delay that New accepts works for keys, patterns, tags and Clear.
func TestTheLongestDelayWorks(t *testing.T) {
	const longest = 100 * 365 * 24 * time.Hour
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		c := on(t, b, "c", cache.Source[string, int]{}, cache.WithInvalidator(invalidate.Delayed(longest)))
		if err := c.Set(ctx, "k", 1, cache.Tags("t")); err != nil {
			t.Fatal(err)
		}
		_, pattern := c.InvalidatePattern(ctx, "*")
		if err := errors.Join(c.Invalidate(ctx, "k"), pattern, c.InvalidateTags(ctx, "t"), c.Clear(ctx)); err != nil {
			t.Error(err)
		}
		if v, err := c.Get(ctx, "k"); v != 1 || err != nil {
			t.Errorf("long before the end: %d, %v", v, err)
		}
	})
}
