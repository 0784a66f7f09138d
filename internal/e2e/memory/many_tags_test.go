package memory_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
)

// An invalidation of many tags goes out in several steps. Whichever of them fails, the
// entries of every tag are invalid in the end.
func TestEveryTagOfManyIsInvalidatedInTheEnd(t *testing.T) {
	var tags []string
	for i := range 3500 {
		tags = append(tags, fmt.Sprint("t", i))
	}
	for _, failing := range []int{1, 2, 3, 4} {
		for _, ended := range []bool{false, true} {
			t.Run(fmt.Sprint("step ", failing, ", context ended: ", ended), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := storetest.NewMemory()
					c, net := onWire(t, store, cache.Source[int, string]{})
					other := onMemory(t, store, cache.Source[int, string]{})
					for _, i := range []int{5, 1005, 2005, 3005, 3499} {
						if err := c.Set(t.Context(), i, "v", cache.Tags(tags[i])); err != nil {
							t.Fatal(err)
						}
						if _, err := other.Get(t.Context(), i); err != nil {
							t.Fatal(err)
						}
					}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					var steps atomic.Int32
					net.set(func(op string) error {
						if op != "add_tombstones" {
							return nil
						}
						if int(steps.Add(1)) != failing {
							return nil
						}
						if ended {
							cancel()
						}
						return errRequestLost
					}, nil)
					want := cache.ErrUnavailable
					if ended {
						want = context.Canceled
					}
					if err := c.InvalidateTags(ctx, tags...); !errors.Is(err, want) {
						t.Fatal(err)
					}
					net.heal()
					if err := c.Sync(t.Context()); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					for name, c := range map[string]*cache.Cache[int, string]{"this process": c, "another": other} {
						for _, i := range []int{5, 1005, 2005, 3005, 3499} {
							if v, err := c.Get(t.Context(), i); !errors.Is(err, cache.ErrMiss) {
								t.Errorf("%s, tag %d: %q, %v", name, i, v, err)
							}
						}
					}
				})
			})
		}
	}
}

// Like the invalidation of keys, tags and everything: the source may have changed before
// the caller left.
func TestAPatternWhoseContextHasEndedIsInvalidatedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		a, b := onMemory(t, store, cache.Source[string, string]{}), onMemory(t, store, cache.Source[string, string]{})
		if err := a.Set(ctx, "k", "old"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Get(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := a.InvalidatePattern(ended, "k*"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := a.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		for _, c := range []*cache.Cache[string, string]{a, b} {
			if v, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("%q, %v", v, err)
			}
		}
	})
}
