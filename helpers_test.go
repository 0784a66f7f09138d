package cache

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

var quietLog = WithLogger(slog.New(slog.DiscardHandler))

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

var errFlaky = errors.New("the source fails")

// source is a system of record whose answers a test decides.
type source struct {
	calls atomic.Int32
	load  atomic.Pointer[func(context.Context) (string, error)]
}

func (s *source) Source() Source[string, string] {
	return SourceFunc(func(ctx context.Context, _ string) (string, error) {
		s.calls.Add(1)
		return (*s.load.Load())(ctx)
	})
}

func (s *source) will(f func(context.Context) (string, error)) { s.load.Store(&f) }

// onMemory makes a cache on a store that several caches may share, as processes
// share a Redis.
func onMemory[K comparable, V any](t *testing.T, st *storetest.Memory, src Source[K, V], opts ...Option) *Cache[K, V] {
	t.Helper()
	opts = append([]Option{WithLogger(slog.New(slog.DiscardHandler)), WithStrategy(strategy.LRU(100), strategy.Jitter(0))}, opts...)
	c, err := build("test", src, opts, func(*config) store.Store { return st })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
