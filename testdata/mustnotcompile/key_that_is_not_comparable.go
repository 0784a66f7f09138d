// want: does not satisfy comparable
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

func main() { _, _ = cache.New[[]byte, string](nil, "users") }
