package memory_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// page is a source that returns x and y with whatever it is asked for. meanwhile runs after it has
// read them, and before it returns.
func page(meanwhile func()) *batches {
	src := newBatches()
	src.load = func(_ context.Context, keys []string) (map[string]string, error) {
		m := valuesOf(append(keys, "x", "y")...)
		if meanwhile != nil {
			meanwhile()
		}
		return m, nil
	}
	return src
}

// tierOf returns the tier that answers for a key, None if none does.
func tierOf(t *testing.T, c *cache.Cache[string, string], key string) metrics.Tier {
	t.Helper()
	e, err := c.Inspect(t.Context(), key)
	if err != nil && !errors.Is(err, cache.ErrMiss) {
		t.Fatal(err)
	}
	return e.Tier
}

func TestWhatWasNotAskedForFillsTheLocalTier(t *testing.T) {
	for name, read := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"Get": func(ctx context.Context, c *cache.Cache[string, string]) error {
			_, err := c.Get(ctx, "a")
			return err
		},
		"GetMany": func(ctx context.Context, c *cache.Cache[string, string]) error {
			m, err := c.GetMany(ctx, []string{"a", "b"})
			if !reflect.DeepEqual(m, valuesOf("a", "b")) {
				return errors.New("other values")
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
				src := page(nil)
				s := src.source()
				s.TTL = func(k, _ string) time.Duration {
					if k == "x" {
						return 10 * time.Second
					}
					return 0
				}
				long := cache.WithStrategy(strategy.LocalTTL(time.Hour))
				if kind == "redis" {
					long = cache.WithOptions()
				}
				c := make(s, long)
				if err := read(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				m := c.Metrics()
				if kind == "redis" {
					if m.Unasked != 0 || tierOf(t, c, "x") != metrics.None {
						t.Errorf("%d values that were not asked for, without a tier for them", m.Unasked)
					}
					return
				}
				if m.Unasked != 2 || tierOf(t, c, "x") != metrics.Local || tierOf(t, c, "y") != metrics.Local {
					t.Fatalf("%d values, x in %v, y in %v", m.Unasked, tierOf(t, c, "x"), tierOf(t, c, "y"))
				}
				good(t, gets(t.Context(), c, []string{"x", "y"})(), 0)
				if n := c.Metrics().Load.Count; n != 1 {
					t.Errorf("%d loads", n)
				}
				// They have lives of their own, and Redis has nothing of them.
				if e, err := c.Inspect(t.Context(), "x"); err != nil || e.TTL != 10*time.Second {
					t.Errorf("%v, %v", e.TTL, err)
				}
				if e, err := c.Inspect(t.Context(), "y"); err != nil || e.TTL != time.Minute {
					t.Errorf("%v, %v", e.TTL, err)
				}
				if _, err := c.Peek(t.Context(), "x", cache.SkipLocal()); !errors.Is(err, cache.ErrMiss) {
					t.Error(err)
				}
				time.Sleep(10 * time.Second)
				if tierOf(t, c, "x") != metrics.None || tierOf(t, c, "y") != metrics.Local {
					t.Error("x has not ended, or y has")
				}
			})
		})
	}
}

// Every change of a key between its load and its fill keeps the value out, and every later one
// removes it: of this process or another one.
func TestWhatWasNotAskedForIsNeverOlderThanAChange(t *testing.T) {
	changes := map[string]func(context.Context, *cache.Cache[string, string]) error{
		"Set":          func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Set(ctx, "x", "new") },
		"Delete":       func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, "x") },
		"Invalidate":   func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "x") },
		"Clear":        func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
		"tags":         func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
		"other's tags": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "u") },
		"pattern": func(ctx context.Context, c *cache.Cache[string, string]) error {
			_, err := c.InvalidatePattern(ctx, "*x*")
			return err
		},
	}
	for name, change := range changes {
		for _, who := range []string{"this process", "another", "local only"} {
			for _, when := range []string{"before the fill", "after it"} {
				t.Run(name+", "+who+", "+when, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						ctx := t.Context()
						var changer *cache.Cache[string, string]
						do := func() {
							if err := change(ctx, changer); err != nil {
								t.Error(err)
							}
							synctest.Wait() // all have heard
						}
						meanwhile := do
						if when == "after it" {
							meanwhile = nil
						}
						var reading bool
						src := page(func() {
							if meanwhile != nil && reading {
								reading = false
								done := make(chan struct{})
								go func() { defer close(done); meanwhile() }()
								<-done
							}
						})
						s := src.source()
						s.Tags = func(k, _ string) []string { return []string{"t"} }
						st := storetest.NewMemory()
						var c *cache.Cache[string, string]
						if who == "local only" {
							c = newCache(t, nil, s, cache.LocalOnly(), batched)
						} else {
							c = onMemory(t, st, s, batched)
						}
						if changer = c; who == "another" {
							changer = onMemory(t, st, cache.Source[string, string]{})
						}
						// The logical clock is known to both.
						if err := errors.Join(c.InvalidateTags(ctx, "s"), changer.InvalidateTags(ctx, "s")); err != nil {
							t.Fatal(err)
						}
						time.Sleep(time.Second)
						reading = true
						if _, err := c.Get(ctx, "a"); err != nil {
							t.Fatal(err)
						}
						if when == "after it" {
							if c.Metrics().Unasked != 2 {
								t.Fatal("nothing was stored")
							}
							do()
						}
						e, err := c.Inspect(ctx, "x")
						switch {
						case name == "other's tags" && when == "after it" && who != "local only":
							// The tombstones of t were never asked for. An entry that Redis has as well would
							// be read there, and they with it; this one is loaded again.
						case name == "other's tags" && when == "after it":
							if e.Value != "of x" || err != nil {
								t.Errorf("%q, %v: the tag of others has removed it", e.Value, err)
							}
						case name == "Set" && (e.Value != "new" || err != nil):
							t.Errorf("%q, %v", e.Value, err)
						case name != "Set" && name != "other's tags" && !errors.Is(err, cache.ErrMiss):
							t.Errorf("%q, %v", e.Value, err)
						}
					})
				})
			}
		}
	}
}

func TestWhatWasNotAskedForLeavesUsableEntriesAlone(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		c := make(page(nil).source(), cache.WithStrategy(strategy.StaleIfError(time.Hour)))
		if kind == "redis" {
			return
		}
		if err := c.Set(t.Context(), "x", "set", cache.TTL(10*time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(t.Context(), "x"); v != "set" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		time.Sleep(11 * time.Second) // stale
		if _, err := c.Get(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(t.Context(), "x"); v != "of x" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	})
}

// What a write-behind queue holds is newer than the source, and the queue is not asked about keys
// that were not asked for. Functions of a call are not the source's either.
func TestWhatWasNotAskedForIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := page(nil)
		s := src.source()
		s.Store = func(context.Context, string, string) error { return nil }
		c := onMemory(t, storetest.NewMemory(), s, batched, cache.WithStrategy(strategy.WriteBehind()))
		good(t, gets(t.Context(), c, []string{"a", "b"})(), batchWait)
		src.are(t, "2ms: a b")
		own := onMemory(t, storetest.NewMemory(), newBatches().source(), batched)
		if _, err := own.GetOrLoadMany(t.Context(), []string{"a", "b"}, page(nil).loadMany); err != nil {
			t.Fatal(err)
		}
		plain := onMemory(t, storetest.NewMemory(), page(nil).source())
		if _, err := plain.GetMany(t.Context(), []string{"a", "b"}); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]*cache.Cache[string, string]{"write-behind": c, "GetOrLoadMany": own, "without BatchLoads": plain} {
			if n := c.Metrics().Unasked; n != 0 || tierOf(t, c, "x") != metrics.None {
				t.Errorf("%s: %d values, x in %v", name, n, tierOf(t, c, "x"))
			}
		}
	})
}

// A panic of Source.TTL costs its value only.
func TestAPanicOnWhatWasNotAskedFor(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		s := page(nil).source()
		s.Tags = func(k, _ string) []string {
			if k == "x" {
				panic("boom")
			}
			return nil
		}
		c := make(s)
		good(t, gets(t.Context(), c, []string{"a", "b"})(), batchWait)
		if m := c.Metrics(); kind != "redis" && (m.Unasked != 1 || m.NotKept != 1) {
			t.Errorf("%d values, %d not kept", m.Unasked, m.NotKept)
		}
	})
}
