// One invalidation of a tag, seen by two processes.
package main

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

// process stands for a process: a client and a cache of its own.
func process(addr string) *cache.Cache[string, string] {
	rdb, err := cache.NewClient("redis://" + addr)
	if err != nil {
		log.Fatal(err)
	}
	c, err := cache.NewFrom(rdb, "documents", cache.Source[string, string]{
		Load: func(_ context.Context, id string) (string, error) { return "text of " + id, nil },
		// The tenant is the part before the colon.
		Tags: func(id, _ string) []string {
			tenant, _, _ := strings.Cut(id, ":")
			return []string{"tenant:" + tenant}
		},
	}, cache.WithStrategy(strategy.LRU(1000)))
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
	a, b := process(server.Addr()), process(server.Addr())
	defer a.Close()
	defer b.Close()

	ids := []string{"acme:1", "acme:2", "globex:1"}
	for _, c := range []*cache.Cache[string, string]{a, b} {
		if _, err := c.GetMany(ctx, ids); err != nil {
			log.Fatal(err)
		}
	}

	// One round trip, whatever the number of documents.
	if err := a.InvalidateTags(ctx, "tenant:acme"); err != nil {
		log.Fatal(err)
	}
	for _, id := range ids {
		_, err := a.Peek(ctx, id)
		fmt.Printf("%s: %v\n", id, err)
	}

	// A pattern matches keys, and returns how many.
	n, err := b.InvalidatePattern(ctx, "globex:*")
	fmt.Println(n, err)
}
