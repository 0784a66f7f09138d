package invalidate_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// newRedis returns a client whose connections are refused.
func newRedis(t *testing.T) redis.UniversalClient {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

func TestNewClientReportsEveryMistakeAtOnce(t *testing.T) {
	for what, rdb := range map[string]redis.UniversalClient{
		"nil": nil, "a nil *Client": (*redis.Client)(nil), "a nil *ClusterClient": (*redis.ClusterClient)(nil), "a nil *Ring": (*redis.Ring)(nil),
	} {
		c, err := invalidate.NewClient(rdb, "", nil, invalidate.WithPolicy(invalidate.Delayed(0)))
		if c != nil || !errors.Is(err, errs.ErrInvalidOption) {
			t.Fatalf("%s: %v, %v", what, c, err)
		}
		for _, part := range []string{"client is nil", `""`, "an option is nil", "Delayed(0s)"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v does not name %s", what, err, part)
			}
		}
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok || len(joined.Unwrap()) != 4 {
			t.Fatalf("%s: %v is not four mistakes", what, err)
		}
		for _, mistake := range joined.Unwrap() {
			if !errors.Is(mistake, errs.ErrInvalidOption) {
				t.Errorf("%s: %v wraps another error", what, mistake)
			}
		}
	}
}

func TestNewClientAcceptsTheNamesOfCaches(t *testing.T) {
	rdb := newRedis(t)
	for _, name := range []string{"", "a:b", " ", "a b", "a\n", "a\x00", "\xff"} {
		if _, err := invalidate.NewClient(rdb, name); !errors.Is(err, errs.ErrInvalidOption) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"users", "täglich", "a-b.c/d%*"} {
		c, err := invalidate.NewClient(rdb, name, invalidate.Prefix("shop:"), invalidate.WithPolicy(invalidate.Lazy()))
		if err != nil || c.Name() != name {
			t.Errorf("%q: %v, %v", name, c, err)
		}
	}
}

func TestTheLastClientOptionOfAKindHolds(t *testing.T) {
	_, err := invalidate.NewClient(newRedis(t), "users", invalidate.WithPolicy(invalidate.Delayed(-1)), invalidate.WithPolicy(invalidate.Delayed(time.Second)))
	if err != nil {
		t.Error(err)
	}
}

func TestAClientReachesEveryProcess(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		users, err := cache.New[string, string](b.NewClient(t), "users", cache.WithPrefix(b.Prefix), cache.WithStrategy(strategy.LRU(100)))
		if err != nil {
			t.Fatal(err)
		}
		defer users.Close()
		others, err := cache.New[string, string](b.NewClient(t), "others", cache.WithPrefix(b.Prefix))
		if err != nil {
			t.Fatal(err)
		}
		defer others.Close()
		for name, policy := range map[string]invalidate.Policy{"immediate": invalidate.Immediate(), "lazy": invalidate.Lazy(), "delayed": invalidate.Delayed(time.Millisecond)} {
			c, err := invalidate.NewClient(b.NewClient(t), "users", invalidate.Prefix(b.Prefix), invalidate.WithPolicy(policy))
			if err != nil {
				t.Fatal(err)
			}
			for what, f := range map[string]func() error{
				"keys": func() error { return c.Invalidate(ctx, invalidate.Key("k"), "missing") },
				"pattern": func() error {
					n, err := c.InvalidatePattern(ctx, "[k]")
					if n != 1 {
						t.Errorf("%s: %d keys match", name, n)
					}
					return err
				},
				"tags":  func() error { return c.InvalidateTags(ctx, "t") },
				"clear": func() error { return c.Clear(ctx) },
			} {
				for _, u := range []*cache.Cache[string, string]{users, others} {
					if err := u.Set(ctx, "k", "v", cache.Tags("t")); err != nil {
						t.Fatal(err)
					}
				}
				if v, err := users.Peek(ctx, "k"); v != "v" || err != nil {
					t.Fatalf("before: %q, %v", v, err)
				}
				if err := f(); err != nil {
					t.Errorf("%s %s: %v", name, what, err)
				}
				// the message is on its way.
				for deadline := time.Now().Add(10 * time.Second); ; {
					b.Advance(time.Millisecond)
					if _, err := users.Peek(ctx, "k"); errors.Is(err, cache.ErrMiss) {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("%s %s: the process still has the value", name, what)
					}
					time.Sleep(time.Millisecond)
				}
				if v, err := others.Peek(ctx, "k"); v != "v" || err != nil {
					t.Errorf("%s %s reached another cache: %q, %v", name, what, v, err)
				}
			}
			c.Close()
		}
	})
}

func TestAClientSaysWhatRedisDidNotAcknowledge(t *testing.T) {
	c, err := invalidate.NewClient(newRedis(t), "users") // which no server answers
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	check := func(ctx context.Context, want error) {
		t.Helper()
		_, pattern := c.InvalidatePattern(ctx, "*")
		for method, err := range map[string]error{
			"Invalidate": c.Invalidate(ctx, "secret"), "InvalidatePattern": pattern, "InvalidateTags": c.InvalidateTags(ctx, "secret"), "Clear": c.Clear(ctx),
		} {
			if !errors.Is(err, want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v, want %v", method, err, want)
			}
		}
	}
	check(ctx, errs.ErrUnavailable)
	check(canceled, context.Canceled)
	if err := c.InvalidateTags(ctx, "a", ""); !errors.Is(err, errs.ErrInvalidOption) {
		t.Errorf("an empty tag: %v", err)
	}
	if err := errors.Join(c.InvalidateTags(ctx), c.Invalidate(ctx)); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	check(ctx, errs.ErrClosed)
}
