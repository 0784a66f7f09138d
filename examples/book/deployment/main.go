// Two versions of a program, side by side during a deployment.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
)

// PriceV1 is what the older program stores.
type PriceV1 struct{ Cents int }

// PriceV2 is what the newer one stores: an amount alone is no longer enough.
type PriceV2 struct {
	Cents    int
	Currency string
}

func open[V any](addr string, load cache.LoadFunc[string, V], version uint32) *cache.Cache[string, V] {
	rdb, err := cache.NewClient("redis://" + addr)
	if err != nil {
		log.Fatal(err)
	}
	c, err := cache.NewFrom(rdb, "prices", cache.SourceFunc(load), cache.WithVersion(version))
	if err != nil {
		log.Fatal(err)
	}
	return c
}

func main() {
	ctx := context.Background()
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	loads := 0
	older := open(server.Addr(), func(context.Context, string) (PriceV1, error) {
		loads++
		return PriceV1{300}, nil
	}, 1)
	defer older.Close()
	newer := open(server.Addr(), func(context.Context, string) (PriceV2, error) {
		loads++
		return PriceV2{300, "EUR"}, nil
	}, 2)
	defer newer.Close()

	fmt.Println(older.Get(ctx, "tea"))
	fmt.Println(newer.Get(ctx, "tea")) // not what the older one has stored
	fmt.Println(newer.Get(ctx, "tea"))
	fmt.Println(older.Get(ctx, "tea")) // it leaves the record of the newer one alone
	fmt.Println(newer.Get(ctx, "tea"))
	fmt.Println("loads:", loads)
}
