// A service goes through an outage of Redis.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

func main() {
	ctx := context.Background()
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	db := map[int]string{42: "Ada"}
	load := func(_ context.Context, id int) (string, error) { return db[id], nil }
	rdb, err := cache.NewClient("redis://" + server.Addr())
	if err != nil {
		log.Fatal(err)
	}
	defer rdb.Close()
	users, err := cache.NewFrom(rdb, "users", cache.SourceFunc(load),
		cache.WithStrategy(strategy.LRU(1000)),
		cache.WithTimeout(100*time.Millisecond),
		cache.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	if err != nil {
		log.Fatal(err)
	}
	defer users.Close()
	fmt.Println(users.Get(ctx, 42))

	server.Close() // Redis is gone
	db[42] = "Grace"
	err = users.Invalidate(ctx, 42)
	fmt.Println("unavailable:", errors.Is(err, cache.ErrUnavailable))
	fmt.Println(users.Get(ctx, 42)) // from the database, and not what Redis or the local tier had

	if err := server.Restart(); err != nil { // Redis is back, with what it had
		log.Fatal(err)
	}
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	fmt.Println("delivered:", users.Sync(waiting)) // the invalidation, as of the time of its call
	fmt.Println(users.Get(ctx, 42))
}
