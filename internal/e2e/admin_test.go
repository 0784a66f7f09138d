package e2e_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

type seat struct {
	Row string
	No  int
}

// A struct has no way back from its encoding to the key, which is then looked for in
// the local tier, and asked of Redis by its encoding alone.
func TestAKeyIsFoundByItsEncodedForm(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := context.Background()
		for name, opts := range map[string][]cache.Option{
			"remote tier": {discard},
			"both tiers":  {discard, cache.WithStrategy(strategy.LRU(10))},
		} {
			t.Run(name, func(t *testing.T) {
				seats, err := cache.New[seat, string](b.NewClient(t), "seats", opts...)
				if err != nil {
					t.Fatal(err)
				}
				defer seats.Close()
				ids, err := cache.New[int, string](b.NewClient(t), "ids", opts...)
				if err != nil {
					t.Fatal(err)
				}
				defer ids.Close()
				must(t, seats.Set(ctx, seat{"a:b", 7}, "taken", cache.Tags("hall")))
				must(t, ids.Set(ctx, 12, "twelve", cache.TTL(time.Hour)))

				encoded := invalidate.Key("a:b", 7)
				if key, err := seats.EncodeKey(seat{"a:b", 7}); key != encoded || err != nil {
					t.Errorf("EncodeKey = %q, %v, want %q", key, err, encoded)
				}
				got, err := seats.InspectEncoded(ctx, encoded)
				if err != nil || got.Value != "taken" || !slices.Equal(got.Tags, []string{"hall"}) || got.TTL <= 0 || got.RedisKey != seats.RedisKey(seat{"a:b", 7}) {
					t.Errorf("InspectEncoded = %+v, %v", got, err)
				}
				want, err := seats.Inspect(ctx, seat{"a:b", 7})
				if err != nil || got.Tier != want.Tier {
					t.Errorf("tier %v, and Inspect says %v, %v", got.Tier, want.Tier, err)
				}
				if got, err := ids.InspectEncoded(ctx, "12"); err != nil || got.Value != "twelve" || got.TTL > time.Hour || got.TTL < time.Minute {
					t.Errorf("InspectEncoded = %+v, %v", got, err)
				}

				must(t, seats.InvalidateEncoded(ctx, encoded))
				must(t, ids.InvalidateEncoded(ctx, "12"))
				if _, err := seats.InspectEncoded(ctx, encoded); !errors.Is(err, cache.ErrMiss) {
					t.Errorf("an invalidated key: %v", err)
				}
				if _, err := seats.Peek(ctx, seat{"a:b", 7}); !errors.Is(err, cache.ErrMiss) {
					t.Errorf("an invalidated key: %v", err)
				}
				if _, err := ids.Peek(ctx, 12); !errors.Is(err, cache.ErrMiss) {
					t.Errorf("an invalidated key: %v", err)
				}

				for _, text := range []string{"x", "012", ""} {
					_, err := ids.InspectEncoded(ctx, text)
					if !errors.Is(err, cache.ErrInvalidOption) {
						t.Errorf("InspectEncoded(%q): %v", text, err)
					}
					must(t, ids.Set(ctx, 12, "twelve"))
					if err := ids.InvalidateEncoded(ctx, "12", text); !errors.Is(err, cache.ErrInvalidOption) {
						t.Errorf("InvalidateEncoded(%q): %v", text, err)
					}
					if v, err := ids.Peek(ctx, 12); v != "twelve" || err != nil {
						t.Errorf("a key was invalidated beside one that is none: %v", err)
					}
				}
			})
		}
	})
}

func TestAnInspectedAbsenceHasNoValue(t *testing.T) {
	ctx := context.Background()
	c, err := cache.NewFrom(nil, "none", cache.Source[seat, int]{Load: func(context.Context, seat) (int, error) { return 0, cache.ErrNotFound }},
		cache.LocalOnly(), discard, cache.WithInvalidator(invalidate.Delayed(time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.InspectEncoded(ctx, "a:1"); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("nothing yet: %v", err)
	}
	if _, err := c.Get(ctx, seat{"a", 1}); !errors.Is(err, cache.ErrNotFound) {
		t.Fatal(err)
	}
	got, err := c.InspectEncoded(ctx, "a:1")
	if err != nil || !got.Absent || got.Value != nil || got.Tier != metrics.Local {
		t.Errorf("InspectEncoded = %+v, %v", got, err)
	}
	before := got.TTL
	must(t, c.Set(ctx, seat{"a", 1}, 5, cache.TTL(time.Hour)))
	must(t, c.InvalidateEncoded(ctx, "a:1"))
	got, err = c.InspectEncoded(ctx, "a:1")
	if err != nil || got.Value != 5 {
		t.Errorf("a delayed invalidation removed at once: %+v, %v (before: %v)", got, err, before)
	}
}

func TestWhatCanNotBeAskedIsUnavailable(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	defer rdb.Close()
	c, err := cache.New[seat, int](rdb, "away", discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if _, err := c.InspectEncoded(ctx, "a:1"); !errors.Is(err, cache.ErrUnavailable) || !errors.Is(err, cache.ErrMiss) {
		t.Errorf("InspectEncoded: %v", err)
	}
	if err := c.InvalidateEncoded(ctx, "a:1"); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("InvalidateEncoded: %v", err)
	}
	if c.Closed() {
		t.Error("closed before Close")
	}
	c.Close()
	if !c.Closed() {
		t.Error("open after Close")
	}
	if _, err := c.InspectEncoded(ctx, "a:1"); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("InspectEncoded of a closed cache: %v", err)
	}
	if err := c.InvalidateEncoded(ctx, "a:1"); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("InvalidateEncoded of a closed cache: %v", err)
	}
}

func TestTopTagsCountWhatWasInvalidated(t *testing.T) {
	ctx := context.Background()
	c, err := cache.New[string, int](nil, "tags", cache.LocalOnly(), discard)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	long := strings.Repeat("ä", 500)
	for range 3 {
		must(t, c.InvalidateTags(ctx, "often", long))
	}
	must(t, c.InvalidateTags(ctx, "once"))
	if err := c.InvalidateTags(ctx, "never", ""); err == nil {
		t.Error("an empty tag was invalidated")
	}
	got := c.TopTags(10)
	if len(got) != 3 || got[0] != (metrics.TagCount{Tag: "often", Count: 3}) || got[2] != (metrics.TagCount{Tag: "once", Count: 1}) {
		t.Errorf("top tags = %v", got)
	}
	if n := len(got[1].Tag); n > 128 || n < 120 || !strings.HasSuffix(got[1].Tag, "…") || !strings.HasPrefix(long, strings.TrimSuffix(got[1].Tag, "…")) {
		t.Errorf("a long tag is kept as %q", got[1].Tag)
	}
	if got := c.TopTags(1); len(got) != 1 {
		t.Errorf("one tag: %v", got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
