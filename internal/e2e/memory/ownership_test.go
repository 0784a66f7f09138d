package memory_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// The caller that began a load owns its value no more than those that joined.
func TestWhoBeganALoadOwnsACopy(t *testing.T) {
	for _, kind := range tierings {
		for range 20 {
			synctest.Test(t, func(t *testing.T) {
				hold := make(chan struct{})
				c := ofKind(t, kind, storetest.NewMemory(), cache.Source[string, []int]{
					Load:  func(context.Context, string) ([]int, error) { <-hold; return []int{1}, nil },
					Clone: slices.Clone[[]int],
				})
				var all sync.WaitGroup
				for range 8 {
					all.Go(func() {
						v, err := c.Get(context.Background(), "k")
						if err != nil || v[0] != 1 {
							t.Errorf("%s: %v, %v", kind, v, err)
							return
						}
						v[0] = 2
					})
				}
				synctest.Wait()
				close(hold)
				all.Wait()
			})
		}
	}
}

// What a conditional load keeps stays the tier's, and is nothing where there was no value.
func TestNotModifiedGivesNothingAway(t *testing.T) {
	for _, kind := range tierings {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			absent := true
			c := ofKind(t, kind, storetest.NewMemory(), cache.Source[string, []int]{
				Load: func(ctx context.Context, _ string) ([]int, error) {
					l := cache.CurrentLoad[[]int](ctx)
					if _, ok := l.Stale(); ok {
						return l.NotModified()
					}
					if absent {
						return nil, cache.ErrNotFound
					}
					return []int{1}, nil
				},
				Clone: slices.Clone[[]int],
			}, cache.WithStrategy(strategy.TTL(time.Minute), strategy.Jitter(0), strategy.StaleIfError(time.Hour)))
			if _, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrNotFound) {
				t.Error(err)
			}
			if err := c.Refresh(ctx, "k"); err != nil {
				t.Error(err)
			}
			if v, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrNotFound) {
				t.Errorf("%s: an absence that was kept is %v, %v", kind, v, err)
			}
			absent = false
			for range 3 {
				v, err := c.Get(ctx, "k", cache.MaxAge(0))
				if err != nil || v[0] != 1 {
					t.Fatalf("%s: %v, %v", kind, v, err)
				}
				v[0] = 666
				time.Sleep(2 * time.Minute)
			}
		})
	}
}

// The tags of an Info belong to the caller, of Report as of Inspect.
func TestInfoTagsBelongToTheCaller(t *testing.T) {
	for _, kind := range tierings {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			c := ofKind(t, kind, storetest.NewMemory(), cache.Source[string, int]{})
			if err := errors.Join(c.InvalidateTags(ctx, "u"), c.Set(ctx, "k", 1, cache.Tags("t"))); err != nil {
				t.Fatal(err)
			}
			var info cache.Info
			if _, err := c.Get(ctx, "k", cache.Report(&info)); err != nil {
				t.Fatal(err)
			}
			info.Tags[0] = "u"
			e, err := c.Inspect(ctx, "k")
			if err != nil || e.Tags[0] != "t" {
				t.Errorf("%s: %v, %v", kind, e.Tags, err)
			}
			e.Tags[0] = "u"
			if err := c.InvalidateTags(ctx, "t"); err != nil {
				t.Fatal(err)
			}
			if v, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("%s: after InvalidateTags: %d, %v", kind, v, err)
			}
		})
	}
}
