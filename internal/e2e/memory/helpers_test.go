package memory_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/strategy"
)

// build makes a cache on the store that open returns; nil for a LocalOnly cache.
func build[K comparable, V any](name string, src cache.Source[K, V], opts []cache.Option, open func() store.Store) (*cache.Cache[K, V], error) {
	return cache.NewFrom(nil, name, src, append(slices.Clip(opts), hook.Store(open).(cache.Option))...)
}

// newCache makes a cache on a store, or none for a LocalOnly cache, that is closed with the test.
func newCache[K comparable, V any](t *testing.T, st store.Store, src cache.Source[K, V], opts ...cache.Option) *cache.Cache[K, V] {
	t.Helper()
	c, err := build("test", src, append([]cache.Option{quietLog}, opts...), func() store.Store { return st })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ofKind makes a cache with "two tiers", with the local one alone, "local only", or else on the
// store alone.
func ofKind[K comparable, V any](t *testing.T, kind string, st store.Store, src cache.Source[K, V], opts ...cache.Option) *cache.Cache[K, V] {
	t.Helper()
	switch kind {
	case "two tiers":
		opts = append([]cache.Option{cache.WithStrategy(strategy.LRU(1000))}, opts...)
	case "local only":
		opts, st = append([]cache.Option{cache.LocalOnly()}, opts...), nil
	}
	return newCache(t, st, src, opts...)
}

// onMemory makes a cache of two tiers on a store that several caches may share, as processes
// share a Redis.
func onMemory[K comparable, V any](t *testing.T, st store.Store, src cache.Source[K, V], opts ...cache.Option) *cache.Cache[K, V] {
	t.Helper()
	return newCache(t, st, src, append([]cache.Option{cache.WithStrategy(strategy.LRU(100), strategy.Jitter(0))}, opts...)...)
}

var quietLog = cache.WithLogger(slog.New(slog.DiscardHandler))

func localOf[K comparable, V any](c *cache.Cache[K, V]) *local.Tier[K, V] {
	t, _ := hook.Of(c).Local.(*local.Tier[K, V])
	return t
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
