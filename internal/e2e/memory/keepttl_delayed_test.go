package memory_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// Of a value that is invalidated with a delay, what replaces it with KeepTTL does not keep that end: not if
// it was read since, or an Update has made another one of it, which ends with it.
func TestKeepTTLKeepsNoDelayedEnd(t *testing.T) {
	const delay = 100 * time.Millisecond
	ends := map[string]func(t *testing.T, c *cache.Cache[string, string]) error{
		"key": func(t *testing.T, c *cache.Cache[string, string]) error { return c.Invalidate(t.Context(), "k") },
		"tag": func(t *testing.T, c *cache.Cache[string, string]) error { return c.InvalidateTags(t.Context(), "t") },
		"pattern": func(t *testing.T, c *cache.Cache[string, string]) error {
			_, err := c.InvalidatePattern(t.Context(), "*")
			return err
		},
		"clear": func(t *testing.T, c *cache.Cache[string, string]) error { return c.Clear(t.Context()) },
	}
	tiers := map[string][]strategy.Strategy{
		"no local tier":             nil,
		"a local tier":              {strategy.LRU(10)},
		"a local tier in an outage": {strategy.LRU(10), strategy.LocalDuringOutage(time.Minute)},
	}
	between := map[string]func(t *testing.T, c *cache.Cache[string, string]) error{
		"nothing": func(*testing.T, *cache.Cache[string, string]) error { return nil },
		"a read": func(t *testing.T, c *cache.Cache[string, string]) error {
			_, err := c.Peek(t.Context(), "k")
			return err
		},
		"an update": func(t *testing.T, c *cache.Cache[string, string]) error {
			_, err := c.Update(t.Context(), "k", func(old string, _ bool) (string, error) { return old + "'", nil })
			return err
		},
	}
	for tier, strategies := range tiers {
		for end, invalidates := range ends {
			for what, does := range between {
				for name, kind := range map[string]invalidate.Transport{"broadcast": invalidate.Broadcast(), "tracking": invalidate.Tracking()} {
					synctest.Test(t, func(t *testing.T) {
						st := storetest.NewMemory()
						src := cache.Source[string, string]{Tags: func(string, string) []string { return []string{"t"} }}
						opts := []cache.Option{quietLog, cache.WithTransport(kind), cache.WithInvalidator(invalidate.Delayed(delay)), cache.WithStrategy(strategies...)}
						c, other := newCache(t, st, src, opts...), newCache(t, st, src, opts...)
						for _, step := range []func() error{
							func() error { return other.Set(t.Context(), "k", "old") },
							func() error { return invalidates(t, c) },
							func() error { return does(t, c) },
							func() error { return c.Set(t.Context(), "k", "new", cache.KeepTTL()) },
						} {
							if err := step(); err != nil {
								t.Fatalf("%s, %s, %s, %s: %v", tier, end, what, name, err)
							}
							time.Sleep(delay / 20)
						}
						time.Sleep(2 * delay)
						if v, err := c.Peek(t.Context(), "k"); v != "new" || err != nil {
							t.Errorf("%s, %s, %s, %s: %q, %v", tier, end, what, name, v, err)
						}
					})
				}
			}
		}
	}
}
