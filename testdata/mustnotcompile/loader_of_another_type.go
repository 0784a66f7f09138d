// want: cannot use .* as cache.LoadFunc
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
	_, _ = users.GetOrLoad(ctx, 42, func(context.Context, int64) (int, error) { return 1, nil })
}
