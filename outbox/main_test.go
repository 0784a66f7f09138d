package outbox_test

import (
	"context"
	"testing"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/outbox/internal/dbtest"
	"github.com/redis/go-redis/v9"
)

// quiet drops what the client library prints of connections that fail: tests end servers.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	if beChild() {
		return
	}
	redistest.Main(m, dbtest.Stop)
}
