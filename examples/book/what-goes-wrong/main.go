// A stampede and a stale fill, tried on two processes.
package main

import (
	"context"
	"fmt"
	"log"
	"sync"
	"sync/atomic"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

// process stands for a process: a client and a cache of its own.
func process(addr string, load cache.LoadFunc[int, string]) *cache.Cache[int, string] {
	rdb, err := cache.NewClient("redis://" + addr)
	if err != nil {
		log.Fatal(err)
	}
	c, err := cache.NewFrom(rdb, "rows", cache.SourceFunc(load), cache.WithStrategy(strategy.LRU(1000)))
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

	var row atomic.Value // what the database has
	var queries atomic.Int32
	reading, goOn := make(chan bool, 1), make(chan bool)
	load := func(context.Context, int) (string, error) {
		v := row.Load().(string)
		if queries.Add(1) == 1 {
			reading <- true
			<-goOn // a slow query: it has read the row, and takes a while longer
		}
		return v, nil
	}
	a, b := process(server.Addr(), load), process(server.Addr(), load)
	defer a.Close()
	defer b.Close()

	// A stampede: 200 callers in two processes ask for the same key.
	row.Store("v1")
	var callers sync.WaitGroup
	for i := range 200 {
		c := []*cache.Cache[int, string]{a, b}[i%2]
		callers.Go(func() {
			if _, err := c.Get(ctx, 42); err != nil {
				log.Print(err)
			}
		})
	}
	<-reading
	fmt.Println("queries:", queries.Load())

	// While that load is under way the row changes, and is invalidated.
	row.Store("v2")
	if err := b.Invalidate(ctx, 42); err != nil {
		log.Fatal(err)
	}
	close(goOn)
	callers.Wait()

	// What the load had read was not kept: v1 is nowhere.
	for _, c := range []*cache.Cache[int, string]{a, b} {
		v, err := c.Get(ctx, 42)
		fmt.Println(v, err)
	}
}
