package e2e_test

import (
	"os"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9/logging"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(workerEnv); text != "" {
		logging.Disable()
		os.Exit(work(text)) // this is a process that a test has started
	}
	redistest.Main(m)
}

func startMini(t *testing.T) *miniredis.Miniredis { return miniredis.RunT(t) }
