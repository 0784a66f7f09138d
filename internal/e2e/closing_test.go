package e2e_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/strategy"
)

// Close ends the operations under way: an operation that has no result then returns
// ErrClosed, and neither the end of a context that its caller does not know nor the words
// for a Redis that can't be reached.
func TestCloseEndsAnOperationWithErrClosed(t *testing.T) {
	redistest.Thorough(t)
	t.Parallel()
	kinds := map[string][]cache.Option{
		"redis only":    nil,
		"two tiers":     {withLocal},
		"write-through": {withLocal, cache.WithStrategy(strategy.WriteThrough())},
		"write-behind":  {cache.WithStrategy(strategy.WriteBehind())},
		"local values":  {withLocal, cache.LocalValues(), cache.WithStrategy(strategy.WriteThrough())},
	}
	sideBySide(t, names(kinds), func(t *testing.T, kind string) {
		for _, name := range names(cacheCalls) {
			call := cacheCalls[name]
			if call == nil || slices.Contains(alwaysThere, name) {
				continue
			}
			switch name {
			case "Sync": // without the end that the table gives it
				call = func(ctx context.Context, c *faceCache, _ *rand.Rand) error { return c.Sync(ctx) }
			}
			for _, used := range []bool{false, true} {
				closeDuring(t, name, kinds[kind], used, call)
			}
		}
	})
}

// closeDuring closes a cache while a call waits for Redis. A cache that was used knows the
// logical clock by then.
func closeDuring(t *testing.T, name string, opts []cache.Option, used bool, call func(context.Context, *faceCache, *rand.Rand) error) {
	t.Helper()
	hold := &holdHook{entered: make(chan struct{}, 1), release: make(chan struct{})}
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), ContextTimeoutEnabled: true})
	defer rdb.Close()
	rdb.AddHook(hold)
	src := (&faceRun{t: t}).source()
	c, err := cache.NewFrom(rdb, "n", src, append([]cache.Option{discard, cache.WithTimeout(time.Hour)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	if used {
		if err := c.Set(t.Context(), "k0", "k0 1"); err != nil {
			t.Fatal(name, err)
		}
	}
	hold.set(true)
	back := make(chan error, 1)
	go func() { back <- call(t.Context(), c, rnd) }()
	select {
	case <-hold.entered:
	case err := <-back: // it asks Redis nothing
		back <- err
	}
	closed := make(chan struct{})
	go func() { c.Close(); close(closed) }()
	awaits(t, "Close to begin", func() error {
		if !c.Closed() {
			return errors.New("it has not")
		}
		return nil
	})
	close(hold.release)
	if err := <-back; err != nil && !errors.Is(err, cache.ErrMiss) && !errors.Is(err, cache.ErrNotFound) && !errors.Is(err, errors.ErrUnsupported) &&
		(!errors.Is(err, cache.ErrClosed) || errors.Is(err, context.Canceled) || errors.Is(err, cache.ErrUnavailable)) {
		t.Errorf("%s (used: %v): %v", name, used, err)
	}
	<-closed
}

// holdHook holds what goes to Redis.
type holdHook struct {
	mu      sync.Mutex
	on      bool
	entered chan struct{}
	release chan struct{}
}

func (h *holdHook) set(on bool) {
	h.mu.Lock()
	h.on = on
	h.mu.Unlock()
}

func (h *holdHook) wait() {
	h.mu.Lock()
	on := h.on
	h.mu.Unlock()
	if !on {
		return
	}
	select {
	case h.entered <- struct{}{}:
	default:
	}
	<-h.release
}

func (h *holdHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *holdHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.wait()
		return next(ctx, cmd)
	}
}

func (h *holdHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.wait()
		return next(ctx, cmds)
	}
}
