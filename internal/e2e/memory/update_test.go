package memory_test

import (
	"context"
	"errors"
	"maps"
	"math/big"
	"reflect"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// What is not there for a reader is not there for Update.
func TestUpdateHandsOutNothingThatIsOver(t *testing.T) {
	for _, kind := range tierings {
		for _, policy := range []invalidate.Policy{invalidate.Immediate(), invalidate.Lazy()} {
			for how, end := range map[string]func(ctx context.Context, c *cache.Cache[string, int]) error{
				"tag":   func(ctx context.Context, c *cache.Cache[string, int]) error { return c.InvalidateTags(ctx, "t") },
				"clear": func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Clear(ctx) },
				"key":   func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Invalidate(ctx, "k") },
				"pattern": func(ctx context.Context, c *cache.Cache[string, int]) error {
					_, err := c.InvalidatePattern(ctx, "*")
					return err
				},
				"time": func(context.Context, *cache.Cache[string, int]) error { time.Sleep(2 * time.Minute); return nil },
			} {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					c := ofKind(t, kind, storetest.NewMemory(), cache.Source[string, int]{}, cache.WithInvalidator(policy), cache.WithStrategy(strategy.TTL(time.Minute), strategy.StaleIfError(time.Hour)))
					if err := errors.Join(c.Set(ctx, "k", 41, cache.Tags("t")), end(ctx, c)); err != nil {
						t.Fatal(err)
					}
					v, err := c.Update(ctx, "k", func(old int, ok bool) (int, error) {
						if ok {
							t.Error("ok")
						}
						return old + 1, nil
					})
					if v != 1 || err != nil {
						t.Errorf("%s, %v, %s: Update(old+1) = %d, %v", kind, policy, how, v, err)
					}
				})
			}
		}
	}
}

// The deadline of what is replaced is kept, however long the function takes, in every tier.
func TestUpdateKeepsTheDeadline(t *testing.T) {
	for _, kind := range tierings {
		for _, through := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				src := cache.Source[string, int]{}
				if through {
					src.Store = func(context.Context, string, int) error { time.Sleep(3 * time.Second); return nil }
				}
				c := ofKind(t, kind, storetest.NewMemory(), src, cache.WithStrategy(strategy.TTL(time.Minute), strategy.Jitter(0)))
				if err := c.Set(ctx, "k", 1, cache.Tags("t")); err != nil {
					t.Fatal(err)
				}
				end := time.Now().Add(time.Minute)
				if through {
					end = end.Add(-3 * time.Second)
				}
				for _, d := range []time.Duration{time.Second, 20 * time.Second, 10 * time.Second} {
					if _, err := c.Update(ctx, "k", func(old int, ok bool) (int, error) {
						if !ok {
							t.Error("gone")
						}
						time.Sleep(d)
						return old + 1, nil
					}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Until(end) - 10*time.Millisecond)
				if e, err := c.Inspect(ctx, "k"); e.Value != 4 || err != nil || !reflect.DeepEqual(e.Tags, []string{"t"}) {
					t.Errorf("%s, through %v: just before its end: %+v, %v", kind, through, e, err)
				}
				time.Sleep(20 * time.Millisecond)
				if v, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
					t.Errorf("%s, through %v: after its end: %d, %v", kind, through, v, err)
				}
			})
		}
	}
}

// Neither a loader, nor the function, nor the end of the cache leaves a lease, or a
// goroutine that extends one.
func TestUpdateLeavesNoLease(t *testing.T) {
	for what, load := range map[string]cache.LoadFunc[string, int]{
		"fails":  func(context.Context, string) (int, error) { return 0, errors.New("no") },
		"panics": func(context.Context, string) (int, error) { panic("no") },
		"exits":  func(context.Context, string) (int, error) { runtime.Goexit(); return 0, nil },
		"loads":  func(context.Context, string) (int, error) { return 1, nil }, // and the function exits
	} {
		synctest.Test(t, func(t *testing.T) {
			store := storetest.NewMemory()
			c := newCache(t, store, cache.Source[string, int]{Load: load})
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.Update(context.Background(), "k", func(int, bool) (int, error) { runtime.Goexit(); return 1, nil })
			}()
			<-done
			synctest.Wait()
			if left := store.TTL(c.RedisKey("k")); left > 0 {
				t.Errorf("a loader that %s: a lease is left, for %v", what, left)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		c := newCache(t, store, cache.Source[string, int]{Load: func(ctx context.Context, _ string) (int, error) { <-ctx.Done(); return 0, ctx.Err() }})
		back := make(chan error, 1)
		go func() {
			_, err := c.Update(context.Background(), "k", func(int, bool) (int, error) { return 1, nil })
			back <- err
		}()
		synctest.Wait()
		rk := c.RedisKey("k")
		c.Close()
		if left := store.TTL(rk); left > 0 {
			t.Errorf("Close leaves a lease, for %v", left)
		}
		if err := <-back; !errors.Is(err, cache.ErrClosed) {
			t.Error(err)
		}
	})
}

// An Update whose load fails takes no stale value away from those that it would cover.
func TestUpdateLeavesWhatIsStale(t *testing.T) {
	for _, kind := range tierings {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			c := ofKind(t, kind, storetest.NewMemory(), cache.Source[string, int]{Load: func(context.Context, string) (int, error) { return 0, errors.New("no") }},
				cache.WithStrategy(strategy.TTL(time.Minute), strategy.Jitter(0), strategy.StaleIfError(time.Hour), strategy.RetryAfter(0)))
			if err := c.Set(ctx, "k", 1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
			if _, err := c.Update(ctx, "k", func(int, bool) (int, error) { return 2, nil }); err == nil {
				t.Error("no error")
			}
			if v, err := c.Get(ctx, "k"); v != 1 || err != nil {
				t.Errorf("%s: %d, %v", kind, v, err)
			}
		})
	}
}

type tree struct {
	Name string
	Kids []*tree
	Up   *tree
}

// What Update hands out of a LocalOnly cache is a copy, or nothing.
func TestUpdateOfALocalOnlyCacheGivesCopies(t *testing.T) {
	type mixed struct {
		M map[string][]int
		A [2]*int
		I any
		F func()
	}
	n := 1
	root := &tree{Name: "root"}
	root.Kids = []*tree{{Name: "kid", Up: root}}
	ownCopy(t, map[string]int{"a": 1}, func(v map[string]int) { v["b"] = 2 }, func(v map[string]int) bool { return len(v) == 1 })
	ownCopy(t, []any{1, []int{1}}, func(v []any) { v[1].([]int)[0] = 2 }, func(v []any) bool { return v[0] == any(1) && v[1].([]int)[0] == 1 })
	ownCopy(t, &mixed{M: map[string][]int{"a": {1}}, A: [2]*int{&n, &n}, I: &n}, func(v *mixed) { v.M["a"][0], *v.A[0] = 2, 2 },
		func(v *mixed) bool { return v.M["a"][0] == 1 && *v.A[1] == 1 && *v.I.(*int) == 1 })
	ownCopy(t, root, func(v *tree) { v.Kids[0].Up.Name = "changed" }, func(v *tree) bool { return v.Name == "root" && v.Kids[0].Up == v })
	ownCopy(t, big.NewInt(1), func(v *big.Int) { v.SetInt64(2) }, func(v *big.Int) bool { return v.Int64() == 1 })

	type closed struct{ m map[string]int }
	c := newCache(t, nil, cache.Source[string, closed]{}, cache.LocalOnly())
	if _, err := c.Update(t.Context(), "k", func(closed, bool) (closed, error) { return closed{}, nil }); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a type that can't be copied: %v", err)
	}
	d := newCache(t, nil, cache.Source[string, closed]{Clone: func(v closed) closed { return closed{maps.Clone(v.m)} }}, cache.LocalOnly())
	if _, err := d.Update(t.Context(), "k", func(closed, bool) (closed, error) { return closed{map[string]int{}}, nil }); err != nil {
		t.Error(err)
	}
}

func ownCopy[V any](t *testing.T, val V, spoil func(V), good func(V) bool) {
	t.Helper()
	ctx := t.Context()
	c := newCache(t, nil, cache.Source[string, V]{}, cache.LocalOnly())
	if err := c.Set(ctx, "k", val); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	_, err := c.Update(ctx, "k", func(old V, ok bool) (V, error) {
		if !ok || !good(old) {
			t.Errorf("%T is given as %v, %v", val, old, ok)
		}
		spoil(old)
		return old, no
	})
	if v, gerr := c.Get(ctx, "k"); err != no || gerr != nil || !good(v) {
		t.Errorf("%T after an Update that has failed (%v): %v, %v", val, err, v, gerr)
	}
}
