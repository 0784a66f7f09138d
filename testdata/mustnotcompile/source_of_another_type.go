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
	_, _ = cache.NewFrom(nil, "users", cache.Source[int64, string]{
		Load: func(context.Context, string) (string, error) { return "", nil },
	})
}
