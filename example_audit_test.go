package cache_test

import (
	"context"
	"fmt"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

// Local hits are compared with what Redis has: here all of them, in production one in ten thousand.
func ExampleWithStrategy_audit() {
	ctx := context.Background()
	prices, err := cache.New[string, int](startRedis(), "prices",
		cache.WithStrategy(strategy.LRU(1000), strategy.Audit(1)))
	if err != nil {
		panic(err)
	}
	defer prices.Close()
	_ = prices.Set(ctx, "apple", 120)
	for range 3 {
		_, _ = prices.Get(ctx, "apple")
	}
	m := prices.Metrics()
	for end := time.Now().Add(time.Minute); m.Audited < 3 && time.Now().Before(end); m = prices.Metrics() {
		time.Sleep(time.Millisecond) // the comparison is made behind the caller's back
	}
	fmt.Println(m.Audited, "hits compared,", m.StaleWithin, "stale within the bound,", m.StaleBeyond, "beyond it")
	// Output: 3 hits compared, 0 stale within the bound, 0 beyond it
}

// As in production.
func ExampleWithStrategy_auditSample() {
	prices, err := cache.New[string, int](startRedis(), "prices",
		cache.WithStrategy(strategy.LRU(1000), strategy.Audit(0.0001)))
	if err != nil {
		panic(err)
	}
	defer prices.Close()
	_ = prices.Set(context.Background(), "apple", 120)
	for range 100 {
		_, _ = prices.Get(context.Background(), "apple")
	}
	fmt.Println(prices.Metrics().StaleBeyond)
	// Output: 0
}
