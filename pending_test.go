package cache

import (
	"context"
)

// ways to say that key "k", which has tag "t", is out of date.
var ways = map[string]func(context.Context, *Cache[string, int]) error{
	"Set": func(ctx context.Context, c *Cache[string, int]) error { return c.Set(ctx, "k", 2) },
	"SetMany": func(ctx context.Context, c *Cache[string, int]) error {
		return c.SetMany(ctx, map[string]int{"k": 2, "l": 2})
	},
	"Delete":         func(ctx context.Context, c *Cache[string, int]) error { return c.Delete(ctx, "k") },
	"Invalidate":     func(ctx context.Context, c *Cache[string, int]) error { return c.Invalidate(ctx, "k", "l") },
	"InvalidateTags": func(ctx context.Context, c *Cache[string, int]) error { return c.InvalidateTags(ctx, "t") },
	"Clear":          func(ctx context.Context, c *Cache[string, int]) error { return c.Clear(ctx) },
	"InvalidatePattern": func(ctx context.Context, c *Cache[string, int]) error {
		_, err := c.InvalidatePattern(ctx, "k*")
		return err
	},
}
