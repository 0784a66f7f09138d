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

// A load apart from Redis says as much of the local entry that it is to replace as another one
// says of the record.
func TestALoadApartEndsTheLocalEntry(t *testing.T) {
	for how, load := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"over": func(ctx context.Context, c *cache.Cache[string, string]) error {
			_, err := c.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "new", nil }, cache.SkipRemote(), cache.MaxAge(0), cache.TTL(-1))
			return err
		},
		"absent": func(ctx context.Context, c *cache.Cache[string, string]) error {
			_, err := c.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "", cache.ErrNotFound }, cache.SkipRemote(), cache.MaxAge(0))
			if errors.Is(err, cache.ErrNotFound) {
				return nil
			}
			return errors.Join(errors.New("it is there"), err)
		},
	} {
		for _, kind := range []string{"two tiers", "local only"} {
			t.Run(how+" "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					var r removals
					c := ofKind(t, kind, storetest.NewMemory(), cache.Source[string, string]{Removed: r.note}, cache.WithStrategy(strategy.NotFoundTTL(0)))
					if err := c.Set(ctx, "k", "old", cache.SkipRemote()); err != nil {
						t.Fatal(err)
					}
					if err := load(ctx, c); err != nil {
						t.Fatal(err)
					}
					if v, err := c.Peek(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
						t.Errorf("%q, %v", v, err)
					}
					r.are(t, how, "k old deleted")
				})
			})
		}
	}
}

func TestALoadApartKeepsTheLifeOfTheLocalEntry(t *testing.T) {
	for _, kind := range []string{"two tiers", "local only"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				c := ofKind(t, kind, storetest.NewMemory(), cache.Source[string, string]{}, cache.WithStrategy(strategy.TTL(time.Minute), strategy.Jitter(0)))
				if err := c.Set(ctx, "k", "old", cache.TTL(10*time.Second), cache.SkipRemote()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(4 * time.Second)
				if v, err := c.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "new", nil }, cache.SkipRemote(), cache.MaxAge(0), cache.KeepTTL()); v != "new" || err != nil {
					t.Fatal(v, err)
				}
				var info cache.Info
				if v, err := c.Peek(ctx, "k", cache.Report(&info)); v != "new" || err != nil || info.TTL != 6*time.Second {
					t.Errorf("%q, %v left, %v", v, info.TTL, err)
				}
			})
		})
	}
}

// A call that takes no stale value for a failing load does not get the failure that another
// process keeps for those that have one.
func TestACallThatTakesNoStaleValueIsNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st, src := t.Context(), storetest.NewMemory(), new(source)
		s := cache.WithStrategy(strategy.TTL(time.Second), strategy.Jitter(0), strategy.StaleWhileRevalidate(2*time.Second), strategy.StaleIfError(time.Hour), strategy.RetryAfter(time.Minute))
		c, other := newCache(t, st, src.Source(), s), newCache(t, st, src.Source(), s)
		src.give("old")
		if _, err := c.Get(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		src.fail(errFlaky)
		if v, err := c.Get(ctx, "k"); v != "old" || err != nil {
			t.Fatal(v, err)
		}
		src.give("new")
		before := src.calls.Load()
		if v, err := other.Get(ctx, "k"); v != "old" || err != nil {
			t.Errorf("held back: %q, %v", v, err)
		}
		if v, err := other.Get(ctx, "k", cache.With(strategy.StaleIfError(0))); v != "new" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		if n := src.calls.Load() - before; n != 1 {
			t.Errorf("%d loads", n)
		}
	})
}

// With KeepTTL, a Set apart from Redis leaves it alone as well: it keeps the end of what the local
// tier has, and where that has nothing, neither asks Redis nor invalidates there what it could not
// ask for.
func TestASetApartThatKeepsALifeLeavesRedisAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, net := t.Context(), &wire{Memory: storetest.NewMemory()}
		c := onMemory(t, net, cache.Source[string, string]{})
		other := onMemory(t, net.Memory, cache.Source[string, string]{})
		if err := other.SetMany(ctx, map[string]string{"here": "v", "there": "v"}, cache.TTL(10*time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(ctx, "here"); err != nil {
			t.Fatal(err)
		}
		net.lose("get")
		for _, k := range []string{"here", "there"} {
			if err := c.Set(ctx, k, "apart", cache.SkipRemote(), cache.KeepTTL()); err != nil {
				t.Errorf("%s: %v", k, err)
			}
		}
		net.heal()
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, k := range []string{"here", "there"} {
			if v, err := other.Get(ctx, k); v != "v" || err != nil {
				t.Errorf("%s elsewhere: %q, %v", k, v, err)
			}
		}
		if e, err := c.Inspect(ctx, "here"); err != nil || e.Value != "apart" || e.TTL != 9*time.Second {
			t.Errorf("%+v, %v", e, err)
		}
	})
}
