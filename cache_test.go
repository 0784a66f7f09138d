package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
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

func TestUpdateKeepsTheDeadline(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		c := on(t, b, "n", cache.SourceFunc(func(context.Context, string) (int, error) { return 40, nil }), withLocal)
		if err := c.Set(ctx, "k", 1, cache.TTL(time.Hour)); err != nil {
			t.Fatal(err)
		}
		inc := func(n int, ok bool) (int, error) { return n + 1, nil }
		for _, opts := range [][]cache.WriteOption{nil, {cache.TTL(2 * time.Hour)}} {
			want := time.Hour
			if opts != nil {
				want *= 2
			}
			if _, err := c.Update(ctx, "k", inc, opts...); err != nil {
				t.Fatal(err)
			}
			pttl, err := b.Client.PTTL(ctx, c.RedisKey("k")).Result()
			if err != nil || pttl > want || pttl < want-time.Minute {
				t.Errorf("Redis keeps it for %v, %v; want %v", pttl, err, want)
			}
			for _, opts := range [][]cache.ReadOption{nil, {cache.SkipLocal()}} {
				var info cache.Info
				if _, err := c.Peek(ctx, "k", append(opts, cache.Report(&info))...); err != nil || info.TTL > want || info.TTL < want-time.Minute {
					t.Errorf("%+v, %v; want %v", info, err, want)
				}
			}
		}
		// On a miss the source is asked; an error of the function changes nothing.
		if n, err := c.Update(ctx, "other", inc); n != 41 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		boom := errors.New("boom")
		if _, err := c.Update(ctx, "other", func(int, bool) (int, error) { return 0, boom }); err != boom {
			t.Error(err)
		}
		if n, err := c.Get(ctx, "other"); n != 41 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	})
}

func TestLifetimesAreExactToTheMillisecond(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		for _, d := range []time.Duration{time.Second, 1001 * time.Millisecond, 1500 * time.Millisecond, time.Minute, 36*time.Hour + 7*time.Millisecond, 30 * 24 * time.Hour} {
			byCall := on(t, b, "call", cache.Source[string, string]{})
			byStrategy := on(t, b, "strategy", cache.Source[string, string]{}, cache.WithStrategy(strategy.TTL(d), strategy.Jitter(0)))
			bySource := on(t, b, "source", cache.Source[string, string]{TTL: func(string, string) time.Duration { return d }})
			byLoad := on(t, b, "load", cache.SourceFunc(func(ctx context.Context, _ string) (string, error) {
				cache.CurrentLoad[string](ctx).SetTTL(d)
				return "v", nil
			}))
			for name, c := range map[string]*cache.Cache[string, string]{"call": byCall, "strategy": byStrategy, "source": bySource, "load": byLoad} {
				if err := c.Delete(ctx, "k"); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				var err error
				switch name {
				case "call":
					err = c.Set(ctx, "k", "v", cache.TTL(d))
				case "load":
					_, err = c.Get(ctx, "k")
				default:
					err = c.Set(ctx, "k", "v")
				}
				if err != nil {
					t.Fatal(err)
				}
				left, err := b.Client.PTTL(ctx, c.RedisKey("k")).Result()
				// What has passed since is the only difference there may be.
				if passed := time.Since(start) + time.Millisecond; err != nil || left > d || left < d-passed {
					t.Errorf("%s: %v left of %v after %v, %v", name, left, d, passed, err)
				}
			}
		}
	})
}

func TestALifeThatIsOverRemoves(t *testing.T) {
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		ctx := t.Context()
		c := on(t, b, "n", cache.Source[string, int]{}, tiers)
		for _, d := range []time.Duration{0, -time.Second} {
			if err := c.Set(ctx, "k", 1); err != nil {
				t.Fatal(err)
			}
			if err := c.Set(ctx, "k", 2, cache.TTL(d)); err != nil {
				t.Fatal(err)
			}
			if v, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("TTL(%v): %d, %v", d, v, err)
			}
		}
		if err := c.Set(ctx, "k", 1, cache.TTL(time.Microsecond)); !errors.Is(err, cache.ErrInvalidOption) {
			t.Errorf("TTL(1µs): %v", err)
		}
	})
}

func TestAMillisecondIsALife(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		c := on(t, b, "n", cache.Source[string, int]{}, withLocal)
		if err := c.Set(ctx, "k", 1, cache.TTL(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if b.Mini != nil {
			b.Mini.FastForward(time.Millisecond)
		}
		deadline := time.Now().Add(10 * time.Second)
		for {
			_, err := c.Get(ctx, "k")
			if errors.Is(err, cache.ErrMiss) {
				return
			}
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("still there: %v", err)
			}
		}
	})
}

func TestCachesOfOneNameNeverSeeEachOthersValues(t *testing.T) {
	type money struct{ A, B int }
	type point struct{ A, B int }
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		a := on(t, b, "same", cache.Source[string, money]{})
		if err := a.Set(ctx, "k", money{1, 2}); err != nil {
			t.Fatal(err)
		}
		for name, get := range map[string]func() (any, error){
			"another type": func() (any, error) { return on(t, b, "same", cache.Source[string, point]{}).Get(ctx, "k") },
			"a string":     func() (any, error) { return on(t, b, "same", cache.Source[string, string]{}).Get(ctx, "k") },
			"bytes":        func() (any, error) { return on(t, b, "same", cache.Source[string, []byte]{}).Get(ctx, "k") },
			"another codec": func() (any, error) {
				return on(t, b, "same", cache.Source[string, money]{}, cache.WithCodec(codec.Msgpack())).Get(ctx, "k")
			},
			"a newer version": func() (any, error) {
				return on(t, b, "same", cache.Source[string, money]{}, cache.WithVersion(1)).Get(ctx, "k")
			},
			"a pointer to it":      func() (any, error) { return on(t, b, "same", cache.Source[string, *money]{}).Get(ctx, "k") },
			"a map that JSON fits": func() (any, error) { return on(t, b, "same", cache.Source[string, map[string]int]{}).Get(ctx, "k") },
		} {
			if v, err := get(); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("%s: %v, %v", name, v, err)
			}
		}
		if v, err := on(t, b, "same", cache.Source[string, money]{}).Get(ctx, "k"); v != (money{1, 2}) || err != nil {
			t.Errorf("the same type: %v, %v", v, err)
		}
	})
}

// A list in the place of a value is replaced, however the key is written.
func TestWritesOverAnotherType(t *testing.T) {
	for kind, src := range map[string]cache.Source[string, string]{
		"without a loader": {},
		"with a loader":    cache.SourceFunc(func(_ context.Context, key string) (string, error) { return "loaded", nil }),
	} {
		t.Run(kind, func(t *testing.T) {
			each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				c := on(t, b, "n", src, tiers)
				for name, write := range map[string]func(key string) error{
					"set": func(key string) error { return c.Set(ctx, key, "new") },
					"if absent": func(key string) error {
						ok, err := c.SetIfAbsent(ctx, key, "new")
						if !ok && err == nil {
							err = errors.New("it is not absent")
						}
						return err
					},
					"update": func(key string) error {
						_, err := c.Update(ctx, key, func(old string, ok bool) (string, error) {
							if ok != (src.Load != nil) {
								return "", fmt.Errorf("the old value is %q, %v", old, ok)
							}
							return "new", nil
						})
						return err
					},
				} {
					if err := b.Client.RPush(ctx, c.RedisKey(name), "a", "list").Err(); err != nil {
						t.Fatal(err)
					}
					if err := write(name); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					if v, err := c.Peek(ctx, name, cache.SkipLocal()); v != "new" || err != nil {
						t.Errorf("%s: %q, %v", name, v, err)
					}
				}
			})
		})
	}
}

func TestForeignBytesAreMissesThatALoadReplaces(t *testing.T) {
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		ctx := t.Context()
		c := on(t, b, "n", cache.SourceFunc(func(_ context.Context, key string) (string, error) { return "loaded", nil }), tiers)
		if err := c.Set(ctx, "source", "a value of ours"); err != nil {
			t.Fatal(err)
		}
		ours, err := b.Client.Get(ctx, c.RedisKey("source")).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(ours)
		flipped[len(flipped)-12] ^= 1
		for name, raw := range map[string]any{
			"empty": "", "one byte": "x", "json": `{"a":1}`, "a number": 42, "long": strings.Repeat("x", 10_000),
			"a damaged record": flipped, "a cut record": ours[:len(ours)-1], "a record of another key": ours,
		} {
			if err := b.Client.Set(ctx, c.RedisKey(name), raw, 0).Err(); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Peek(ctx, name); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("%s: Peek: %v", name, err)
			}
			if v, err := c.Get(ctx, name); v != "loaded" || err != nil {
				t.Errorf("%s: %q, %v", name, v, err)
			}
			if v, err := c.Peek(ctx, name, cache.SkipLocal()); v != "loaded" || err != nil {
				t.Errorf("%s was not replaced: %q, %v", name, v, err)
			}
		}
		if err := b.Client.LPush(ctx, c.RedisKey("a list"), "x").Err(); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(ctx, "a list"); v != "loaded" || err != nil {
			t.Errorf("a list: %q, %v", v, err)
		}
		if v, err := c.Peek(ctx, "a list", cache.SkipLocal()); v != "loaded" || err != nil {
			t.Errorf("the list was not replaced: %q, %v", v, err)
		}
		m := c.Metrics()
		if m.MissForeign == 0 || m.MissUndecodable == 0 || m.Undecodable == 0 {
			t.Errorf("not counted: %d foreign, %d undecodable", m.MissForeign, m.MissUndecodable)
		}
	})
}

func TestTooLargeIsRefusedBeforeAnythingIsSent(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		c := on(t, b, "n", cache.Source[string, string]{}, withLocal, cache.WithMaxValueSize(100))
		if err := c.Set(ctx, "k", "small"); err != nil {
			t.Fatal(err)
		}
		before := c.Metrics().Remote.Count
		if err := c.Set(ctx, "k", strings.Repeat("x", 101)); !errors.Is(err, cache.ErrTooLarge) {
			t.Errorf("Set: %v", err)
		}
		if after := c.Metrics().Remote.Count; after != before {
			t.Errorf("%d operations were sent", after-before)
		}
		if v, err := c.Get(ctx, "k"); v != "small" || err != nil {
			t.Errorf("the old value is gone: %q, %v", v, err)
		}
		err := c.SetMany(ctx, map[string]string{"a": "fits", "b": strings.Repeat("x", 101)})
		var be *cache.BatchError[string]
		if !errors.As(err, &be) || be.For("a") != nil || !errors.Is(be.For("b"), cache.ErrTooLarge) {
			t.Errorf("SetMany: %v", err)
		}
		if v, err := c.Get(ctx, "a"); v != "fits" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		big := func(context.Context, string) (string, error) { return strings.Repeat("x", 101), nil }
		for range 2 {
			if v, err := c.GetOrLoad(ctx, "big", big); len(v) != 101 || err != nil {
				t.Errorf("a load: %d bytes, %v", len(v), err)
			}
		}
		if n := c.Metrics().Loads; n != 2 {
			t.Errorf("%d loads: it was kept", n)
		}
	})
}

func TestAnEndedContextEndsEveryCall(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		c := on(t, b, "n", cache.Source[string, string]{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		load := func(context.Context, string) (string, error) { t.Error("loaded"); return "", nil }
		loadMany := func(context.Context, []string) (map[string]string, error) { t.Error("loaded"); return nil, nil }
		for name, call := range map[string]func() error{
			"Get":           func() error { _, err := c.Get(ctx, "k"); return err },
			"Peek":          func() error { _, err := c.Peek(ctx, "k"); return err },
			"GetOrLoad":     func() error { _, err := c.GetOrLoad(ctx, "k", load); return err },
			"GetMany":       func() error { _, err := c.GetMany(ctx, []string{"k"}); return err },
			"GetOrLoadMany": func() error { _, err := c.GetOrLoadMany(ctx, []string{"k"}, loadMany); return err },
			"Inspect":       func() error { _, err := c.Inspect(ctx, "k"); return err },
			"Set":           func() error { return c.Set(ctx, "k", "v") },
			"SetMany":       func() error { return c.SetMany(ctx, map[string]string{"k": "v"}) },
			"SetIfAbsent":   func() error { _, err := c.SetIfAbsent(ctx, "k", "v"); return err },
			"Update": func() error {
				_, err := c.Update(ctx, "k", func(string, bool) (string, error) { return "v", nil })
				return err
			},
			"Delete": func() error { return c.Delete(ctx, "k") },
		} {
			if err := call(); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestACallerLeavesWhileRedisHangs(t *testing.T) {
	redistest.Require(t)
	srv := redistest.Start(t)
	c, err := cache.NewFrom(srv.Client(t), "n", cache.Source[string, string]{}, cache.WithTimeout(time.Hour), discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	srv.Freeze()
	for name, call := range map[string]func(ctx context.Context) error{
		"Get":    func(ctx context.Context) error { _, err := c.Get(ctx, "k"); return err },
		"Set":    func(ctx context.Context) error { return c.Set(ctx, "k", "w") },
		"Delete": func(ctx context.Context) error { return c.Delete(ctx, "k") },
		"Update": func(ctx context.Context) error {
			_, err := c.Update(ctx, "k", func(string, bool) (string, error) { return "", nil })
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- call(ctx) }()
		cancel()
		// Without an end of its own the call would hang until the test times out.
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	srv.Thaw()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestRedisOutOfReachIsNotTheReadersFailure(t *testing.T) {
	redistest.Require(t)
	for _, how := range []string{"killed", "frozen"} {
		t.Run(how, func(t *testing.T) {
			ctx := t.Context()
			srv := redistest.Start(t)
			c, err := cache.NewFrom(srv.Client(t), "n", cache.SourceFunc(func(_ context.Context, k string) (string, error) { return "loaded " + k, nil }),
				discard, withLocal, cache.WithTimeout(50*time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			if err := c.Set(ctx, "local", "v"); err != nil {
				t.Fatal(err)
			}
			if how == "killed" {
				srv.Kill()
			} else {
				srv.Freeze()
			}
			// From the local tier as long as it is trusted, which a connection that
			// breaks ends at once.
			if v, err := c.Get(ctx, "local"); v != "v" && v != "loaded local" || err != nil {
				t.Errorf("local: %q, %v", v, err)
			}
			if v, err := c.Get(ctx, "k"); v != "loaded k" || err != nil {
				t.Errorf("with a loader: %q, %v", v, err)
			}
			got, err := c.GetMany(ctx, []string{"a", "b"})
			if len(got) != 2 || err != nil {
				t.Errorf("a batch: %v, %v", got, err)
			}
			if _, err := c.Peek(ctx, "k"); !errors.Is(err, cache.ErrUnavailable) || !errors.Is(err, cache.ErrMiss) {
				t.Errorf("without a loader: %v", err)
			}
			if err := c.Set(ctx, "local", "w"); !errors.Is(err, cache.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Set: %v", err)
			}
			if _, err := c.Peek(ctx, "local"); !errors.Is(err, cache.ErrUnavailable) {
				t.Errorf("a write that may have happened left the old value: %v", err)
			}
			if m := c.Metrics(); m.MissUnavailable == 0 || m.Fallbacks == 0 || m.RemoteErrors == 0 {
				t.Errorf("not counted: %+v", m.MissUnavailable)
			}
			if how == "frozen" {
				srv.Thaw()
			}
		})
	}
}
