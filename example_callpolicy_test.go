package cache_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

// One cache, two kinds of callers: a page takes yesterday's price rather than wait, and the
// checkout takes none that the source does not confirm.
func ExampleWith() {
	source := &flaky{}
	prices := newCache(cache.Source[int, string]{}, strategy.TTL(time.Millisecond), strategy.StaleIfError(24*time.Hour))
	defer prices.Close()
	ctx := context.Background()
	_, _ = prices.GetOrLoad(ctx, 7, source.load)
	time.Sleep(3 * time.Millisecond) // its life is over
	source.err = errors.New("the database is down")

	v, err := prices.GetOrLoad(ctx, 7, source.load, cache.With(strategy.SoftTimeout(50*time.Millisecond)))
	fmt.Println("page:", v, err)

	confirmed := cache.With(strategy.StaleIfError(0))
	_, err = prices.GetOrLoad(ctx, 7, source.load, confirmed)
	fmt.Println("checkout:", err)

	_, err = prices.GetOrLoad(ctx, 7, source.load, cache.With(strategy.LRU(10)))
	fmt.Println(errors.Is(err, cache.ErrInvalidOption))
	// Output:
	// page: value 1 of 7 <nil>
	// checkout: the database is down
	// true
}

// A session lives for as long as it is used, without being loaded or stored anew.
func ExampleCache_Touch() {
	sessions := newCache(cache.Source[string, string]{}, strategy.TTL(time.Hour))
	defer sessions.Close()
	ctx := context.Background()
	_ = sessions.Set(ctx, "s1", "ada", cache.TTL(time.Minute))

	fmt.Println(sessions.Touch(ctx, "s1"))
	e, _ := sessions.Inspect(ctx, "s1")
	fmt.Println(e.Value, e.TTL.Round(time.Minute))
	fmt.Println(errors.Is(sessions.Touch(ctx, "s2"), cache.ErrMiss))
	// Output:
	// <nil>
	// ada 1h0m0s
	// true
}

// A counter within an hour, whose end does not move as it is counted up.
func ExampleKeepTTL() {
	quota := newCache(cache.Source[string, int]{}, strategy.TTL(24*time.Hour))
	defer quota.Close()
	ctx := context.Background()
	_ = quota.Set(ctx, "ada", 100, cache.TTL(time.Hour))

	_ = quota.Set(ctx, "ada", 90, cache.KeepTTL())
	e, _ := quota.Inspect(ctx, "ada")
	fmt.Println(e.Value, e.TTL.Round(time.Hour))
	// Output: 90 1h0m0s
}

// A value of this process alone: Redis and other processes keep theirs.
func ExampleSkipRemote() {
	flags := newCache(cache.Source[string, string]{}, strategy.LRU(100))
	defer flags.Close()
	ctx := context.Background()
	_ = flags.Set(ctx, "theme", "light")

	_ = flags.Set(ctx, "theme", "dark", cache.SkipRemote())
	here, _ := flags.Get(ctx, "theme")
	shared, _ := flags.Get(ctx, "theme", cache.SkipLocal())
	fmt.Println(here, shared)
	// Output: dark light
}
