package cache_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

// Goroutines that know nothing of each other ask for one user each, and there is one query.
func ExampleWithStrategy_batchLoads() {
	ctx := context.Background()
	queryUsers := func(_ context.Context, ids []int64) (map[int64]User, error) {
		fmt.Println("SELECT … WHERE id IN", slices.Sorted(slices.Values(ids)))
		found := map[int64]User{}
		for _, id := range ids {
			found[id] = User{ID: id, Name: fmt.Sprint("user ", id)}
		}
		return found, nil
	}
	users, err := cache.NewFrom(startRedis(), "users", cache.Source[int64, User]{LoadMany: queryUsers},
		cache.WithStrategy(strategy.BatchLoads(3, time.Second))) // at most 3 keys; a few milliseconds are usual
	if err != nil {
		panic(err)
	}
	defer users.Close()

	var resolvers sync.WaitGroup
	for _, id := range []int64{7, 8, 9} {
		resolvers.Go(func() {
			if u, err := users.Get(ctx, id); err != nil || u.ID != id {
				panic(err)
			}
		})
	}
	resolvers.Wait()
	m := users.Metrics()
	fmt.Println(m.Batched, "keys in", m.Batches, "call")
	// Output:
	// SELECT … WHERE id IN [7 8 9]
	// 3 keys in 1 call
}

// A LoadMany that returns more than it was asked for, here all rows of a page, fills the local
// tier with it.
func ExampleWithStrategy_batchLoadsUnasked() {
	ctx := context.Background()
	page := func(_ context.Context, ids []int64) (map[int64]User, error) {
		fmt.Println("asked for", ids)
		return map[int64]User{1: {1, "Ada"}, 2: {2, "Bob"}, 3: {3, "Cy"}}, nil
	}
	users, err := cache.NewFrom(startRedis(), "users", cache.Source[int64, User]{LoadMany: page},
		cache.WithStrategy(strategy.LRU(1000), strategy.BatchLoads(100, time.Millisecond)))
	if err != nil {
		panic(err)
	}
	defer users.Close()
	for _, id := range []int64{2, 1, 3} {
		u, err := users.Get(ctx, id)
		fmt.Println(u.Name, err)
	}
	// Output:
	// asked for [2]
	// Bob <nil>
	// Ada <nil>
	// Cy <nil>
}
