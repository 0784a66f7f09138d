package cachetest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/cachetest"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// printer stands for the *testing.T of a test, which examples don't have.
type printer struct{ cleanups []func() }

func (*printer) Helper()                           {}
func (*printer) Context() context.Context          { return context.Background() }
func (p *printer) Cleanup(f func())                { p.cleanups = append(p.cleanups, f) }
func (*printer) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (*printer) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (p *printer) end() {
	for len(p.cleanups) > 0 {
		last := len(p.cleanups) - 1
		f := p.cleanups[last]
		p.cleanups = p.cleanups[:last]
		f()
	}
}

// newUsers is the code under test.
func newUsers(rdb redis.UniversalClient, db *cachetest.Source[int64, string], opts ...cache.Option) *cache.Cache[int64, string] {
	users, err := cache.NewFrom(rdb, "users", cache.Source[int64, string]{Load: db.Load},
		cache.WithStrategy(strategy.LRU(10_000), strategy.TTL(10*time.Minute)),
		cache.WithTimeout(time.Second), // time is real in an example, and the machine may be busy
		cache.WithLogger(slog.New(slog.DiscardHandler)), cache.WithOptions(opts...))
	if err != nil {
		panic(err)
	}
	return users
}

// A value is loaded once for all readers.
func ExampleNew() {
	t := &printer{} // in a test, its *testing.T
	defer t.end()
	env := cachetest.New(t)
	db := cachetest.NewSource(map[int64]string{1: "Ada"})
	users := newUsers(env.Client(), db)
	defer users.Close()

	for range 3 {
		fmt.Println(users.Get(t.Context(), 1))
	}
	cachetest.WantHit(t, users, 1, "Ada")
	cachetest.WantMiss(t, users, 2)
	cachetest.Loads(t, users, 1)
	// Output:
	// Ada <nil>
	// Ada <nil>
	// Ada <nil>
}

// Two processes make one load.
func ExampleEnv_Process() {
	t := &printer{}
	defer t.end()
	env := cachetest.New(t)
	db := cachetest.NewSource(map[int64]string{1: "Ada"})
	a, b := newUsers(env.Process().Client(), db), newUsers(env.Process().Client(), db)
	defer a.Close()
	defer b.Close()

	fmt.Println(a.Get(t.Context(), 1))
	fmt.Println(b.Get(t.Context(), 1))
	db.WantLoads(t, 1)
	cachetest.Loads(t, a, 1)
	cachetest.Loads(t, b, 0)
	// Output:
	// Ada <nil>
	// Ada <nil>
}

// Without Redis, reads come from the source.
func ExampleEnv_CutRedis() {
	t := &printer{}
	defer t.end()
	env := cachetest.New(t)
	db := cachetest.NewSource(map[int64]string{1: "Ada", 2: "Grace"})
	users := newUsers(env.Client(), db)
	defer users.Close()
	_, _ = users.Get(t.Context(), 1)

	env.CutRedis()
	fmt.Println(users.Get(t.Context(), 2))
	err := users.Set(t.Context(), 1, "Edith")
	fmt.Println(errors.Is(err, cache.ErrUnavailable))
	// Output:
	// Grace <nil>
	// true
}

// A Redis that takes longer than cache.WithTimeout is none for a cache.
func ExampleEnv_Slow() {
	t := &printer{}
	defer t.end()
	env := cachetest.New(t)
	db := cachetest.NewSource(map[int64]string{1: "Ada", 2: "Grace"})
	users := newUsers(env.Client(), db, cache.WithTimeout(100*time.Millisecond))
	defer users.Close()
	_, _ = users.Get(t.Context(), 1)

	env.Slow(time.Hour)
	var info cache.Info
	v, err := users.Get(t.Context(), 2, cache.Report(&info))
	fmt.Println(v, err, info.Tier)

	env.Heal()
	fmt.Println(env.Client().Ping(t.Context()).Val())
	// Output:
	// Grace <nil> source
	// PONG
}

// Redis has lost everything. Whatever is read next is loaded again.
func ExampleEnv_FlushAll() {
	t := &printer{}
	defer t.end()
	env := cachetest.New(t)
	db := cachetest.NewSource(map[int64]string{1: "Ada"})
	users, err := cache.NewFrom(env.Client(), "users", db.ReadOnly())
	if err != nil {
		panic(err)
	}
	defer users.Close()
	_, _ = users.Get(t.Context(), 1)

	env.FlushAll()
	cachetest.WantMiss(t, users, 1)
	fmt.Println(users.Get(t.Context(), 1))
	cachetest.Loads(t, users, 2)
	// Output: Ada <nil>
}

// A failed assertion says what there is, and what has come of the reads.
func ExampleLoads() {
	t := &printer{}
	defer t.end()
	env := cachetest.New(t)
	db := cachetest.NewSource(map[int64]string{1: "Ada"})
	users := newUsers(env.Client(), db)
	defer users.Close()

	_, _ = users.Get(t.Context(), 1)
	_ = users.Invalidate(t.Context(), 1)
	_, _ = users.Get(t.Context(), 1)
	_, _ = users.Get(t.Context(), 1)
	cachetest.Loads(t, users, 1)
	db.WantLoads(t, 1)
	// Output:
	// cachetest: users: 2 loads, want 1: 1 local hits, 2 misses since there was nothing
	// cachetest: 2 loads from the source, want 1: key 1 2 times
}

func ExampleWantHit() {
	t := &printer{}
	defer t.end()
	env := cachetest.New(t)
	users := newUsers(env.Client(), cachetest.NewSource[int64, string](nil))
	defer users.Close()

	cachetest.WantHit(t, users, 1, "Ada")
	// Output:
	// cachetest: users: key 1: got a miss: no tier has anything, want a hit: "Ada"
}

// A source that fails for some keys, and counts.
func ExampleSource() {
	ctx := context.Background()
	db := cachetest.NewSource(map[int]string{1: "Ada", 2: "Grace"})
	names, err := cache.NewFrom(nil, "names", db.ReadOnly(), cache.LocalOnly())
	if err != nil {
		panic(err)
	}
	defer names.Close()

	db.Fail(errors.New("bad row"), 2)
	fmt.Println(names.Get(ctx, 1))
	_, err = names.Get(ctx, 2)
	fmt.Println(err)
	db.Fail(nil)
	fmt.Println(names.Get(ctx, 2))
	_, err = names.Get(ctx, 3)
	fmt.Println(errors.Is(err, cache.ErrNotFound))
	fmt.Println(db.Loads(), db.LoadsOf(2))
	// Output:
	// Ada <nil>
	// bad row
	// Grace <nil>
	// true
	// 4 2
}

// Loads wait, so that a test can look at what happens meanwhile.
func ExampleSource_Hold() {
	ctx := context.Background()
	db := cachetest.NewSource(map[int]string{1: "Ada"})
	names, err := cache.NewFrom(nil, "names", db.ReadOnly(), cache.LocalOnly())
	if err != nil {
		panic(err)
	}
	defer names.Close()

	release := db.Hold()
	soon, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	_, err = names.Get(soon, 1) // a caller that does not wait for it
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	release()
	fmt.Println(names.Get(ctx, 1))
	// Output:
	// true
	// Ada <nil>
}
