// What a hit in the local tier allocates.
package main

import (
	"context"
	"fmt"
	"log"
	"runtime"

	"github.com/delqhi/cache"
)

func main() {
	ctx := context.Background()
	squares, err := cache.NewFrom(nil, "squares", cache.SourceFunc(
		func(_ context.Context, n int) (int, error) { return n * n, nil }), cache.LocalOnly())
	if err != nil {
		log.Fatal(err)
	}
	defer squares.Close()
	if _, err := squares.Get(ctx, 12); err != nil {
		log.Fatal(err)
	}

	const hits = 1_000_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range hits {
		if v, err := squares.Get(ctx, 12); v != 144 || err != nil {
			log.Fatal(v, err)
		}
	}
	runtime.ReadMemStats(&after)
	fmt.Println("allocations for a hit:", (after.Mallocs-before.Mallocs)/hits)
	fmt.Println("hits counted:", squares.Metrics().LocalHits)
}
