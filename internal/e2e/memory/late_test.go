package memory_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// wide are the ways to invalidate "old" and more at once, without its key.
var wide = map[string]func(context.Context, *cache.Cache[string, string]) error{
	"InvalidateTags": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
	"InvalidateTags of many": func(ctx context.Context, c *cache.Cache[string, string]) error {
		return errors.Join(c.InvalidateTags(ctx, "s", "t"), c.InvalidateTags(ctx, "u"))
	},
	"Clear": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
	"Clear and InvalidateTags": func(ctx context.Context, c *cache.Cache[string, string]) error {
		return errors.Join(c.InvalidateTags(ctx, "t"), c.Clear(ctx))
	},
	"InvalidatePattern": func(ctx context.Context, c *cache.Cache[string, string]) error {
		_, err := c.InvalidatePattern(ctx, "*")
		return err
	},
	"with a context that has ended": func(ctx context.Context, c *cache.Cache[string, string]) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		_, err := c.InvalidatePattern(ctx, "o*")
		if err = errors.Join(c.InvalidateTags(ctx, "t"), c.Clear(ctx), err); errors.Is(err, context.Canceled) {
			return cache.ErrUnavailable
		}
		return err
	},
}

// What is sent later of an invalidation without a key takes what was there when it was
// called for, and nothing that was stored since, however that was written: by whatever
// policy, whether the first attempt was carried out or not, for each reader.
func TestWhatIsSentLaterOfAnInvalidationLeavesLaterWritesAlone(t *testing.T) {
	policies := map[string]cache.Option{
		"immediate": cache.WithInvalidator(invalidate.Immediate()),
		"delayed":   cache.WithInvalidator(invalidate.Delayed(time.Minute)),
		"lazy":      cache.WithInvalidator(invalidate.Lazy()),
	}
	for way, change := range wide {
		for policy, p := range policies {
			if policy != "immediate" && way != "InvalidateTags" && way != "Clear" {
				continue
			}
			for name, lose := range map[string]bool{"not carried out": false, "carried out": true} {
				t.Run(way+", "+policy+", "+name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { laterWritesStay(t, change, p, lose) })
				})
			}
		}
	}
}

func laterWritesStay(t *testing.T, change func(context.Context, *cache.Cache[string, string]) error, policy cache.Option, carriedOut bool) {
	ctx := t.Context()
	store := storetest.NewMemory()
	a, net := onWire(t, store, cache.Source[string, string]{}, policy)
	others := map[string]*cache.Cache[string, string]{
		"two tiers":  onMemory(t, store, cache.Source[string, string]{}),
		"tracking":   onMemory(t, store, cache.Source[string, string]{}, cache.WithTransport(invalidate.Tracking())),
		"one tier":   newCache(t, store, cache.Source[string, string]{}, cache.WithStrategy(strategy.Jitter(0))),
		"hears none": newCache(t, store, cache.Source[string, string]{}, cache.WithStrategy(strategy.Jitter(0)), cache.WithTransport(invalidate.NoTransport())),
	}
	b := others["two tiers"]
	if err := b.SetMany(ctx, map[string]string{"old": "old", "old too": "old"}, cache.Tags("t", "u")); err != nil {
		t.Fatal(err)
	}
	for _, c := range others {
		if v, err := c.Get(ctx, "old"); v != "old" || err != nil {
			t.Fatal(v, err)
		}
	}
	began, end := make(chan struct{}), make(chan struct{})
	go b.GetOrLoad(ctx, "loaded before", func(context.Context, string) (string, error) {
		close(began)
		<-end
		return "old", nil
	}, cache.Tags("t"))
	<-began
	time.Sleep(2 * time.Second)
	if net.lose(); carriedOut {
		net.set(nil, losing(errRequestLost, nil))
	}
	if err := change(ctx, a); !errors.Is(err, cache.ErrUnavailable) {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)
	close(end)
	written := map[string]string{}
	for who, c := range others {
		key := func(how string) string { k := "of " + who + ": " + how; written[k] = "new"; return k }
		_, loaded := c.GetOrLoad(ctx, key("loaded"), func(context.Context, string) (string, error) { return "new", nil }, cache.Tags("t"))
		_, absent := c.SetIfAbsent(ctx, key("set if absent"), "new", cache.Tags("t"))
		_, updated := c.Update(ctx, key("updated"), func(string, bool) (string, error) { return "new", nil }, cache.Tags("t"))
		if err := errors.Join(c.Set(ctx, key("set"), "new", cache.Tags("u", "t")), c.SetMany(ctx, map[string]string{key("many"): "new"}, cache.Tags("t")),
			c.Set(ctx, key("no tags"), "new"), loaded, absent, updated); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	net.heal()
	if err := a.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5300 * time.Millisecond) // all have heard, and hear again; nothing is due at this moment
	others["that invalidated"] = a
	others["new"] = onMemory(t, store, cache.Source[string, string]{})
	for who, c := range others {
		for _, k := range []string{"old", "old too", "loaded before"} {
			if v, err := c.Get(ctx, k); !errors.Is(err, cache.ErrMiss) || errors.Is(err, cache.ErrUnavailable) {
				t.Errorf("%s: %s is %q, %v", who, k, v, err)
			}
		}
		vals, err := c.GetMany(ctx, slices.Collect(maps.Keys(written)))
		if err != nil || len(vals) != len(written) {
			t.Errorf("%s: %d of %d are left, %v", who, len(vals), len(written), err)
		}
		for k, want := range written {
			e, err := c.Inspect(ctx, k)
			if e.Value != want || err != nil {
				t.Errorf("%s: %s is %q, %v", who, k, e.Value, err)
			}
			if who != "one tier" && who != "hears none" && e.Info.Tier != metrics.Local {
				t.Errorf("%s: %s is not read from the local tier", who, k)
			}
		}
	}
}
