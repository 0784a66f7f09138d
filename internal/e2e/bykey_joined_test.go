package e2e_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// A reader that comes after another process's invalidation joins no load from before it, also if the
// load's lease was asked for without a read of the key (a miss that was predicted): the fence of the
// key must move.
func TestNoReaderJoinsALoadFromBeforeAnInvalidation(t *testing.T) {
	t.Parallel()
	for name, transport := range map[string]invalidate.Transport{
		"broadcast": invalidate.Broadcast(), "tracking": invalidate.Tracking(), "by key": invalidate.TrackingKeys(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			ctx := t.Context()
			var loads atomic.Int64
			began, hold := make(chan struct{}), make(chan struct{})
			defer close(hold)
			open := func() *cache.Cache[string, string] {
				c, err := cache.NewFrom(server.Client(t), "n", cache.Source[string, string]{
					Load: func(ctx context.Context, k string) (string, error) {
						if k != "k" {
							return k, nil
						}
						if loads.Add(1) > 1 {
							return "new", nil
						}
						close(began)
						select {
						case <-hold:
						case <-ctx.Done():
						}
						return "old", nil
					},
				}, cache.WithTransport(transport), cache.WithTimeout(10*time.Second), cache.WithStrategy(strategy.LRU(100), strategy.LocalTTL(time.Hour), strategy.TTL(time.Hour)))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				return c
			}
			a, b := open(), open()
			for i := range 20 { // so that the next miss is predicted
				if _, err := a.Get(ctx, fmt.Sprint("other", i)); err != nil {
					t.Fatal(err)
				}
			}
			go a.Get(ctx, "k")
			<-began
			if err := b.Invalidate(ctx, "k"); err != nil {
				t.Fatal(err)
			}
			for n := 0; ; n++ {
				ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
				v, err := a.Get(ctx, "k")
				cancel()
				if v == "new" && err == nil {
					break
				}
				if n == 5 {
					t.Fatalf("%q, %v: it joins the load from before the invalidation", v, err)
				}
			}
		})
	}
}
