package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// severed is a hook of one process's client, whose commands fail while it is cut off.
type severed struct{ atomic.Bool }

var errSevered = errors.New("cut off")

func (s *severed) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *severed) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if s.Load() {
			cmd.SetErr(errSevered)
			return errSevered
		}
		return next(ctx, cmd)
	}
}

func (s *severed) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if s.Load() {
			for _, cmd := range cmds {
				cmd.SetErr(errSevered)
			}
			return errSevered
		}
		return next(ctx, cmds)
	}
}

// On servers, too, of which a cluster's have a clock each.
func TestWhatIsSentLaterToAServerLeavesLaterWritesAlone(t *testing.T) {
	t.Parallel()
	for way, change := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"InvalidateTags": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
		"Clear":          func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
		"InvalidatePattern": func(ctx context.Context, c *cache.Cache[string, string]) error {
			_, err := c.InvalidatePattern(ctx, "*")
			return err
		},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, b *redistest.Backend) { laterWritesStay(t, b, way, change) })
		})
	}
}

func laterWritesStay(t *testing.T, b *redistest.Backend, name string, change func(context.Context, *cache.Cache[string, string]) error) {
	ctx := t.Context()
	process := func(rdb redis.UniversalClient, opts ...cache.Option) *cache.Cache[string, string] {
		c, err := cache.New[string, string](rdb, name, append([]cache.Option{cache.WithPrefix(b.Prefix), slowly}, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	rdb, off := b.NewClient(t), &severed{}
	rdb.AddHook(off)
	one := process(rdb)
	others := []*cache.Cache[string, string]{process(b.NewClient(t)), process(b.NewClient(t), cache.WithStrategy(strategy.LRU(100)))}
	keys := []string{"a", "b", "c", "d", "e", "f", "g", "h"} // of all nodes
	old, written := map[string]string{}, map[string]string{}
	for _, k := range keys {
		old["old "+k], written["new "+k] = "old", "new"
	}
	var slowest time.Duration
	measured := func(f func() error) {
		began := time.Now()
		if err := f(); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
	}
	measured(func() error { return others[0].SetMany(ctx, old, cache.Tags("t")) })
	for _, c := range append(others, one) { // knows the clocks
		measured(func() error {
			vals, err := c.GetMany(ctx, names(old))
			if err == nil && len(vals) != len(old) {
				err = fmt.Errorf("%d of %d are there", len(vals), len(old))
			}
			return err
		})
	}
	off.Store(true)
	if err := change(ctx, one); !errors.Is(err, cache.ErrUnavailable) {
		t.Fatal(err)
	}
	// How well a clock is known depends on how long it took to ask for it: what is written counts
	// as earlier by that at most, and the invalidation as later.
	time.Sleep(300*time.Millisecond + 2*slowest)
	if err := others[0].SetMany(ctx, written, cache.Tags("t")); err != nil {
		t.Fatal(err)
	}
	off.Store(false)
	if err := one.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	others = append(others, one, process(b.NewClient(t)))
	for i, c := range others {
		awaits(t, "what was there before to be gone, and what came later to be there", func() error {
			if vals, err := c.GetMany(ctx, names(old)); len(vals) > 0 || err != nil {
				return errors.Join(errors.New("what was there before is read"), err)
			}
			vals, err := c.GetMany(ctx, names(written))
			if len(vals) != len(written) || err != nil {
				// On a cluster a reader that knows the clocks badly takes some for older, until it
				// has asked again.
				return fmt.Errorf("process %d: %d of %d are left: %v", i, len(vals), len(written), err)
			}
			return nil
		})
	}
}
