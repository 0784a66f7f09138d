package memory_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// What Update makes of a value began when that did. An invalidation that is sent later takes it
// if it takes the value, however often and whenever that was changed since, and only then.
func TestWhatUpdateMakesGoesWithWhatItWasMadeOf(t *testing.T) {
	ways := maps.Clone(wide)
	ways["Invalidate"] = func(ctx context.Context, c *cache.Cache[string, string]) error {
		return c.Invalidate(ctx, "old", "old or new")
	}
	for way, change := range ways {
		for name, src := range map[string]cache.Source[string, string]{
			"cache":         {},
			"write-through": {Store: func(context.Context, string, string) error { return nil }},
		} {
			for how, opts := range map[string][]cache.WriteOption{"": nil, "TTL": {cache.TTL(time.Hour)}, "Tags": {cache.Tags("t", "u")}} {
				t.Run(way+", "+name+", "+how, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { derivedGo(t, change, src, opts) })
				})
			}
		}
	}
}

func derivedGo(t *testing.T, change func(context.Context, *cache.Cache[string, string]) error, src cache.Source[string, string], opts []cache.WriteOption) {
	ctx := t.Context()
	store := storetest.NewMemory()
	a, net := onWire(t, store, cache.Source[string, string]{})
	b := onMemory(t, store, src, cache.WithStrategy(strategy.LRU(100), strategy.TTL(time.Hour)))
	set := func(key string) {
		t.Helper()
		if err := b.Set(ctx, key, "v", cache.Tags("t", "u")); err != nil {
			t.Fatal(err)
		}
	}
	update := func(keys ...string) {
		t.Helper()
		for _, key := range keys {
			_, err := b.Update(ctx, key, func(old string, ok bool) (string, error) {
				if !ok {
					return "", errors.New("it has no value")
				}
				return old + "+", nil
			}, opts...)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := a.Get(ctx, "old"); !errors.Is(err, cache.ErrMiss) {
		t.Fatal(err)
	}
	set("old")
	set("old or new")
	time.Sleep(time.Second)
	update("old")
	time.Sleep(time.Second)
	net.lose()
	if err := change(ctx, a); !errors.Is(err, cache.ErrUnavailable) {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	set("old or new")
	for range 2 {
		update("old", "old or new")
		time.Sleep(300 * time.Millisecond)
	}
	net.heal()
	if err := a.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second)
	for who, c := range map[string]*cache.Cache[string, string]{"that invalidated": a, "that wrote": b, "new": onMemory(t, store, cache.Source[string, string]{})} {
		if v, err := c.Get(ctx, "old"); !errors.Is(err, cache.ErrMiss) || errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("%s: what was made of an older value is %q, %v", who, v, err)
		}
		for range 2 {
			if v, err := c.Get(ctx, "old or new"); v != "v++" || err != nil {
				t.Errorf("%s: what was made of a later value is %q, %v", who, v, err)
			}
		}
	}
}
