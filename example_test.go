package cache_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/cachetest"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// startRedis starts an embedded Redis, so that the examples run anywhere. A
// program connects to a real one: cache.NewClient("redis://localhost:6379").
func startRedis() redis.UniversalClient { return startEnv().Client() }

// startEnv starts a Redis with processes and faults. In a test it is cachetest.New(t).
func startEnv() *cachetest.Env { return cachetest.New(exampleT{}) }

// exampleT stands for a *testing.T, which examples don't have.
type exampleT struct{}

func (exampleT) Helper()                           {}
func (exampleT) Context() context.Context          { return context.Background() }
func (exampleT) Cleanup(f func())                  { atExit = append(atExit, f) }
func (exampleT) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (exampleT) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// atExit is what TestMain runs before it looks for leaks.
var atExit []func()

type User struct {
	ID   int64
	Name string
}

func Example() {
	ctx := context.Background()
	rdb := startRedis() // cache.NewClient("redis://localhost:6379")

	users, err := cache.New[int64, User](rdb, "users",
		cache.WithStrategy(strategy.LRU(10_000), strategy.TTL(10*time.Minute)))
	if err != nil {
		panic(err)
	}
	defer users.Close()

	load := func(ctx context.Context, id int64) (User, error) {
		fmt.Println("asking the database")
		return User{ID: id, Name: "Ada"}, nil
	}
	for range 2 {
		u, err := users.GetOrLoad(ctx, 42, load)
		fmt.Println(u.Name, err)
	}
	// Output:
	// asking the database
	// Ada <nil>
	// Ada <nil>
}

// A cache in front of a source reads through: Get loads what no tier has.
func ExampleNewFrom() {
	ctx := context.Background()
	db := map[int64]User{1: {1, "Ada"}, 2: {2, "Grace"}}

	users, err := cache.NewFrom(startRedis(), "users", cache.Source[int64, User]{
		Load: func(ctx context.Context, id int64) (User, error) {
			u, ok := db[id]
			if !ok {
				return User{}, cache.ErrNotFound
			}
			return u, nil
		},
	})
	if err != nil {
		panic(err)
	}
	defer users.Close()

	u, err := users.Get(ctx, 2)
	fmt.Println(u.Name, err)
	_, err = users.Get(ctx, 3)
	fmt.Println(errors.Is(err, cache.ErrNotFound))
	// Output:
	// Grace <nil>
	// true
}

// Results of background tasks, kept by id: the first caller computes.
func ExampleCache_GetOrLoad_taskResults() {
	type Result struct {
		Status string
		Rows   int
	}
	ctx := context.Background()
	results, err := cache.New[string, Result](startRedis(), "task-results",
		cache.WithStrategy(strategy.TTL(time.Hour)))
	if err != nil {
		panic(err)
	}
	defer results.Close()

	run := func(ctx context.Context, id string) (Result, error) {
		return Result{Status: "done", Rows: len(id)}, nil
	}
	r, err := results.GetOrLoad(ctx, "task-7f3a", run)
	fmt.Println(r.Status, r.Rows, err)
	// Output: done 9 <nil>
}

// The state of an agent, gone half a minute after its last report.
func ExampleTTL_agentState() {
	type State struct {
		Phase string
		Load  float64
	}
	ctx := context.Background()
	agents, err := cache.New[string, State](startRedis(), "agents")
	if err != nil {
		panic(err)
	}
	defer agents.Close()

	err = agents.Set(ctx, "agent-1", State{Phase: "running", Load: 0.7}, cache.TTL(30*time.Second))
	if err != nil {
		panic(err)
	}
	e, err := agents.Inspect(ctx, "agent-1")
	fmt.Println(e.Value.Phase, e.TTL > 29*time.Second && e.TTL <= 30*time.Second, err)

	_, err = agents.Get(ctx, "agent-2")
	fmt.Println(errors.Is(err, cache.ErrMiss))
	// Output:
	// running true <nil>
	// true
}

// A batch asks each tier once, and loads only what is missing.
func ExampleCache_GetOrLoadMany() {
	ctx := context.Background()
	users, err := cache.New[int64, User](startRedis(), "users")
	if err != nil {
		panic(err)
	}
	defer users.Close()
	_ = users.Set(ctx, 1, User{1, "Ada"})

	// A query returns rows in any order; KeyedBy sorts them to their keys.
	query := func(ctx context.Context, ids []int64) ([]User, error) {
		slices.Sort(ids)
		fmt.Println("SELECT … WHERE id IN", ids)
		return []User{{3, "Edith"}, {2, "Grace"}}, nil
	}
	got, err := users.GetOrLoadMany(ctx, []int64{1, 2, 3, 4},
		cache.KeyedBy(query, func(u User) int64 { return u.ID }))
	fmt.Println(got[1].Name, got[2].Name, got[3].Name, len(got), err)
	// Output:
	// SELECT … WHERE id IN [2 3 4]
	// Ada Grace Edith 3 <nil>
}

func ExampleCache_SetMany() {
	ctx := context.Background()
	names, err := cache.New[int, string](startRedis(), "names")
	if err != nil {
		panic(err)
	}
	defer names.Close()

	err = names.SetMany(ctx, map[int]string{1: "one", 2: "two"}, cache.TTL(time.Minute))
	got, _ := names.GetMany(ctx, []int{1, 2, 3})
	fmt.Println(got, err)
	// Output: map[1:one 2:two] <nil>
}

// Of all who try, in this process and in others, one succeeds.
func ExampleCache_SetIfAbsent() {
	ctx := context.Background()
	owners, err := cache.New[string, string](startRedis(), "owners")
	if err != nil {
		panic(err)
	}
	defer owners.Close()

	fmt.Println(owners.SetIfAbsent(ctx, "job-1", "worker-a"))
	fmt.Println(owners.SetIfAbsent(ctx, "job-1", "worker-b"))
	fmt.Println(owners.Get(ctx, "job-1"))
	// Output:
	// true <nil>
	// false <nil>
	// worker-a <nil>
}

// Update is atomic over all processes that share the Redis.
func ExampleCache_Update() {
	ctx := context.Background()
	visits, err := cache.New[string, int](startRedis(), "visits")
	if err != nil {
		panic(err)
	}
	defer visits.Close()

	for range 3 {
		n, err := visits.Update(ctx, "home", func(n int, ok bool) (int, error) { return n + 1, nil })
		fmt.Println(n, err)
	}
	// Output:
	// 1 <nil>
	// 2 <nil>
	// 3 <nil>
}

func ExampleCache_Delete() {
	ctx := context.Background()
	names, err := cache.New[int, string](startRedis(), "names")
	if err != nil {
		panic(err)
	}
	defer names.Close()

	_ = names.Set(ctx, 1, "one")
	fmt.Println(names.Delete(ctx, 1))
	_, err = names.Get(ctx, 1)
	fmt.Println(errors.Is(err, cache.ErrMiss))
	// Output:
	// <nil>
	// true
}

// That something does not exist is remembered as well, and known by the source's
// own error.
func Example_notFound() {
	ctx := context.Background()
	queries := 0
	users, err := cache.NewFrom(startRedis(), "users", cache.SourceFunc(
		func(ctx context.Context, id int64) (User, error) {
			queries++
			return User{}, sql.ErrNoRows
		}),
		cache.WithStrategy(strategy.NotFoundTTL(time.Minute, sql.ErrNoRows)))
	if err != nil {
		panic(err)
	}
	defer users.Close()

	for range 2 {
		_, err = users.Get(ctx, 7)
		fmt.Println(errors.Is(err, cache.ErrNotFound), errors.Is(err, sql.ErrNoRows), queries)
	}
	// Output:
	// true true 1
	// true true 1
}

// Redis out of reach is no failure of a read that can load.
func Example_unavailable() {
	ctx := context.Background()
	rdb, err := cache.NewClient("redis://127.0.0.1:1") // nothing listens there
	if err != nil {
		panic(err)
	}
	defer rdb.Close()
	users, err := cache.New[int64, User](rdb, "users", cache.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		panic(err)
	}
	defer users.Close()

	u, err := users.GetOrLoad(ctx, 1, func(ctx context.Context, id int64) (User, error) {
		return User{id, "Ada"}, nil
	})
	fmt.Println(u.Name, err)

	err = users.Set(ctx, 1, User{1, "Ada"})
	fmt.Println(errors.Is(err, cache.ErrUnavailable))
	_, err = users.Get(ctx, 1)
	fmt.Println(errors.Is(err, cache.ErrUnavailable), errors.Is(err, cache.ErrMiss))
	// Output:
	// Ada <nil>
	// true
	// true true
}

// A cache without Redis, for one process.
func ExampleLocalOnly() {
	ctx := context.Background()
	squares, err := cache.NewFrom(nil, "squares", cache.SourceFunc(
		func(ctx context.Context, n int) (int, error) { return n * n, nil }),
		cache.LocalOnly(), cache.WithStrategy(strategy.LRU(100), strategy.Forever()))
	if err != nil {
		panic(err)
	}
	defer squares.Close()

	fmt.Println(squares.Get(ctx, 12))
	// Output: 144 <nil>
}

// Options that several caches share.
func ExampleWithOptions() {
	defaults := cache.WithOptions(
		cache.WithPrefix("shop:"),
		cache.WithStrategy(strategy.TTL(time.Hour)),
	)
	rdb := startRedis()
	users, err := cache.New[int64, User](rdb, "users", defaults)
	if err != nil {
		panic(err)
	}
	defer users.Close()
	carts, err := cache.New[string, []string](rdb, "carts", defaults, cache.WithStrategy(strategy.TTL(time.Minute)))
	if err != nil {
		panic(err)
	}
	defer carts.Close()

	fmt.Println(users.RedisKey(42), carts.RedisKey("a b"))
	// Output: shop:users:42 shop:carts:a b
}

// Codecs wrap each other. An encrypted value can't be read, changed, or moved to
// another key without notice.
func ExampleWithCodec() {
	ctx := context.Background()
	key := []byte("an example key of 32 bytes, so..")
	notes, err := cache.New[string, User](startRedis(), "notes",
		cache.WithCodec(codec.Encrypted(codec.Compressed(codec.Msgpack()), key)))
	if err != nil {
		panic(err)
	}
	defer notes.Close()

	_ = notes.Set(ctx, "n", User{1, "Ada"})
	fmt.Println(notes.Get(ctx, "n"))
	// Output: {1 Ada} <nil>
}

// Struct keys are encoded field by field. For other types a Source says how.
func ExampleSource_key() {
	type Page struct {
		Tenant string
		Number int
	}
	pages, err := cache.New[Page, string](startRedis(), "pages")
	if err != nil {
		panic(err)
	}
	defer pages.Close()
	fmt.Println(pages.RedisKey(Page{"acme", 3}), pages.RedisKey(Page{"a:b", 3}))

	grid, err := cache.NewFrom(startRedis(), "grid", cache.Source[[2]float64, string]{
		Key: func(p [2]float64) string { return fmt.Sprintf("%g,%g", p[0], p[1]) },
	})
	if err != nil {
		panic(err)
	}
	defer grid.Close()
	fmt.Println(grid.RedisKey([2]float64{1.5, 2}))
	// Output:
	// pages:acme:3 pages:a%3Ab:3
	// grid:1.5,2
}

// With Clone, what a reader gets is its own.
func ExampleSource_clone() {
	ctx := context.Background()
	lists, err := cache.NewFrom(startRedis(), "lists",
		cache.Source[string, []string]{
			Load:  func(ctx context.Context, key string) ([]string, error) { return strings.Split(key, ""), nil },
			Clone: slices.Clone[[]string],
		}, cache.WithStrategy(strategy.LRU(100)))
	if err != nil {
		panic(err)
	}
	defer lists.Close()

	mine, _ := lists.Get(ctx, "abc")
	mine[0] = "X"
	again, _ := lists.Get(ctx, "abc")
	fmt.Println(mine, again)
	// Output: [X b c] [a b c]
}

// Without a Clone of its own, a value is copied by its codec.
func ExampleWithCloning() {
	ctx := context.Background()
	lists, err := cache.NewFrom(startRedis(), "lists", cache.SourceFunc(
		func(ctx context.Context, key string) ([]string, error) { return strings.Split(key, ""), nil }),
		cache.WithStrategy(strategy.LRU(100)), cache.WithCloning())
	if err != nil {
		panic(err)
	}
	defer lists.Close()

	mine, _ := lists.Get(ctx, "abc")
	mine[0] = "X"
	again, _ := lists.Get(ctx, "abc")
	fmt.Println(mine, again)
	// Output: [X b c] [a b c]
}

// The source is asked by so many at once, whatever the number of callers.
func ExampleWithLoadLimit() {
	ctx := context.Background()
	var running, most atomic.Int32
	reports, err := cache.NewFrom(startRedis(), "reports", cache.SourceFunc(
		func(ctx context.Context, id int) (string, error) {
			most.Store(max(most.Load(), running.Add(1))) // two at most: good enough to see
			defer running.Add(-1)
			time.Sleep(time.Millisecond)
			return fmt.Sprint("report ", id), nil
		}), cache.WithLoadLimit(2))
	if err != nil {
		panic(err)
	}
	defer reports.Close()

	var all sync.WaitGroup
	for id := range 20 {
		all.Go(func() { _, _ = reports.Get(ctx, id) })
	}
	all.Wait()
	fmt.Println(reports.Metrics().Loads, "loads,", most.Load() <= 2)
	// Output: 20 loads, true
}

// After two failures in a row Redis is left alone; a read with a loader goes on.
func ExampleWithBreaker() {
	ctx := context.Background()
	rdb, _ := cache.NewClient("redis://127.0.0.1:1") // nothing listens there
	defer rdb.Close()
	users, err := cache.NewFrom(rdb, "users", cache.SourceFunc(
		func(ctx context.Context, id int) (string, error) { return "Ada", nil }),
		cache.WithBreaker(2, time.Minute), cache.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		panic(err)
	}
	defer users.Close()

	for range 5 {
		_, _ = users.Get(ctx, 1)
	}
	name, err := users.Get(ctx, 1)
	fmt.Println(name, err, users.Metrics().Breaker)
	// Output: Ada <nil> open
}

// Where an answer came from.
func ExampleReport() {
	ctx := context.Background()
	names, err := cache.NewFrom(startRedis(), "names", cache.SourceFunc(
		func(ctx context.Context, id int) (string, error) { return "Ada", nil }),
		cache.WithStrategy(strategy.LRU(100)))
	if err != nil {
		panic(err)
	}
	defer names.Close()

	var info cache.Info
	for _, opts := range [][]cache.ReadOption{nil, nil, {cache.SkipLocal()}, {cache.MaxAge(0)}} {
		_, _ = names.Get(ctx, 1, append(opts, cache.Report(&info))...)
		fmt.Println(info.Tier)
	}
	// Output:
	// source
	// local
	// remote
	// source
}

// A loader can say how long its own result is good for.
func ExampleCurrentLoad() {
	ctx := context.Background()
	tokens, err := cache.New[string, string](startRedis(), "tokens")
	if err != nil {
		panic(err)
	}
	defer tokens.Close()

	_, _ = tokens.GetOrLoad(ctx, "api", func(ctx context.Context, key string) (string, error) {
		token, expiresIn := "secret", 90*time.Second // from an identity provider
		cache.CurrentLoad[string](ctx).SetTTL(expiresIn)
		return token, nil
	})
	e, _ := tokens.Inspect(ctx, "api")
	fmt.Println(e.TTL > 89*time.Second && e.TTL <= 90*time.Second)
	// Output: true
}

// Peek looks into the tiers and never loads.
func ExampleCache_Peek() {
	ctx := context.Background()
	names, err := cache.NewFrom(startRedis(), "names", cache.SourceFunc(
		func(ctx context.Context, id int) (string, error) { return "Ada", nil }))
	if err != nil {
		panic(err)
	}
	defer names.Close()

	_, err = names.Peek(ctx, 1)
	fmt.Println(errors.Is(err, cache.ErrMiss))
	_, _ = names.Get(ctx, 1)
	fmt.Println(names.Peek(ctx, 1))
	// Output:
	// true
	// Ada <nil>
}

func ExampleCache_Metrics() {
	ctx := context.Background()
	names, err := cache.NewFrom(startRedis(), "names", cache.SourceFunc(
		func(ctx context.Context, id int) (string, error) { return "Ada", nil }),
		cache.WithStrategy(strategy.LRU(100)))
	if err != nil {
		panic(err)
	}
	defer names.Close()

	for range 4 {
		_, _ = names.Get(ctx, 1)
	}
	m := names.Metrics()
	fmt.Println(m.Hits(), m.Misses(), m.Loads, m.HitRate())
	names.ResetMetrics()
	fmt.Println(names.Metrics().Hits())
	// Output:
	// 3 1 1 0.75
	// 0
}

// What can the server do? A program may ask at its start.
func ExampleProbe() {
	caps, err := cache.Probe(context.Background(), startRedis())
	if err != nil {
		panic(err) // it does not answer
	}
	if err := caps.Err(); err != nil {
		panic(err) // caches can't be used
	}
	for _, m := range caps.Missing() { // of the embedded Redis of the tests
		fmt.Println(m.Lacks)
	}
	fmt.Println("local tiers are coherent:", caps.PubSub)

	// Output:
	// CLIENT TRACKING over RESP3
	// local tiers are coherent: yes
}
