package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/strategy"
)

// What the strategies do exactly, and when, is tested in a bubble on a model of Redis.
// This is that they do it on every kind of Redis.

var errDatabase = errors.New("the database is down")

// table is a source of versions.
type table struct {
	mu    sync.Mutex
	rows  map[string]int
	fail  error
	loads atomic.Int32
}

func (d *table) set(k string, v int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail == nil {
		d.rows[k] = v
	}
	return d.fail
}

func (d *table) failing(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

func (d *table) get(k string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rows[k]
}

func (d *table) load(_ context.Context, k string) (int, error) {
	d.loads.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rows[k], d.fail
}

func TestStrategiesOnEveryKindOfRedis(t *testing.T) {
	redistest.Thorough(t)
	t.Parallel()
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		ctx := t.Context()
		with := func(name string, src cache.Source[string, int], s ...strategy.Strategy) *cache.Cache[string, int] {
			return process(t, b, name, src, tiers, cache.WithStrategy(strategy.Jitter(0)), cache.WithStrategy(s...))
		}
		staleOf := func(c *cache.Cache[string, int]) (v int, info cache.Info) {
			v, err := c.Get(ctx, "k", cache.Report(&info))
			if err != nil {
				t.Fatal(err)
			}
			return v, info
		}

		t.Run("stale if error", func(t *testing.T) {
			db := &table{rows: map[string]int{"k": 1}}
			src := cache.SourceFunc(db.load)
			s := []strategy.Strategy{strategy.TTL(50 * time.Millisecond), strategy.StaleIfError(time.Hour), strategy.RetryAfter(time.Hour)}
			c, other := with("sie", src, s...), with("sie", src, s...)
			staleOf(c)
			db.failing(errDatabase)
			eventually(t, "the value is stale", func() bool {
				v, info := staleOf(c)
				return v == 1 && info.Stale && errors.Is(info.LoadErr, errDatabase)
			})
			n := db.loads.Load()
			for range 10 {
				if v, info := staleOf(other); v != 1 || !info.Stale || info.LoadErr == nil {
					t.Errorf("another process: %d, %+v", v, info)
				}
			}
			if db.loads.Load() != n {
				t.Error("the source was asked again, by another process")
			}
		})

		t.Run("stale while revalidate", func(t *testing.T) {
			db := &table{rows: map[string]int{"k": 1}}
			c := with("swr", cache.SourceFunc(db.load), strategy.TTL(50*time.Millisecond), strategy.StaleWhileRevalidate(time.Hour))
			staleOf(c)
			if err := db.set("k", 2); err != nil {
				t.Fatal(err)
			}
			stale := 0
			eventually(t, "it is refreshed behind its readers' backs", func() bool {
				v, info := staleOf(c)
				if info.Stale {
					stale++
				}
				return v == 2
			})
			if stale == 0 || c.Metrics().Misses() != 1 {
				t.Errorf("%d stale hits, %d misses", stale, c.Metrics().Misses())
			}
		})

		t.Run("refresh ahead", func(t *testing.T) {
			db := &table{rows: map[string]int{"k": 1}}
			c := with("ahead", cache.SourceFunc(db.load), strategy.TTL(time.Hour), strategy.RefreshAhead(0.00001))
			staleOf(c)
			if err := db.set("k", 2); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is refreshed", func() bool { v, info := staleOf(c); return v == 2 && !info.Stale })
		})

		t.Run("error TTL", func(t *testing.T) {
			db := &table{rows: map[string]int{}, fail: errDatabase}
			src := cache.SourceFunc(db.load)
			c, other := with("errors", src, strategy.ErrorTTL(time.Hour)), with("errors", src, strategy.ErrorTTL(time.Hour))
			for range 3 {
				if _, err := c.Get(ctx, "k"); !errors.Is(err, errDatabase) {
					t.Error(err)
				}
				if _, err := other.Get(ctx, "k"); err == nil || errors.Is(err, cache.ErrMiss) {
					t.Error(err)
				}
			}
			if n := db.loads.Load(); n != 1 {
				t.Errorf("%d loads", n)
			}
		})

		for name, write := range map[string]strategy.Strategy{"through": strategy.WriteThrough(), "around": strategy.WriteAround(), "behind": strategy.WriteBehind(strategy.BatchDelay(0))} {
			t.Run("write "+name, func(t *testing.T) {
				db := &table{rows: map[string]int{}}
				src := cache.Source[string, int]{
					Load:   db.load,
					Store:  func(_ context.Context, k string, v int) error { return db.set(k, v) },
					Delete: func(_ context.Context, k string) error { return db.set(k, 0) },
				}
				c, other := with("w-"+name, src, write), with("w-"+name, src, write)
				for i := range 20 {
					k := fmt.Sprint("k", i%3)
					var err error
					switch i % 4 {
					case 0, 1:
						err = c.Set(ctx, k, i)
					case 2:
						err = c.SetMany(ctx, map[string]int{k: i, "other": i})
					case 3:
						_, err = c.Update(ctx, k, func(int, bool) (int, error) { return i, nil })
					}
					if err != nil {
						t.Fatal(err)
					}
					if v, err := c.Get(ctx, k); v != i || err != nil {
						t.Errorf("%d: read as %d, %v", i, v, err)
					}
					eventually(t, "another process sees it", func() bool { v, err := other.Get(ctx, k); return v == i && err == nil })
					if v := db.get(k); v != i && name != "behind" {
						t.Errorf("the source has %d, not %d", v, i)
					}
				}
				if err := c.Sync(ctx); err != nil {
					t.Fatal(err)
				}
				if v := db.get("k1"); v != 19 {
					t.Errorf("the source has %d", v)
				}
				if err := c.Delete(ctx, "k1"); err != nil {
					t.Fatal(err)
				}
				if err := c.Sync(ctx); err != nil {
					t.Fatal(err)
				}
				if v := db.get("k1"); v != 0 {
					t.Errorf("deleted, and the source has %d", v)
				}
			})
		}

		t.Run("sliding", func(t *testing.T) {
			c := with("sliding", cache.Source[string, int]{}, strategy.TTL(time.Hour), strategy.Sliding(4*time.Second))
			if err := c.Set(ctx, "k", 1); err != nil {
				t.Fatal(err)
			}
			left := func() time.Duration { return b.Client.PTTL(ctx, c.RedisKey("k")).Val() }
			if d := left(); d <= 0 || d > 4*time.Second {
				t.Errorf("%v are left", d)
			}
			if !b.RealTime {
				b.Advance(time.Second)
			}
			eventually(t, "less is left", func() bool { return left() < 3500*time.Millisecond })
			eventually(t, "a read prolongs it", func() bool {
				if _, err := c.Get(ctx, "k"); err != nil {
					t.Fatal(err)
				}
				return left() > 3500*time.Millisecond
			})
		})
	})
}
