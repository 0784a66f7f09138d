package cache_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// flaky is a source that fails when it is told to.
type flaky struct {
	err   error
	loads int
}

func (f *flaky) load(_ context.Context, id int) (string, error) {
	f.loads++
	return fmt.Sprintf("value %d of %d", f.loads, id), f.err
}

func newCache[K comparable, V any](src cache.Source[K, V], s ...strategy.Strategy) *cache.Cache[K, V] {
	c, err := cache.NewFrom(startRedis(), "values", src, cache.WithStrategy(append([]strategy.Strategy{strategy.Jitter(0)}, s...)...))
	if err != nil {
		panic(err)
	}
	return c
}

// The source is down for a while: the last value that it gave is served meanwhile, for
// an hour at most, and the source is asked again every 10 seconds.
func ExampleWithStrategy_staleIfError() {
	source := &flaky{}
	c := newCache(cache.SourceFunc(source.load), strategy.TTL(time.Millisecond), strategy.StaleIfError(time.Hour), strategy.RetryAfter(10*time.Second))
	defer c.Close()
	ctx := context.Background()
	_, _ = c.Get(ctx, 7)

	time.Sleep(3 * time.Millisecond) // its life is over
	source.err = errors.New("the database is down")
	for range 3 {
		var info cache.Info
		v, err := c.Get(ctx, 7, cache.Report(&info))
		fmt.Println(v, err, "stale:", info.Stale, "because", info.LoadErr)
	}
	fmt.Println(source.loads, "loads")
	// Output:
	// value 1 of 7 <nil> stale: true because the database is down
	// value 1 of 7 <nil> stale: true because the database is down
	// value 1 of 7 <nil> stale: true because the database is down
	// 2 loads
}

// No reader waits for a load of what was loaded before: the old value is the answer, and
// a new one is loaded behind the caller's back.
func ExampleWithStrategy_staleWhileRevalidate() {
	loading := make(chan string, 1)
	c := newCache(cache.SourceFunc(func(context.Context, int) (string, error) {
		loading <- "a load, behind the caller's back"
		return "new", nil
	}), strategy.TTL(time.Second), strategy.StaleWhileRevalidate(time.Hour))
	defer c.Close()
	ctx := context.Background()
	_ = c.Set(ctx, 7, "old", cache.TTL(time.Millisecond))

	time.Sleep(3 * time.Millisecond)
	v, _ := c.Get(ctx, 7)
	fmt.Println(v)
	fmt.Println(<-loading)
	// Output:
	// old
	// a load, behind the caller's back
}

// A value that is asked for is loaded anew before it ends.
func ExampleWithStrategy_refreshAhead() {
	source := &flaky{}
	c := newCache(cache.SourceFunc(source.load), strategy.TTL(time.Minute), strategy.RefreshAhead(0.8))
	defer c.Close()
	v, _ := c.Get(context.Background(), 7) // after 48 seconds, a read starts a refresh
	fmt.Println(v)
	// Output: value 1 of 7
}

// Many processes that each refresh ahead at a time of their own need not agree who does.
func ExampleWithStrategy_earlyExpiration() {
	source := &flaky{}
	c := newCache(cache.SourceFunc(source.load), strategy.TTL(time.Minute), strategy.EarlyExpiration(1))
	defer c.Close()
	v, _ := c.Get(context.Background(), 7)
	fmt.Println(v)
	// Output: value 1 of 7
}

// A source that is slow today: after 20 ms the old value will do, and the load goes on.
func ExampleWithStrategy_softTimeout() {
	slow := func(ctx context.Context, id int) (string, error) {
		<-ctx.Done() // never, or when the hard timeout ends it
		return "", ctx.Err()
	}
	c := newCache(cache.SourceFunc(slow), strategy.TTL(time.Second), strategy.StaleIfError(time.Hour),
		strategy.SoftTimeout(20*time.Millisecond), strategy.HardTimeout(10*time.Second))
	defer c.Close()
	ctx := context.Background()
	_ = c.Set(ctx, 7, "old", cache.TTL(time.Millisecond))
	time.Sleep(3 * time.Millisecond)

	var info cache.Info
	v, err := c.Get(ctx, 7, cache.Report(&info))
	fmt.Println(v, err, info.Stale)
	// Output: old <nil> true
}

// A key that makes the source fail is left alone for a while.
func ExampleWithStrategy_errorTTL() {
	source := &flaky{err: errors.New("bad gateway")}
	c := newCache(cache.SourceFunc(source.load), strategy.ErrorTTL(5*time.Second))
	defer c.Close()
	for range 3 {
		_, err := c.Get(context.Background(), 7)
		fmt.Println(err)
	}
	fmt.Println(source.loads, "load")
	// Output:
	// bad gateway
	// bad gateway
	// bad gateway
	// 1 load
}

// Sessions end when they were not used for half an hour, and after a day in any case.
func ExampleWithStrategy_sliding() {
	c := newCache(cache.Source[string, string]{}, strategy.TTL(24*time.Hour), strategy.Sliding(30*time.Minute))
	defer c.Close()
	ctx := context.Background()
	_ = c.Set(ctx, "session", "alice")
	v, _ := c.Get(ctx, "session") // begins another half hour
	fmt.Println(v)
	// Output: alice
}

// The local tier holds 1000 entries at most, and about a megabyte.
func ExampleWithStrategy_localBytes() {
	c := newCache(cache.Source[int, string]{}, strategy.LRU(100), strategy.LocalBytes(1<<20), strategy.LocalTTL(10*time.Second))
	defer c.Close()
	all := map[int]string{}
	for i := range 150 {
		all[i] = "value"
	}
	_ = c.SetMany(context.Background(), all)
	fmt.Println(c.Metrics().LocalEntries)
	// Output: 100
}

// Images that share their pixels with others take less than it seems.
func ExampleWithStrategy_weigh() {
	type image struct{ pixels []byte }
	shared := image{make([]byte, 1<<20)}
	src := cache.Source[string, image]{
		Load:  func(context.Context, string) (image, error) { return shared, nil },
		Weigh: func(name string, _ image) int64 { return int64(len(name)) + 24 },
	}
	c, err := cache.NewFrom(nil, "images", src, cache.LocalOnly(), cache.WithStrategy(strategy.LRU(1000), strategy.LocalBytes(1<<20)))
	if err != nil {
		panic(err)
	}
	defer c.Close()
	for i := range 10 {
		if _, err := c.Get(context.Background(), fmt.Sprintf("image%02d", i)); err != nil {
			panic(err)
		}
	}
	fmt.Println(c.Metrics().LocalEntries, "entries,", c.Metrics().LocalBytes, "bytes")
	// Output: 10 entries, 310 bytes
}

// What is read again and again remains, although more is read once than there is room for. With
// LRU every hour would begin with 50 loads.
func ExampleWithStrategy_tinyLFU() {
	c, err := cache.New[int, string](nil, "products", cache.LocalOnly(), cache.WithStrategy(strategy.TinyLFU(100)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	loads := 0
	read := func(id int) {
		_, _ = c.GetOrLoad(context.Background(), id, func(context.Context, int) (string, error) {
			loads++
			return "product", nil
		})
	}
	for hour := 1; hour <= 4; hour++ {
		loads = 0
		for range 2 { // customers look at these again and again
			for id := range 50 {
				read(id)
			}
		}
		fmt.Println("hour", hour, "loads of popular products:", loads)
		for page := range 150 { // a crawler goes on
			read(1000*hour + page)
		}
	}
	// Output:
	// hour 1 loads of popular products: 50
	// hour 2 loads of popular products: 0
	// hour 3 loads of popular products: 0
	// hour 4 loads of popular products: 0
}

// Settings that only a deployment changes: kept until they are written.
func ExampleWithStrategy_forever() {
	c := newCache(cache.Source[string, string]{}, strategy.Forever())
	defer c.Close()
	ctx := context.Background()
	_ = c.Set(ctx, "theme", "dark")
	e, _ := c.Inspect(ctx, "theme")
	fmt.Println(e.Value, "without end:", e.TTL == 0)
	// Output: dark without end: true
}

// A Set writes the database first. If that fails, nothing is cached.
func ExampleWithStrategy_writeThrough() {
	table := map[int]string{}
	c := newCache(cache.Source[int, string]{
		Store: func(_ context.Context, id int, v string) error {
			if v == "" {
				return errors.New("a value is required")
			}
			table[id] = v
			return nil
		},
		Delete: func(_ context.Context, id int) error { delete(table, id); return nil },
	}, strategy.WriteThrough()) // which Source.Store implies
	defer c.Close()
	ctx := context.Background()
	fmt.Println(c.Set(ctx, 7, "v"), table)
	fmt.Println(c.Set(ctx, 7, ""), table)
	fmt.Println(c.Delete(ctx, 7), table)
	// Output:
	// <nil> map[7:v]
	// a value is required map[7:v]
	// <nil> map[]
}

// What is written is rarely read soon: it goes to the database, and is loaded when it is
// asked for.
func ExampleWithStrategy_writeAround() {
	table := map[int]string{}
	c := newCache(cache.Source[int, string]{
		Load:  func(_ context.Context, id int) (string, error) { return "loaded " + table[id], nil },
		Store: func(_ context.Context, id int, v string) error { table[id] = v; return nil },
	}, strategy.WriteAround())
	defer c.Close()
	ctx := context.Background()
	_ = c.Set(ctx, 7, "v")
	v, _ := c.Get(ctx, 7)
	fmt.Println(v)
	// Output: loaded v
}

// Counters that change all the time reach the database in batches. A Set returns when
// the write is safe in Redis.
func ExampleWithStrategy_writeBehind() {
	table := map[string]int{}
	c := newCache(cache.Source[string, int]{
		StoreMany: func(_ context.Context, vals map[string]int) error {
			for k, v := range vals {
				table[k] = v
			}
			return nil
		},
	}, strategy.WriteBehind(strategy.BatchSize(500), strategy.BatchDelay(50*time.Millisecond)))
	defer c.Close()
	ctx := context.Background()
	for i := range 10 {
		_ = c.Set(ctx, "visits", i+1)
	}
	v, _ := c.Get(ctx, "visits") // the newest, though it is on its way
	fmt.Println(v)
	_ = c.Sync(ctx) // waits until it has arrived
	fmt.Println(table)
	// Output:
	// 10
	// map[visits:10]
}

// What the source refuses for good is kept, and can be looked at and tried again.
func ExampleCache_DeadLetters() {
	c := newCache(cache.Source[string, int]{
		Store: func(context.Context, string, int) error { return errors.New("no such table") },
	}, strategy.WriteBehind(strategy.MaxAttempts(1)))
	defer c.Close()
	ctx := context.Background()
	_ = c.Set(ctx, "visits", 7)
	_ = c.Sync(ctx)
	letters, _ := c.DeadLetters(ctx, 100)
	for _, l := range letters {
		fmt.Println(l.Key, l.Value, l.Reason)
	}
	n, _ := c.DiscardDeadLetters(ctx, letters[0].ID)
	fmt.Println(n, "discarded")
	// Output:
	// visits 7 no such table
	// 1 discarded
}

// A source that can say "not modified" is asked only whether its value is still the
// same.
func ExampleLoad_NotModified() {
	asked := ""
	c := newCache(cache.SourceFunc(func(ctx context.Context, page string) (string, error) {
		load := cache.CurrentLoad[string](ctx)
		if asked = load.ETag(); asked == "v1" {
			return load.NotModified() // as a server's 304 says
		}
		load.SetETag("v1")
		return "the page", nil
	}), strategy.TTL(time.Millisecond), strategy.StaleIfError(time.Hour))
	defer c.Close()
	ctx := context.Background()
	for range 2 {
		v, err := c.Get(ctx, "/")
		fmt.Printf("%s %v, asked with %q\n", v, err, asked)
		time.Sleep(3 * time.Millisecond)
	}
	// Output:
	// the page <nil>, asked with ""
	// the page <nil>, asked with "v1"
}

// What is no longer true may still cover a source that fails.
func ExampleWithInvalidator_lazy() {
	source := &flaky{}
	c, err := cache.NewFrom(startRedis(), "lazy", cache.SourceFunc(source.load),
		cache.WithInvalidator(invalidate.Lazy()), cache.WithStrategy(strategy.StaleIfError(time.Hour)))
	if err != nil {
		panic(err)
	}
	defer c.Close()
	ctx := context.Background()
	_, _ = c.Get(ctx, 7)
	_ = c.Invalidate(ctx, 7)
	source.err = errors.New("down")
	v, err := c.Get(ctx, 7)
	fmt.Println(v, err)
	source.err = nil
	v, err = c.Get(ctx, 7, cache.MaxAge(0))
	fmt.Println(v, err)
	// Output:
	// value 1 of 7 <nil>
	// value 3 of 7 <nil>
}
