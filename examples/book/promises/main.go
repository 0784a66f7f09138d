// Two processes with local tiers: what one of them writes, the other one reads.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// process stands for a process: a client and a cache of its own.
func process(addr string) *cache.Cache[string, int] {
	rdb, err := cache.NewClient("redis://" + addr)
	if err != nil {
		log.Fatal(err)
	}
	c, err := cache.New[string, int](rdb, "prices", cache.WithStrategy(strategy.LRU(1000)))
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

	if err := a.Set(ctx, "tea", 3); err != nil {
		log.Fatal(err)
	}
	// b has it in its local tier, as soon as it receives notifications.
	info := cache.Info{}
	for info.Tier != metrics.Local {
		if _, err := b.Get(ctx, "tea", cache.Report(&info)); err != nil {
			log.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}

	if err := a.Set(ctx, "tea", 4); err != nil {
		log.Fatal(err)
	}
	own, err := a.Get(ctx, "tea")
	fmt.Println("in the process that has written:", own, err) // at once, in any case

	// In the other one when the notification has arrived: within 2 seconds in any case, and
	// usually in less than a millisecond.
	other := 0
	for began := time.Now(); other != 4 && time.Since(began) < time.Minute; {
		if other, err = b.Get(ctx, "tea"); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("in the other one:", other)
}
