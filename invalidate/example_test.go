package invalidate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// startRedis starts an embedded Redis, so that the examples run anywhere. A program
// connects to a real one: cache.NewClient("redis://localhost:6379").
func startRedis() (rdb redis.UniversalClient, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	if rdb, err = cache.NewClient("redis://" + server.Addr()); err != nil {
		panic(err)
	}
	return rdb, func() {
		rdb.Close()
		server.Close()
	}
}

// When a tenant changes, entries of several caches are no longer true.
func ExampleGroup() {
	type UserKey struct {
		Tenant string
		ID     int64
	}
	ctx := context.Background()
	rdb, stop := startRedis()
	defer stop()
	users, err := cache.New[UserKey, string](rdb, "users")
	if err != nil {
		panic(err)
	}
	defer users.Close()
	orders, err := cache.New[int64, string](rdb, "orders")
	if err != nil {
		panic(err)
	}
	defer orders.Close()
	_ = users.SetMany(ctx, map[UserKey]string{{"acme", 1}: "Ada", {"acme", 2}: "Grace", {"other", 1}: "Edith"})
	_ = orders.Set(ctx, 7, "a lamp", cache.Tags("tenant:acme"))
	_ = orders.Set(ctx, 8, "a chair", cache.Tags("tenant:other"))

	var acme invalidate.Group
	acme.AddPattern(users, invalidate.QuotePattern(invalidate.Key("acme", ""))+"*")
	acme.AddTags(orders, "tenant:acme")

	fmt.Println(acme.InvalidateAll(ctx))
	fmt.Println(users.GetMany(ctx, []UserKey{{"acme", 1}, {"acme", 2}, {"other", 1}}))
	fmt.Println(orders.GetMany(ctx, []int64{7, 8}))
	// Output:
	// <nil>
	// map[{other 1}:Edith] <nil>
	// map[8:a chair] <nil>
}

// A process without a cache, such as a consumer of a database's changes, tells those
// that have one.
func ExampleClient() {
	ctx := context.Background()
	rdb, stop := startRedis()
	defer stop()
	// In the processes that serve:
	users, err := cache.New[int64, string](rdb, "users",
		cache.WithPrefix("shop:"), cache.WithStrategy(strategy.LRU(1000)))
	if err != nil {
		panic(err)
	}
	defer users.Close()
	_ = users.SetMany(ctx, map[int64]string{1: "Ada", 2: "Grace", 3: "Edith"}, cache.Tags("staff"))

	// In the one that does not:
	client, err := invalidate.NewClient(rdb, "users", invalidate.Prefix("shop:"))
	if err != nil {
		panic(err)
	}
	defer client.Close()

	fmt.Println(client.Invalidate(ctx, invalidate.Key(int64(2))))
	await(func() bool { _, err := users.Get(ctx, 2); return errors.Is(err, cache.ErrMiss) })
	fmt.Println(users.GetMany(ctx, []int64{1, 2, 3}))

	fmt.Println(client.InvalidateTags(ctx, "staff"))
	await(func() bool { _, err := users.Get(ctx, 1); return errors.Is(err, cache.ErrMiss) })
	fmt.Println(users.GetMany(ctx, []int64{1, 2, 3}))
	// Output:
	// <nil>
	// map[1:Ada 3:Edith] <nil>
	// <nil>
	// map[] <nil>
}

// await waits until f is true: another process has been told.
func await(f func() bool) {
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			panic("it does not happen")
		}
	}
}

// A process that has no cache names keys as the caches do.
func ExampleKey() {
	fmt.Println(invalidate.Key(int64(42)))
	fmt.Println(invalidate.Key("acme", int64(42))) // of a cache with keys struct{ Tenant string; ID int64 }
	fmt.Println(invalidate.Key("a:b", int64(42)))
	// Output:
	// 42
	// acme:42
	// a%3Ab:42
}

// All keys of one tenant, whatever its name contains.
func ExampleQuotePattern() {
	tenant := "acme*"
	fmt.Println(invalidate.QuotePattern(invalidate.Key(tenant, "")) + "*")
	// Output:
	// acme\*:*
}

func ExampleDelayed() {
	p := invalidate.Delayed(500 * time.Millisecond)
	fmt.Println(p, p.Validate())
	// Output:
	// invalidate.Delayed(500ms) <nil>
}

// In a large fleet, a change of a key is reported to the processes that have read it. Where keys can't
// be tracked, as by the server of this example, they hear by Broadcast.
func ExampleTrackingKeys() {
	ctx := context.Background()
	rdb, stop := startRedis()
	defer stop()
	process := func() *cache.Cache[string, string] {
		c, err := cache.New[string, string](rdb, "prices",
			cache.WithStrategy(strategy.LRU(1000)),
			cache.WithTransport(invalidate.TrackingKeys()),
			cache.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			panic(err)
		}
		return c
	}
	a, b := process(), process()
	defer a.Close()
	defer b.Close()

	_ = a.Set(ctx, "lamp", "10 €")
	fmt.Println(b.Get(ctx, "lamp")) // it is in the memory of b from now on
	_ = a.Set(ctx, "lamp", "12 €")
	for {
		if price, err := b.Get(ctx, "lamp"); err != nil || price == "12 €" {
			fmt.Println(price, err)
			return
		}
	}
	// Output:
	// 10 € <nil>
	// 12 € <nil>
}
