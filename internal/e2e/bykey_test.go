package e2e_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// With TrackingKeys, too, an invalidation reaches a value that Redis does not have: its removal is no
// change that the server would report.
func TestWhatRedisDoesNotHaveIsInvalidated(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	var source atomic.Value
	source.Store("old")
	open := func() *cache.Cache[string, string] {
		c, err := cache.NewFrom(server.Client(t), "n", cache.Source[string, string]{
			Load: func(context.Context, string) (string, error) { return source.Load().(string), nil },
		}, cache.WithTransport(invalidate.TrackingKeys()), cache.WithTimeout(10*time.Second), cache.WithStrategy(strategy.LRU(100), strategy.LocalTTL(time.Hour), strategy.TTL(time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	a, b := open(), open()
	awaits(t, "the value to be kept", func() error {
		var info cache.Info
		if v, err := b.Get(ctx, "k", cache.SkipRemote(), cache.Report(&info)); v != "old" || err != nil {
			t.Fatal(v, err)
		}
		if info.Tier != metrics.Local {
			return errors.New("it is not")
		}
		return nil
	})
	source.Store("new")
	if err := a.Invalidate(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	awaits(t, "the new value", func() error {
		if v, err := b.Get(ctx, "k", cache.SkipRemote()); v != "new" || err != nil {
			return errors.New(v)
		}
		return nil
	})
}
