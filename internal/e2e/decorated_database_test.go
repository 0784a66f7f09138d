package e2e_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

type unexported = redis.UniversalClient

// hidden is a decorator that shows nothing of what it decorates.
type hidden struct{ unexported }

// What is written through a decorator that hides its kind is heard by the processes that
// use the same database: the channel has the database's number.
func TestADecoratedClientNotifiesThoseOfItsDatabase(t *testing.T) {
	server := redistest.Start(t)
	o := *server.Client(t).Options()
	o.DB = 3
	rdb := redis.NewClient(&o)
	t.Cleanup(func() { rdb.Close() })
	ctx := t.Context()
	opaque := counted{rdb, new(atomic.Int64)}
	writer, err := cache.New[string, int](opaque, "n", slowly, discard)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	client, err := invalidate.NewClient(opaque, "n")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	reader, err := cache.New[string, int](rdb, "n", slowly, discard, cache.WithStrategy(strategy.LRU(10)))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := writer.Set(ctx, "k", 1); err != nil {
		t.Fatal(err)
	}
	local := func() bool {
		before := reader.Metrics().LocalHits
		if v, err := reader.Get(ctx, "k"); v != 1 || err != nil {
			t.Fatal(v, err)
		}
		return reader.Metrics().LocalHits > before
	}
	eventually(t, "a local hit", local)
	if err := writer.Set(ctx, "k", 2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new value", func() bool {
		v, err := reader.Get(ctx, "k")
		if err != nil {
			t.Fatal(err)
		}
		return v == 2
	})
	if err := client.Invalidate(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the miss", func() bool {
		_, err := reader.Get(ctx, "k")
		return errors.Is(err, cache.ErrMiss)
	})

	if _, err := cache.New[string, int](hidden{rdb}, "n"); !errors.Is(err, cache.ErrInvalidOption) || !strings.Contains(err.Error(), "Unwrap() redis.UniversalClient") {
		t.Errorf("New, of a client that hides its database: %v", err)
	}
	if _, err := invalidate.NewClient(hidden{rdb}, "n"); !errors.Is(err, cache.ErrInvalidOption) || !strings.Contains(err.Error(), "Unwrap() redis.UniversalClient") {
		t.Errorf("NewClient, of a client that hides its database: %v", err)
	}
}
