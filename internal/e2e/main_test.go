package e2e_test

import (
	"context"
	"os"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// quiet drops what the client library prints of connections that fail: tests break many.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	if text := os.Getenv(workerEnv); text != "" {
		os.Exit(work(text)) // this is a process that a test has started
	}
	redistest.Main(m)
}

func startMini(t *testing.T) *miniredis.Miniredis { return miniredis.RunT(t) }
