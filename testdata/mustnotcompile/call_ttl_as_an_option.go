// want: does not implement cache.Option
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

func main() { _, _ = cache.New[int64, string](nil, "users", cache.TTL(time.Minute)) }
