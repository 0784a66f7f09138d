package cachetest_test

import (
	"context"
	"testing"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// quiet drops what the client library prints of connections that fail: tests break many.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	redistest.Main(m)
}
