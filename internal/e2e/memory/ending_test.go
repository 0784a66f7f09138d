package memory_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// Nothing begins behind a reader's back once Close has waited for what was under way:
// neither a refresh nor a prolongation, however many readers there are.
func TestNothingBeginsOnceClosed(t *testing.T) {
	redistest.Thorough(t)
	for _, kind := range []string{"local only", "two tiers"} {
		for range redistest.Times(10, 40) {
			var closed, late atomic.Bool
			src := cache.SourceFunc(func(context.Context, int) (int, error) {
				if closed.Load() {
					late.Store(true)
				}
				return 1, nil
			})
			c := ofKind(t, kind, storetest.NewMemory(), src,
				cache.WithStrategy(strategy.LRU(100), strategy.TTL(time.Hour), strategy.Jitter(0), strategy.RefreshAhead(1e-12), strategy.Sliding(time.Second)))
			const keys = 64
			for k := range keys {
				c.Get(t.Context(), k)
			}
			var readers sync.WaitGroup
			stop, reading := make(chan struct{}), make(chan struct{}, 4)
			for g := range 4 {
				readers.Go(func() {
					reading <- struct{}{}
					for k := g; ; k++ {
						select {
						case <-stop:
							return
						default:
							c.Get(context.Background(), k%keys)
						}
					}
				})
			}
			for range 4 {
				<-reading
			}
			c.Close() // panicked: WaitGroup is reused before previous Wait has returned
			closed.Store(true)
			running := hook.Of(c).Refreshes()
			close(stop)
			readers.Wait()
			if running > 0 || late.Load() {
				t.Fatalf("%s: %d refreshes are under way after Close; a loader was called: %v", kind, running, late.Load())
			}
		}
	}
}

func TestSyncWaitsForRefreshes(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.TTL(time.Minute), strategy.StaleWhileRevalidate(time.Hour)}, func(t *testing.T, c *cache.Cache[string, string], _ func() *cache.Cache[string, string]) {
		src.give("v")
		read(t, c, "v", false, nil)
		src.will(func(context.Context) (string, error) { time.Sleep(time.Second); return "new", nil })
		time.Sleep(2 * time.Minute)
		read(t, c, "v", true, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if err := c.Sync(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the refresh takes a second, and Sync half a second: %v", err)
		}
		if err := c.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		read(t, c, "new", false, nil)
		// One that Close ends.
		src.will(func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() })
		time.Sleep(2 * time.Minute)
		read(t, c, "new", true, nil)
		got := make(chan error)
		go func() { got <- c.Sync(context.Background()) }()
		synctest.Wait()
		go c.Close()
		if err := <-got; !errors.Is(err, cache.ErrClosed) {
			t.Errorf("Sync of a cache that is closed meanwhile: %v", err)
		}
	})
}
