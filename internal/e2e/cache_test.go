package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

var discard = cache.WithLogger(slog.New(slog.DiscardHandler))

// on makes a cache on a backend, under a prefix of the test's own.
func on[K comparable, V any](t *testing.T, b *redistest.Backend, name string, src cache.Source[K, V], opts ...cache.Option) *cache.Cache[K, V] {
	t.Helper()
	opts = append([]cache.Option{cache.WithPrefix(b.Prefix), cache.WithTimeout(5 * time.Second), discard}, opts...)
	c, err := cache.NewFrom(b.Client, name, src, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var withLocal = cache.WithStrategy(strategy.LRU(1000))

// each runs f on every backend, with and without a local tier.
func each(t *testing.T, f func(t *testing.T, b *redistest.Backend, tiers cache.Option)) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		t.Run("remote only", func(t *testing.T) {
			c := *b
			c.Prefix += "r:"
			f(t, &c, cache.WithOptions())
		})
		t.Run("two tiers", func(t *testing.T) {
			c := *b
			c.Prefix += "l:"
			f(t, &c, withLocal)
		})
	})
}

type order struct {
	ID    int64
	Items []string
	Note  *string `json:",omitempty"`
}

func equal(a, b order) bool { return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b) }

func TestWhatIsSetIsRead(t *testing.T) {
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		ctx := t.Context()
		c := on(t, b, "orders", cache.Source[int64, order]{}, tiers)
		if _, err := c.Get(ctx, 1); !errors.Is(err, cache.ErrMiss) || errors.Is(err, cache.ErrUnavailable) {
			t.Fatalf("before: %v", err)
		}
		want := order{ID: 1, Items: []string{"a", "b"}}
		if err := c.Set(ctx, 1, want); err != nil {
			t.Fatal(err)
		}
		for _, opts := range [][]cache.ReadOption{nil, {cache.SkipLocal()}} {
			got, err := c.Get(ctx, 1, opts...)
			if err != nil || !equal(got, want) {
				t.Errorf("%d options: %+v, %v", len(opts), got, err)
			}
		}
		if got, err := c.Peek(ctx, 1); err != nil || !equal(got, want) {
			t.Errorf("Peek: %+v, %v", got, err)
		}
		if err := c.Delete(ctx, 1, 2); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(ctx, 1); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("after Delete: %v", err)
		}
	})
}

func TestReadThrough(t *testing.T) {
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		ctx := t.Context()
		var loads atomic.Int32
		c := on(t, b, "orders", cache.SourceFunc(func(ctx context.Context, id int64) (order, error) {
			loads.Add(1)
			if id == 404 {
				return order{}, fmt.Errorf("orders: %w", cache.ErrNotFound)
			}
			return order{ID: id}, nil
		}), tiers)
		for range 3 {
			if got, err := c.Get(ctx, 7); err != nil || got.ID != 7 {
				t.Fatal(got, err)
			}
			if _, err := c.Get(ctx, 404); !errors.Is(err, cache.ErrNotFound) || errors.Is(err, cache.ErrMiss) {
				t.Fatal(err)
			}
		}
		if n := loads.Load(); n != 2 {
			t.Errorf("%d loads for two keys", n)
		}
		var info cache.Info
		if _, err := c.Get(ctx, 7, cache.SkipLocal(), cache.Report(&info)); err != nil || info.Tier != metrics.Remote || info.TTL <= 0 {
			t.Errorf("%+v, %v", info, err)
		}
		if _, err := c.Get(ctx, 7, cache.MaxAge(0), cache.Report(&info)); err != nil || info.Tier != metrics.Source || loads.Load() != 3 {
			t.Errorf("MaxAge(0): %+v, %v, %d loads", info, err, loads.Load())
		}
		e, err := c.Inspect(ctx, 404)
		if err != nil || !e.Absent {
			t.Errorf("Inspect of an absence: %+v, %v", e, err)
		}
	})
}

func TestBatches(t *testing.T) {
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		ctx := t.Context()
		boom := errors.New("boom")
		var asked [][]int
		c := on(t, b, "names", cache.Source[int, string]{
			LoadMany: func(_ context.Context, keys []int) (map[int]string, error) {
				asked = append(asked, keys)
				m := map[int]string{}
				for _, k := range keys {
					if k%10 != 0 && k < 1000 {
						m[k] = fmt.Sprint("n", k)
					}
				}
				if len(m) < len(keys) && keys[len(keys)-1] >= 1000 {
					return m, boom
				}
				return m, nil
			},
		}, tiers)
		if err := c.SetMany(ctx, map[int]string{1: "one", 2: "two"}); err != nil {
			t.Fatal(err)
		}
		got, err := c.GetMany(ctx, []int{1, 2, 2, 3, 4, 10, 1})
		want := map[int]string{1: "one", 2: "two", 3: "n3", 4: "n4"}
		if err != nil || !maps.Equal(got, want) {
			t.Fatalf("%v, %v", got, err)
		}
		if len(asked) != 1 || fmt.Sprint(asked[0]) != "[3 4 10]" {
			t.Errorf("the source was asked for %v", asked)
		}
		if got, err = c.GetMany(ctx, []int{1, 2, 3, 4, 10}); err != nil || !maps.Equal(got, want) || len(asked) != 1 {
			t.Errorf("again: %v, %v, asked %v", got, err, asked)
		}
		got, err = c.GetMany(ctx, []int{5, 1001})
		var be *cache.BatchError[int]
		if !errors.As(err, &be) || !errors.Is(err, boom) || be.For(5) != nil || !errors.Is(be.For(1001), boom) || got[5] != "n5" {
			t.Errorf("partial: %v, %v", got, err)
		}
		if got, err = c.GetMany(ctx, nil); got == nil || len(got) != 0 || err != nil {
			t.Errorf("no keys: %v, %v", got, err)
		}
		if err := c.SetMany(ctx, nil); err != nil {
			t.Error(err)
		}
		if err := c.Delete(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestABatchWithoutLoadManyLoadsOneByOne(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		c := on(t, b, "squares", cache.SourceFunc(func(_ context.Context, n int) (int, error) {
			if n == 13 {
				panic("unlucky")
			}
			return n * n, nil
		}))
		keys := make([]int, 100)
		for i := range keys {
			keys[i] = i
		}
		got, err := c.GetMany(t.Context(), keys)
		var be *cache.BatchError[int]
		var pe *cache.PanicError
		if !errors.As(err, &be) || len(be.Errs) != 1 || !errors.As(be.For(13), &pe) || len(got) != 99 || got[99] != 9801 {
			t.Errorf("%d values, %v", len(got), err)
		}
	})
}

func TestSetIfAbsentStoresOnce(t *testing.T) {
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		ctx := t.Context()
		caches := []*cache.Cache[string, int]{
			on(t, b, "owners", cache.Source[string, int]{}, tiers), on(t, b, "owners", cache.Source[string, int]{}, tiers),
		}
		for round := range 20 {
			key := fmt.Sprint("job", round)
			if round%2 == 1 { // over something that is no value
				if err := b.Client.Set(ctx, caches[0].RedisKey(key), "garbage", 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			var winner atomic.Int32
			var wins atomic.Int32
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					ok, err := caches[i%2].SetIfAbsent(ctx, key, i+1)
					if err != nil {
						t.Error(err)
					}
					if ok {
						wins.Add(1)
						winner.Store(int32(i + 1))
					}
				})
			}
			wg.Wait()
			v, err := caches[0].Get(ctx, key, cache.SkipLocal())
			if wins.Load() != 1 || err != nil || v != int(winner.Load()) {
				t.Fatalf("round %d: %d winners, value %d of %d, %v", round, wins.Load(), v, winner.Load(), err)
			}
		}
	})
}

func TestUpdatesOfManyProcessesAllCount(t *testing.T) {
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		ctx := t.Context()
		const writers, rounds = 4, 25
		var wg sync.WaitGroup
		for range writers {
			c := on(t, b, "counters", cache.Source[string, int]{}, tiers)
			wg.Go(func() {
				for range rounds {
					if _, err := c.Update(ctx, "n", func(n int, ok bool) (int, error) { return n + 1, nil }); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		c := on(t, b, "counters", cache.Source[string, int]{}, tiers)
		if n, err := c.Get(ctx, "n"); n != writers*rounds || err != nil {
			t.Errorf("%d, %v; want %d", n, err, writers*rounds)
		}
	})
}
