package e2e_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// lives checks how long Redis keeps a key, and what readers are told, to a minute.
func lives(t *testing.T, b *redistest.Backend, c *cache.Cache[string, string], key string, want time.Duration) {
	t.Helper()
	pttl, err := b.Client.PTTL(t.Context(), c.RedisKey(key)).Result()
	if err != nil || pttl > want || pttl < want-time.Minute {
		t.Errorf("Redis keeps %s for %v, %v; want %v", key, pttl, err, want)
	}
	for _, opts := range [][]cache.ReadOption{nil, {cache.SkipLocal()}} {
		var info cache.Info
		if _, err := c.Peek(t.Context(), key, append(opts, cache.Report(&info))...); err != nil || info.TTL > want || info.TTL < want-time.Minute {
			t.Errorf("%s: %+v, %v; want %v", key, info, err, want)
		}
	}
}

func TestTouchAndKeepTTL(t *testing.T) {
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		ctx := t.Context()
		for name, cd := range map[string]codec.Codec{
			"plain": codec.JSON(), "sealed": codec.Encrypted(codec.JSON(), []byte("0123456789abcdef0123456789abcdef")),
		} {
			c := on(t, b, name, cache.Source[string, string]{}, tiers, cache.WithCodec(cd), cache.WithStrategy(strategy.TTL(10*time.Hour), strategy.Jitter(0)))
			other := on(t, b, name, cache.Source[string, string]{}, tiers, cache.WithCodec(cd))
			for _, key := range []string{"a", "b", "c"} {
				if err := c.Set(ctx, key, "v", cache.TTL(time.Hour), cache.Tags("t")); err != nil {
					t.Fatal(err)
				}
				if _, err := other.Get(ctx, key); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Set(ctx, "a", "w", cache.KeepTTL()); err != nil {
				t.Fatal(err)
			}
			lives(t, b, c, "a", time.Hour)
			if err := other.Touch(ctx, "a"); err != nil { // shorter than what it has
				t.Fatal(err)
			}
			lives(t, b, c, "a", time.Hour)
			var be *cache.BatchError[string]
			if err := c.Touch(ctx, "b", "c", "none"); !errors.As(err, &be) || len(be.Errs) != 1 || !errors.Is(be.For("none"), cache.ErrMiss) {
				t.Errorf("%s: %v", name, err)
			}
			lives(t, b, c, "b", 10*time.Hour)
			for _, node := range []*cache.Cache[string, string]{c, other} {
				if v, err := node.Get(ctx, "b", cache.SkipLocal()); v != "v" || err != nil {
					t.Errorf("%s: %q, %v", name, v, err)
				}
			}
			// The tags are still those of the value.
			if err := other.InvalidateTags(ctx, "t"); err != nil {
				t.Fatal(err)
			}
			if _, err := other.Peek(ctx, "b"); !errors.Is(err, cache.ErrMiss) {
				t.Error(err)
			}
			if err := other.Touch(ctx, "b"); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("an invalidated value: %v", err)
			}
		}
	})
}

func TestSkipRemote(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		src := cache.SourceFunc(func(context.Context, string) (string, error) { return "loaded", nil })
		c, other := on(t, b, "n", src, withLocal), on(t, b, "n", src, withLocal)
		if err := other.Set(ctx, "k", "shared"); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(ctx, "k", cache.SkipRemote()); v != "loaded" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		var info cache.Info
		if v, err := c.Get(ctx, "k", cache.Report(&info)); v != "loaded" || err != nil || info.Tier != metrics.Local {
			t.Errorf("%q, %v, %v", v, err, info.Tier)
		}
		if err := c.Set(ctx, "k", "here", cache.SkipRemote()); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(ctx, "k"); v != "here" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		if v, err := other.Get(ctx, "k"); v != "shared" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		if err := other.Set(ctx, "k", "newer"); err != nil {
			t.Fatal(err)
		}
		awaits(t, "the newer value", func() error {
			if v, err := c.Get(ctx, "k"); v != "newer" || err != nil {
				return errors.Join(errors.New(v), err)
			}
			return nil
		})
	})
}
