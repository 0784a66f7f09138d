package cache_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

// What leaves the local tier is released, one after the other.
func ExampleSource_removed() {
	done := make(chan bool)
	c := newCache(cache.Source[int, string]{
		Removed: func(key int, val string, why cache.Reason) {
			fmt.Println(key, val, why)
			done <- true
		},
	}, strategy.LRU(100))
	defer c.Close()
	ctx := context.Background()

	_ = c.Set(ctx, 7, "first")
	_ = c.Set(ctx, 7, "second")
	<-done
	_ = c.Delete(ctx, 7)
	<-done
	// Output:
	// 7 first replaced
	// 7 second deleted
}

// The source fails, and there is no stale value: readers get one that will do.
func ExampleSource_default() {
	c := newCache(cache.Source[string, float64]{
		Load:    func(context.Context, string) (float64, error) { return 0, errors.New("the service of rates is down") },
		Default: func(currency string) (float64, bool) { return 1, currency == "EUR" },
	})
	defer c.Close()
	ctx := context.Background()

	var info cache.Info
	rate, err := c.Get(ctx, "EUR", cache.Report(&info))
	fmt.Println(rate, err, "because", info.LoadErr)
	_, err = c.Get(ctx, "SEK")
	fmt.Println(err)
	// Output:
	// 1 <nil> because the service of rates is down
	// the service of rates is down
}

// What would this process answer with, without asking Redis?
func ExampleCache_Local() {
	c := newCache(cache.Source[int, string]{}, strategy.LRU(100), strategy.Forever())
	defer c.Close()
	_ = c.Set(context.Background(), 7, "seven", cache.Tags("odd"))

	for key, e := range c.Local() {
		fmt.Println(key, e.Value, e.Tier, e.Tags)
	}
	// Output: 7 seven local [odd]
}

// The local tier of a process that needs its memory for something else.
func ExampleCache_Resize() {
	c := newCache(cache.Source[int, string]{}, strategy.LRU(500))
	defer c.Close()
	ctx := context.Background()
	for i := range 500 {
		_ = c.Set(ctx, i, "value")
	}

	fmt.Println(c.Metrics().LocalEntries, c.Resize(50), c.Metrics().LocalEntries)
	fmt.Println(errors.Is(c.Resize(0), cache.ErrInvalidOption))
	// Output:
	// 500 <nil> 50
	// true
}

// Which keys are read most? The first call begins to count.
func ExampleCache_HotKeys() {
	c := newCache(cache.SourceFunc(func(_ context.Context, id int) (string, error) { return "value", nil }))
	defer c.Close()
	ctx := context.Background()
	c.HotKeys(0)
	for i := range 100 {
		_, _ = c.Get(ctx, i)
		_, _ = c.Get(ctx, 42)
	}

	fmt.Println(c.HotKeys(1))
	// Output: [{42 101}]
}
