package memory_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// A read of a key of which an Update is in flight gets what the function of the Update was given,
// if it began before an invalidation by tag, and the source's value if it began after one. Neither
// waits for the function.
func TestAReadBesideAnUpdateHoldsToTags(t *testing.T) {
	for _, kind := range tierings {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				version := 1
				src := cache.Source[string, int]{
					Load: func(context.Context, string) (int, error) { return version, nil },
					Tags: func(string, int) []string { return []string{"t"} },
				}
				opts := []cache.Option{cache.WithStrategy(strategy.TTL(time.Hour))}
				if kind == "local values" {
					opts = append(opts, cache.LocalValues(), cache.WithStrategy(strategy.LRU(100)))
				}
				c := ofKind(t, kind, storetest.NewMemory(), src, opts...)
				read := func(want int) error {
					began := time.Now()
					if got, err := c.Get(ctx, "k"); got != want || err != nil || time.Since(began) > time.Second {
						return fmt.Errorf("Get = %d, %v after %v, want %d", got, err, time.Since(began), want)
					}
					return nil
				}
				calls := 0
				got, err := c.Update(ctx, "k", func(old int, _ bool) (int, error) {
					if calls++; calls > 1 {
						return old + 10, nil
					}
					if err := read(1); err != nil {
						return 0, fmt.Errorf("before the invalidation: %w", err)
					}
					version = 2
					if err := c.InvalidateTags(ctx, "t"); err != nil {
						return 0, err
					}
					synctest.Wait()
					if err := read(2); err != nil {
						return 0, fmt.Errorf("after the invalidation: %w", err)
					}
					return old + 10, nil
				})
				if err != nil {
					t.Fatal(err)
				}
				// The read has loaded beside it, so that the Update begins again with that.
				if got != 12 {
					t.Errorf("Update = %d after %d calls, want 12", got, calls)
				}
			})
		})
	}
}

// When the function has returned, and while the source is written, a read waits for that: it does
// not get what the function was given, of which a tag was invalidated.
func TestAReadBesideAnUpdateOfTheSourceHoldsToTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		version := 1
		var c *cache.Cache[string, int]
		read := make(chan int, 1)
		src := cache.Source[string, int]{
			Load: func(context.Context, string) (int, error) { return version, nil },
			Tags: func(string, int) []string { return []string{"t"} },
			Store: func(_ context.Context, _ string, v int) error {
				version = 2
				if err := c.InvalidateTags(ctx, "t"); err != nil {
					return err
				}
				go func() {
					got, err := c.Get(ctx, "k")
					if err != nil {
						t.Error(err)
					}
					read <- got
				}()
				synctest.Wait()
				version = v
				return nil
			},
		}
		c = newCache(t, nil, src, cache.LocalOnly(), cache.WithStrategy(strategy.TTL(time.Hour)))
		if got, err := c.Update(ctx, "k", func(old int, _ bool) (int, error) { return old + 10, nil }); got != 11 || err != nil {
			t.Fatalf("Update = %d, %v", got, err)
		}
		if got := <-read; got == 1 {
			t.Error("Get = 1, which was over when the read began")
		}
	})
}
