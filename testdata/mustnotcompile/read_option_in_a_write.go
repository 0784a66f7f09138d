// want: does not implement cache.WriteOption
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

func main() { _ = users.Set(ctx, 42, "v", cache.SkipLocal()) }
