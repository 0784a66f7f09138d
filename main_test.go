package cache_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// quiet drops what the client library prints of connections that fail: tests break many.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	redistest.Main(m, func() {
		for _, f := range atExit {
			f()
		}
	})
}

var discard = cache.WithLogger(slog.New(slog.DiscardHandler))

func startMini(t *testing.T) *miniredis.Miniredis { return miniredis.RunT(t) }
