package memory_test

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
)

// build makes a cache on the store that open returns; nil for a LocalOnly cache.
func build[K comparable, V any](name string, src cache.Source[K, V], opts []cache.Option, open func() store.Store) (*cache.Cache[K, V], error) {
	return cache.NewFrom(nil, name, src, append(slices.Clip(opts), hook.Store(open).(cache.Option))...)
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
