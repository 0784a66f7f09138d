package memory_test

import (
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

func hitCache(t testing.TB) *cache.Cache[string, int] {
	t.Helper()
	c, err := cache.New[string, int](nil, "n", cache.LocalOnly(), cache.WithStrategy(strategy.LRU(1000), strategy.TTL(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Set(t.Context(), "key", 1); err != nil {
		t.Fatal(err)
	}
	return c
}
