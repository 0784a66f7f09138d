// want: does not implement cache.ReadOption
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

type mine struct{}

func main() { _, _ = users.Get(ctx, 42, mine{}) }
