package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// What is not stored leaves what is there to those who rely on it: a process with a stale
// window of its own, or one of an older version.
func TestNotStoringLeavesWhatIsThere(t *testing.T) {
	type loader = func(ctx context.Context, key string) (string, error)
	fails := func(context.Context, string) (string, error) { return "", errFlaky }
	noStore := func(ctx context.Context, _ string) (string, error) {
		cache.CurrentLoad[string](ctx).NoStore()
		return "unkept", nil
	}
	over := func(ctx context.Context, _ string) (string, error) {
		cache.CurrentLoad[string](ctx).SetTTL(-1)
		return "unkept", nil
	}
	emptyTag := func(ctx context.Context, _ string) (string, error) {
		cache.CurrentLoad[string](ctx).AddTags("")
		return "unkept", nil
	}
	panics := func(context.Context, string) (string, error) { panic("no") }
	absent := func(ctx context.Context, _ string) (string, error) {
		cache.CurrentLoad[string](ctx).NoStore()
		return "", cache.ErrNotFound
	}
	plain := []cache.Option{cache.WithStrategy(strategy.TTL(time.Minute))}
	ahead := []cache.Option{cache.WithStrategy(strategy.TTL(time.Minute), strategy.RefreshAhead(0.5))}
	stale := []cache.Option{cache.WithStrategy(strategy.TTL(time.Minute), strategy.StaleIfError(time.Hour))}
	serving := []cache.Option{cache.WithStrategy(strategy.TTL(time.Minute), strategy.StaleWhileRevalidate(time.Hour))}
	get := func(ctx context.Context, c *cache.Cache[string, string], load loader) error {
		_, err := c.GetOrLoad(ctx, "k", load)
		return err
	}
	fresh := func(ctx context.Context, c *cache.Cache[string, string], load loader) error {
		_, err := c.GetOrLoad(ctx, "k", load, cache.MaxAge(0))
		return err
	}
	update := func(ctx context.Context, c *cache.Cache[string, string], load loader) error {
		_, err := c.Update(ctx, "k", func(string, bool) (string, error) { return "", errFlaky })
		return err
	}
	for name, tt := range map[string]struct {
		opts []cache.Option
		by   func(context.Context, *cache.Cache[string, string], loader) error
		load loader
		wait time.Duration
	}{
		"a failure without a stale window":              {plain, get, fails, 2 * time.Minute},
		"NoStore without a stale window":                {plain, get, noStore, 2 * time.Minute},
		"a panic without a stale window":                {plain, get, panics, 2 * time.Minute},
		"SetTTL without a stale window":                 {plain, get, over, 2 * time.Minute},
		"a value that can't be kept":                    {plain, get, emptyTag, 2 * time.Minute},
		"an absence that is not to be stored":           {plain, get, absent, 2 * time.Minute},
		"a failure of MaxAge(0) without a stale window": {plain, fresh, fails, 2 * time.Minute},
		"NoStore of MaxAge(0) over a value":             {plain, fresh, noStore, 0},
		"NoStore of MaxAge(0) over a stale one":         {stale, fresh, noStore, 2 * time.Minute},
		"NoStore over a stale value":                    {stale, get, noStore, 2 * time.Minute},
		"NoStore behind a stale value":                  {serving, get, noStore, 2 * time.Minute},
		"NoStore in a refresh ahead":                    {ahead, get, noStore, 40 * time.Second},
		"a failing refresh ahead":                       {ahead, get, fails, 40 * time.Second},
		"a failure of an older version's value":         {append(plain, cache.WithVersion(1)), get, fails, 0},
		"an Update that fails":                          {plain, update, nil, 2 * time.Minute},
		"an Update whose load fails":                    {plain, update, fails, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, store := t.Context(), storetest.NewMemory()
				others := onMemory(t, store, cache.Source[string, string]{}, cache.WithStrategy(strategy.TTL(time.Minute), strategy.StaleIfError(time.Hour)))
				src := cache.Source[string, string]{}
				if tt.load != nil {
					src = cache.SourceFunc(tt.load)
				}
				c := onMemory(t, store, src, tt.opts...)
				if err := others.Set(ctx, "k", "v"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(tt.wait)
				for range 3 {
					err := tt.by(ctx, c, tt.load)
					if err != nil && !errors.Is(err, errFlaky) && !errors.Is(err, cache.ErrNotFound) && !errors.As(err, new(*cache.PanicError)) {
						t.Error(err)
					}
					synctest.Wait()
					time.Sleep(2 * time.Second)
				}
				if v, err := others.Get(ctx, "k", cache.AllowStale()); v != "v" || err != nil {
					t.Errorf("others have %q, %v", v, err)
				}
			})
		})
	}
}
