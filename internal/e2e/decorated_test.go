package e2e_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// counted decorates a client in the way of tracing libraries and containers of
// dependencies: what it embeds has no type of its own.
type counted struct {
	redis.UniversalClient
	calls *atomic.Int64
}

func (c counted) Process(ctx context.Context, cmd redis.Cmder) error {
	c.calls.Add(1)
	return c.UniversalClient.Process(ctx, cmd)
}

// open is one that tells what it decorates.
type open struct{ counted }

func (o open) Unwrap() redis.UniversalClient { return o.UniversalClient }

// around decorates nothing, or itself.
type around struct {
	redis.UniversalClient
	inner func() redis.UniversalClient
}

func (a *around) Unwrap() redis.UniversalClient { return a.inner() }

// A decorator that has a method Unwrap is worth as much as the client within, and every
// command that is no notification goes through it.
func TestADecoratedClientIsSeenThrough(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		var outer, inner atomic.Int64
		rdb := open{counted{open{counted{b.Client, &inner}}, &outer}}
		c, err := cache.New[string, int](rdb, "n", cache.WithPrefix(b.Prefix), slowly, discard, cache.WithStrategy(strategy.LRU(10)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx := t.Context()
		if err := c.Set(ctx, "k", 1); err != nil {
			t.Fatal(err)
		}
		// One of the background may be on its way from one to the other.
		eventually(t, "as many commands go through one decorator as through the other", func() bool {
			n := outer.Load()
			return n > 0 && n == inner.Load()
		})
		eventually(t, "a local hit", func() bool {
			if v, err := c.Get(ctx, "k"); v != 1 || err != nil {
				t.Fatal(v, err)
			}
			return c.Metrics().LocalHits > 0
		})
		if n, err := c.InvalidatePattern(ctx, "*"); n != 1 || err != nil {
			t.Error(n, err)
		}
		client, err := invalidate.NewClient(rdb, "n", invalidate.Prefix(b.Prefix))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := client.InvalidatePattern(ctx, "*"); err != nil {
			t.Error(err)
		}
	})
}

// Where a decorator hides what it decorates, what needs to know that is refused, with
// what to do, and everything else works.
func TestADecoratedClientOfAnUnknownKind(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		rdb := counted{b.Client, new(atomic.Int64)}
		for name, opts := range map[string][]cache.Option{
			"a local tier": {cache.WithStrategy(strategy.LRU(10))},
			"Broadcast":    {cache.WithTransport(invalidate.Broadcast())},
			"Tracking":     {cache.WithTransport(invalidate.Tracking())},
		} {
			_, err := cache.New[string, int](rdb, "n", opts...)
			if !errors.Is(err, cache.ErrInvalidOption) || !strings.Contains(err.Error(), "Unwrap() redis.UniversalClient") {
				t.Errorf("%s: %v", name, err)
			}
		}
		for name, opts := range map[string][]cache.Option{
			"one tier":                        {},
			"a local tier that hears nothing": {cache.WithStrategy(strategy.LRU(10)), cache.WithTransport(invalidate.NoTransport())},
		} {
			c, err := cache.New[string, int](rdb, "n", append(opts, cache.WithPrefix(b.Prefix), slowly, discard)...)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			defer c.Close()
			ctx := t.Context()
			for _, err := range []error{
				c.Set(ctx, "k", 1), c.SetMany(ctx, map[string]int{"a": 1, "b": 2}), c.InvalidateTags(ctx, "t"), c.Delete(ctx, "k"), c.Clear(ctx),
			} {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if n, err := c.InvalidatePattern(ctx, "*"); n != 0 || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "Unwrap") {
				t.Errorf("%s: InvalidatePattern: %d, %v", name, n, err)
			}
			if err := c.Sync(ctx); err != nil {
				t.Errorf("%s: Sync: %v", name, err)
			}
		}
		client, err := invalidate.NewClient(rdb, "n", invalidate.Prefix(b.Prefix))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := client.InvalidatePattern(t.Context(), "*"); !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
		if err := client.Invalidate(t.Context(), "k"); err != nil {
			t.Error(err)
		}
	})
}

// A decorator around what is no client is a mistake of New, not a panic or an endless
// search.
func TestADecoratorAroundNothing(t *testing.T) {
	var itself around
	itself.inner = func() redis.UniversalClient { return &itself }
	var typedNil *redis.Client
	for name, rdb := range map[string]redis.UniversalClient{
		"nil":              &around{inner: func() redis.UniversalClient { return nil }},
		"a typed nil":      &around{inner: func() redis.UniversalClient { return typedNil }},
		"itself":           &itself,
		"it panics":        &around{inner: func() redis.UniversalClient { panic("not wired") }},
		"embeds a nil":     struct{ *redis.Client }{},
		"embeds nothing":   struct{ redis.UniversalClient }{},
		"a nil of cluster": struct{ *redis.ClusterClient }{},
	} {
		if _, err := cache.New[string, int](rdb, "n"); !errors.Is(err, cache.ErrInvalidOption) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := invalidate.NewClient(rdb, "n"); !errors.Is(err, cache.ErrInvalidOption) {
			t.Errorf("%s: invalidate.NewClient: %v", name, err)
		}
	}
}

// A decorator can't hide a client that may read what is older than the last write.
func TestADecoratedClientThatReadsFromReplicasIsRefused(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ReadOnly: true})
	defer rdb.Close()
	if _, err := cache.New[string, int](open{counted{rdb, nil}}, "n", cache.WithTimeout(time.Second)); !errors.Is(err, cache.ErrInvalidOption) {
		t.Error(err)
	}
}
