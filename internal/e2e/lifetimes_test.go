package e2e_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/strategy"
)

func TestUpdateKeepsTheDeadline(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		c := on(t, b, "n", cache.SourceFunc(func(context.Context, string) (int, error) { return 40, nil }), withLocal)
		if err := c.Set(ctx, "k", 1, cache.TTL(time.Hour)); err != nil {
			t.Fatal(err)
		}
		inc := func(n int, ok bool) (int, error) { return n + 1, nil }
		for _, opts := range [][]cache.WriteOption{nil, {cache.TTL(2 * time.Hour)}} {
			want := time.Hour
			if opts != nil {
				want *= 2
			}
			if _, err := c.Update(ctx, "k", inc, opts...); err != nil {
				t.Fatal(err)
			}
			pttl, err := b.Client.PTTL(ctx, c.RedisKey("k")).Result()
			if err != nil || pttl > want || pttl < want-time.Minute {
				t.Errorf("Redis keeps it for %v, %v; want %v", pttl, err, want)
			}
			for _, opts := range [][]cache.ReadOption{nil, {cache.SkipLocal()}} {
				var info cache.Info
				if _, err := c.Peek(ctx, "k", append(opts, cache.Report(&info))...); err != nil || info.TTL > want || info.TTL < want-time.Minute {
					t.Errorf("%+v, %v; want %v", info, err, want)
				}
			}
		}
		// On a miss the source is asked; an error of the function changes nothing.
		if n, err := c.Update(ctx, "other", inc); n != 41 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		boom := errors.New("boom")
		if _, err := c.Update(ctx, "other", func(int, bool) (int, error) { return 0, boom }); err != boom {
			t.Error(err)
		}
		if n, err := c.Get(ctx, "other"); n != 41 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	})
}

func TestLifetimesAreExactToTheMillisecond(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		for _, d := range []time.Duration{time.Second, 1001 * time.Millisecond, 1500 * time.Millisecond, time.Minute, 36*time.Hour + 7*time.Millisecond, 30 * 24 * time.Hour} {
			byCall := on(t, b, "call", cache.Source[string, string]{})
			byStrategy := on(t, b, "strategy", cache.Source[string, string]{}, cache.WithStrategy(strategy.TTL(d), strategy.Jitter(0)))
			bySource := on(t, b, "source", cache.Source[string, string]{TTL: func(string, string) time.Duration { return d }})
			byLoad := on(t, b, "load", cache.SourceFunc(func(ctx context.Context, _ string) (string, error) {
				cache.CurrentLoad[string](ctx).SetTTL(d)
				return "v", nil
			}))
			for name, c := range map[string]*cache.Cache[string, string]{"call": byCall, "strategy": byStrategy, "source": bySource, "load": byLoad} {
				if err := c.Delete(ctx, "k"); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				var err error
				switch name {
				case "call":
					err = c.Set(ctx, "k", "v", cache.TTL(d))
				case "load":
					_, err = c.Get(ctx, "k")
				default:
					err = c.Set(ctx, "k", "v")
				}
				if err != nil {
					t.Fatal(err)
				}
				left, err := b.Client.PTTL(ctx, c.RedisKey("k")).Result()
				// What has passed since is the only difference there may be.
				if passed := time.Since(start) + time.Millisecond; err != nil || left > d || left < d-passed {
					t.Errorf("%s: %v left of %v after %v, %v", name, left, d, passed, err)
				}
			}
		}
	})
}

func TestALifeThatIsOverRemoves(t *testing.T) {
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		ctx := t.Context()
		c := on(t, b, "n", cache.Source[string, int]{}, tiers)
		for _, d := range []time.Duration{0, -time.Second} {
			if err := c.Set(ctx, "k", 1); err != nil {
				t.Fatal(err)
			}
			if err := c.Set(ctx, "k", 2, cache.TTL(d)); err != nil {
				t.Fatal(err)
			}
			if v, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("TTL(%v): %d, %v", d, v, err)
			}
		}
		if err := c.Set(ctx, "k", 1, cache.TTL(time.Microsecond)); !errors.Is(err, cache.ErrInvalidOption) {
			t.Errorf("TTL(1µs): %v", err)
		}
	})
}

func TestAMillisecondIsALife(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		c := on(t, b, "n", cache.Source[string, int]{}, withLocal)
		if err := c.Set(ctx, "k", 1, cache.TTL(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if b.Mini != nil {
			b.Mini.FastForward(time.Millisecond)
		}
		deadline := time.Now().Add(10 * time.Second)
		for {
			_, err := c.Get(ctx, "k")
			if errors.Is(err, cache.ErrMiss) {
				return
			}
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("still there: %v", err)
			}
		}
	})
}
