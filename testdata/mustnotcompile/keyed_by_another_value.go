// want: .
package main

import (
	"context"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

var (
	ctx   = context.Background()
	users *cache.Cache[int64, string]
	_     = time.Second
	_     strategy.Strategy
)

func main() {
	list := func(context.Context, []int64) ([]string, error) { return nil, nil }
	_, _ = users.GetOrLoadMany(ctx, nil, cache.KeyedBy(list, func(n int) int64 { return 0 }))
}
