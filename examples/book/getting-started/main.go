// A first cache: an embedded Redis, a source that stands for a database, and two reads.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

// User is what the database has.
type User struct {
	ID   int64
	Name string
}

func main() {
	ctx := context.Background()
	server, err := miniredis.Run() // in the program itself; a service has a Redis of its own
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	rdb, err := cache.NewClient("redis://" + server.Addr())
	if err != nil {
		log.Fatal(err)
	}
	defer rdb.Close()

	db := map[int64]User{42: {42, "Ada"}}
	load := func(_ context.Context, id int64) (User, error) {
		fmt.Println("the database is asked for", id)
		u, ok := db[id]
		if !ok {
			return User{}, cache.ErrNotFound
		}
		return u, nil
	}
	users, err := cache.NewFrom(rdb, "users", cache.Source[int64, User]{Load: load},
		cache.WithStrategy(strategy.LRU(10_000), strategy.TTL(10*time.Minute)))
	if err != nil {
		log.Fatal(err)
	}
	defer users.Close()

	for range 2 {
		u, err := users.Get(ctx, 42)
		fmt.Println(u.Name, err)
	}
	db[42] = User{42, "Grace"}
	if err := users.Invalidate(ctx, 42); err != nil {
		log.Fatal(err)
	}
	u, err := users.Get(ctx, 42)
	fmt.Println(u.Name, err)
}
