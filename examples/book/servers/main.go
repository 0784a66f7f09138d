// What a server can do for caches, and what they do without.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
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

	caps, err := cache.Probe(ctx, rdb)
	if err != nil {
		log.Fatal(err) // it does not answer
	}
	fmt.Println("caches can be used:", caps.Err() == nil)
	fmt.Println("local tiers are coherent:", caps.PubSub)
	for _, m := range caps.Missing() {
		fmt.Println("the server lacks:", m.Lacks)
	}
}
