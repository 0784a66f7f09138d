// Reads and writes of a cache, with what they answer.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
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
	rdb, err := cache.NewClient("redis://" + server.Addr())
	if err != nil {
		log.Fatal(err)
	}
	defer rdb.Close()
	carts, err := cache.New[string, []string](rdb, "carts", cache.WithStrategy(strategy.LRU(1000)))
	if err != nil {
		log.Fatal(err)
	}
	defer carts.Close()

	// No tier has it, and there is no loader.
	_, err = carts.Get(ctx, "ada")
	fmt.Println("a miss:", errors.Is(err, cache.ErrMiss))

	// A value, with a life of its own.
	if err := carts.Set(ctx, "ada", []string{"tea"}, cache.TTL(time.Hour)); err != nil {
		log.Fatal(err)
	}

	// Atomic over all processes: each of them adds to what the others have added.
	cart, err := carts.Update(ctx, "ada", func(old []string, _ bool) ([]string, error) {
		return append(old[:len(old):len(old)], "milk"), nil
	})
	fmt.Println("updated:", cart, err)

	// Where the answer came from.
	var info cache.Info
	cart, err = carts.Get(ctx, "ada", cache.SkipLocal(), cache.Report(&info))
	fmt.Println("read:", cart, err, "from the tier", info.Tier)

	// Many keys: what is missing is left out.
	all, err := carts.GetMany(ctx, []string{"ada", "bob"})
	fmt.Println("many:", all, err)

	// A loader that is given by the call.
	cart, err = carts.GetOrLoad(ctx, "bob", func(context.Context, string) ([]string, error) {
		return []string{"coffee"}, nil
	})
	fmt.Println("loaded:", cart, err)
}
