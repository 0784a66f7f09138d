package cache_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/cachetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// await waits until f is true: another process has been told.
func await(f func() bool) {
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			panic("it does not happen")
		}
	}
}

// The source has changed by itself: the next reader asks it.
func ExampleCache_Invalidate() {
	ctx := context.Background()
	db := map[int64]User{1: {1, "Ada"}}
	users, err := cache.NewFrom(startRedis(), "users", cache.SourceFunc(
		func(ctx context.Context, id int64) (User, error) { return db[id], nil }))
	if err != nil {
		panic(err)
	}
	defer users.Close()

	_, _ = users.Get(ctx, 1)
	db[1] = User{1, "Ada Lovelace"}
	u, err := users.Get(ctx, 1)
	fmt.Println(u.Name, err)

	fmt.Println(users.Invalidate(ctx, 1))
	u, err = users.Get(ctx, 1)
	fmt.Println(u.Name, err)
	// Output:
	// Ada <nil>
	// <nil>
	// Ada Lovelace <nil>
}

// All keys of one tenant, whatever its name contains.
func ExampleCache_InvalidatePattern() {
	type Page struct {
		Tenant string
		Number int
	}
	ctx := context.Background()
	pages, err := cache.New[Page, string](startRedis(), "pages")
	if err != nil {
		panic(err)
	}
	defer pages.Close()
	_ = pages.SetMany(ctx, map[Page]string{{"acme", 1}: "a", {"acme", 2}: "b", {"acme*", 1}: "c"})

	tenant := invalidate.QuotePattern(invalidate.Key("acme", "")) // acme:
	fmt.Println(pages.InvalidatePattern(ctx, tenant+"*"))
	fmt.Println(pages.Get(ctx, Page{"acme*", 1}))
	// Output:
	// 2 <nil>
	// c <nil>
}

// Groups of entries are invalidated together, however many they are. The source
// says of every value what it belongs to, and a call may add to that.
func ExampleCache_InvalidateTags() {
	type Order struct{ Customer, State string }
	ctx := context.Background()
	orders, err := cache.NewFrom(startRedis(), "orders", cache.Source[int, Order]{
		Tags: func(id int, o Order) []string { return []string{"customer:" + o.Customer} },
	})
	if err != nil {
		panic(err)
	}
	defer orders.Close()
	_ = orders.Set(ctx, 1, Order{"ada", "paid"})
	_ = orders.Set(ctx, 2, Order{"ada", "open"})
	_ = orders.Set(ctx, 3, Order{"grace", "open"}, cache.Tags("imported", "urgent"))
	_ = orders.Set(ctx, 4, Order{"grace", "paid"})

	fmt.Println(orders.InvalidateTags(ctx, "customer:ada", "urgent"))
	left, _ := orders.GetMany(ctx, []int{1, 2, 3, 4})
	fmt.Println(left)
	// Output:
	// <nil>
	// map[4:{grace paid}]
}

// Clear is for one cache. Others in the same Redis keep what they have.
func ExampleCache_Clear() {
	ctx := context.Background()
	rdb := startRedis()
	names, err := cache.New[int, string](rdb, "names")
	if err != nil {
		panic(err)
	}
	defer names.Close()
	cities, err := cache.New[int, string](rdb, "cities")
	if err != nil {
		panic(err)
	}
	defer cities.Close()
	_ = names.Set(ctx, 1, "Ada")
	_ = cities.Set(ctx, 1, "London")

	fmt.Println(names.Clear(ctx))
	_, err = names.Get(ctx, 1)
	fmt.Println(errors.Is(err, cache.ErrMiss))
	fmt.Println(cities.Get(ctx, 1))
	// Output:
	// <nil>
	// true
	// London <nil>
}

// Refresh loads before anybody has to wait for it.
func ExampleCache_Refresh() {
	ctx := context.Background()
	rate := 1.1
	rates, err := cache.NewFrom(startRedis(), "rates", cache.SourceFunc(
		func(ctx context.Context, currency string) (float64, error) { return rate, nil }))
	if err != nil {
		panic(err)
	}
	defer rates.Close()

	_, _ = rates.Get(ctx, "EUR")
	rate = 1.2
	fmt.Println(rates.Refresh(ctx, "EUR"))
	fmt.Println(rates.Peek(ctx, "EUR")) // Peek does not load
	// Output:
	// <nil>
	// 1.2 <nil>
}

// What Redis can't be told is told when it is back; Sync waits for that. Until then
// this process does not serve what it knows to be old.
func ExampleCache_Sync() {
	ctx := context.Background()
	env := startEnv()
	db := cachetest.NewSource(map[int]string{1: "old"})
	process := func() *cache.Cache[int, string] {
		c, err := cache.NewFrom(env.Process().Client(), "names", db.ReadOnly(),
			cache.WithStrategy(strategy.LRU(100)), cache.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			panic(err)
		}
		return c
	}
	a, b := process(), process()
	defer a.Close()
	defer b.Close()
	_, _ = a.Get(ctx, 1)
	_, _ = b.Get(ctx, 1)

	env.CutRedis() // an outage
	db.Put(1, "new")
	err := a.Set(ctx, 1, "new")
	fmt.Println(errors.Is(err, cache.ErrUnavailable))
	fmt.Println(a.Get(ctx, 1))

	env.Heal()
	fmt.Println(a.Sync(ctx))
	await(func() bool { v, _ := b.Get(ctx, 1); return v == "new" })
	fmt.Println(b.Get(ctx, 1))
	// Output:
	// true
	// new <nil>
	// <nil>
	// new <nil>
}

// A process hears what the others write. By Tracking it also hears what other
// programs do, redis-cli included; where the server can't do that, as here, it hears
// by Broadcast instead.
func ExampleWithTransport() {
	ctx := context.Background()
	rdb := startRedis()
	process := func() *cache.Cache[int, string] {
		c, err := cache.New[int, string](rdb, "names",
			cache.WithStrategy(strategy.LRU(1000)), // each has a local tier of its own
			cache.WithTransport(invalidate.Tracking()),
			cache.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			panic(err)
		}
		return c
	}
	a, b := process(), process()
	defer a.Close()
	defer b.Close()

	_ = a.Set(ctx, 1, "Ada")
	fmt.Println(b.Get(ctx, 1)) // and has it in memory now
	_ = a.Set(ctx, 1, "Grace")
	await(func() bool { v, _ := b.Get(ctx, 1); return v == "Grace" })
	fmt.Println(b.Get(ctx, 1))
	// Output:
	// Ada <nil>
	// Grace <nil>
}

// Lazy removes nothing: what is invalidated stays where it is, but the next reader
// asks the source.
func ExampleWithInvalidator() {
	ctx := context.Background()
	rdb := startRedis()
	name := "Ada"
	names, err := cache.NewFrom(rdb, "names", cache.SourceFunc(
		func(ctx context.Context, id int) (string, error) { return name, nil }),
		cache.WithInvalidator(invalidate.Lazy()))
	if err != nil {
		panic(err)
	}
	defer names.Close()

	_, _ = names.Get(ctx, 1)
	name = "Ada Lovelace"
	fmt.Println(names.Invalidate(ctx, 1))
	fmt.Println(rdb.Exists(ctx, names.RedisKey(1)).Val() == 1)
	fmt.Println(names.Get(ctx, 1))
	// Output:
	// <nil>
	// true
	// Ada Lovelace <nil>
}

// Delayed lets an invalidated entry live on for a while, so that a crowd of readers
// does not come to the source at once. Redis ends it, even if this process is gone.
func ExampleWithInvalidator_delayed() {
	ctx := context.Background()
	names, err := cache.New[int, string](startRedis(), "names",
		cache.WithStrategy(strategy.TTL(time.Hour)),
		cache.WithInvalidator(invalidate.Delayed(time.Minute)))
	if err != nil {
		panic(err)
	}
	defer names.Close()

	_ = names.Set(ctx, 1, "Ada")
	_ = names.Invalidate(ctx, 1)
	e, err := names.Inspect(ctx, 1)
	fmt.Println(e.Value, e.TTL <= time.Minute, err)

	_ = names.Set(ctx, 1, "Ada Lovelace") // written meanwhile: not touched
	e, err = names.Inspect(ctx, 1)
	fmt.Println(e.Value, e.TTL > time.Minute, err)
	// Output:
	// Ada true <nil>
	// Ada Lovelace true <nil>
}

// What a value belongs to may be known only when it has been loaded.
func ExampleLoad_AddTags() {
	ctx := context.Background()
	pages, err := cache.New[string, string](startRedis(), "pages")
	if err != nil {
		panic(err)
	}
	defer pages.Close()

	render := func(ctx context.Context, path string) (string, error) {
		fmt.Println("rendering", path)
		cache.CurrentLoad[string](ctx).AddTags("template:shop", "article:7")
		return "<html>…", nil
	}
	_, _ = pages.GetOrLoad(ctx, "/shop/7", render)
	_, _ = pages.GetOrLoad(ctx, "/shop/7", render)
	_ = pages.InvalidateTags(ctx, "article:7")
	_, _ = pages.GetOrLoad(ctx, "/shop/7", render)
	// Output:
	// rendering /shop/7
	// rendering /shop/7
}
