// What a cache counts, and what it logs.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"

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
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{} // the output of this program is compared
		}
		return a
	}}))
	load := func(_ context.Context, id int) (string, error) { return fmt.Sprint("user ", id), nil }
	users, err := cache.NewFrom(rdb, "users", cache.SourceFunc(load), cache.WithLogger(logger),
		cache.WithStrategy(strategy.NotFoundTTL(0)), cache.WithMaxValueSize(7))
	if err != nil {
		log.Fatal(err)
	}
	defer users.Close()

	for _, id := range []int{1, 2, 1, 1} {
		if _, err := users.Get(ctx, id); err != nil {
			log.Fatal(err)
		}
	}
	// Too large to be kept: its readers get it all the same.
	if _, err := users.Get(ctx, 1000); err != nil {
		log.Fatal(err)
	}

	m := users.Metrics()
	fmt.Println("hits:", m.RemoteHits, "of", m.Requests())
	fmt.Println("loads:", m.Loads, "not kept:", m.NotKept)
	fmt.Printf("hit rate: %.0f %%\n", 100*m.HitRate())
}
