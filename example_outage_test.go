package cache_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

// Redis goes away, and the source must not get all reads. The local tier goes on: what it has is
// served, what is loaded is kept, and what this process invalidates is loaded anew.
func ExampleWithStrategy_localDuringOutage() {
	env := startEnv()
	source := &flaky{}
	c, err := cache.NewFrom(env.Client(), "values", cache.SourceFunc(source.load),
		cache.WithStrategy(strategy.LRU(1000), strategy.LocalDuringOutage(5*time.Minute)))
	if err != nil {
		panic(err)
	}
	defer c.Close()
	ctx := context.Background()
	fmt.Println(c.Get(ctx, 7))

	env.CutRedis()
	for range 3 {
		fmt.Println(c.Get(ctx, 7)) // from before
		fmt.Println(c.Get(ctx, 8)) // loaded once
	}
	err = c.Invalidate(ctx, 7)
	fmt.Println("Redis is told later:", errors.Is(err, cache.ErrUnavailable))
	fmt.Println(c.Get(ctx, 7))

	env.Heal()
	fmt.Println("told:", c.Sync(ctx))
	m := c.Metrics()
	fmt.Println(source.loads, "loads,", m.OutageFills, "of them kept in the outage")
	// Output:
	// value 1 of 7 <nil>
	// value 1 of 7 <nil>
	// value 2 of 8 <nil>
	// value 1 of 7 <nil>
	// value 2 of 8 <nil>
	// value 1 of 7 <nil>
	// value 2 of 8 <nil>
	// Redis is told later: true
	// value 3 of 7 <nil>
	// told: <nil>
	// 3 loads, 2 of them kept in the outage
}
