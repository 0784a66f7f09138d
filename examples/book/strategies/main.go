// A source that fails, and what the strategies of a cache make of it.
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

	var failure error
	load := func(_ context.Context, currency string) (float64, error) { return 1.08, failure }
	rates, err := cache.NewFrom(rdb, "rates", cache.SourceFunc(load), cache.WithStrategy(
		strategy.TTL(50*time.Millisecond), strategy.Jitter(0), // short, so that the program is
		strategy.StaleIfError(time.Hour),
		strategy.RetryAfter(10*time.Second)))
	if err != nil {
		log.Fatal(err)
	}
	defer rates.Close()

	read := func(currency string) {
		var info cache.Info
		v, err := rates.Get(ctx, currency, cache.Report(&info))
		fmt.Printf("%s: %.2f, stale: %t, covered: %v, error: %v\n", currency, v, info.Stale, info.LoadErr, err)
	}
	read("USD")
	failure = errors.New("the service does not answer")
	// Its life ends; the value is kept for the hour that StaleIfError allows.
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := rates.Peek(ctx, "USD"); err != nil {
			break
		}
	}
	read("USD")
	read("CHF") // of this one there is nothing to fall back on
}
