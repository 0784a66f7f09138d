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

// What a process writes and loads itself stays in its local tier, although the server reports that the key
// has changed.
func TestOwnWritesCostNoOwnHits(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	sideBySide(t, []string{"tracking", "keys"}, func(t *testing.T, transport string) {
		s := redistest.Start(t)
		w := newWorld(t)
		c := w.node(s.Client(t), append([]cache.Option{slowly}, transports[transport]...)...)
		ctx := t.Context()
		n := 0
		// A tier that is not in use for a moment, because a heartbeat was late, says nothing.
		awaits(t, "writes that cost no hits", func() error {
			var keys []string
			for range 20 {
				n++
				key := fmt.Sprint("k", n)
				keys = append(keys, key)
				_, get := c.Get(ctx, key) // a load
				_, update := c.Update(ctx, key, func(v int64, _ bool) (int64, error) { return v + 1, nil })
				if err := errors.Join(get, update, c.Set(ctx, key, 5), c.SetMany(ctx, map[string]int64{key: 6, key + "b": 6}), c.Touch(ctx, key)); err != nil {
					t.Fatal(err)
				}
			}
			before := c.Metrics()
			for range 20 { // what is reported meanwhile included
				for _, key := range keys {
					if _, err := c.Get(ctx, key); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Millisecond)
			}
			after := c.Metrics()
			if local, all := after.LocalHits-before.LocalHits, uint64(20*len(keys)); local != all {
				return fmt.Errorf("%d of %d reads were local hits", local, all)
			}
			return nil
		})
	})
}

// With a table that is too small at the server, what it forgets is reported, and local values are no
// older than without.
func TestTrackingKeysWithASmallTable(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.Args("--tracking-table-max-keys", "5"))
	w := newWorld(t)
	opts := append([]cache.Option{slowly}, transports["keys"]...)
	a, b := w.node(s.Client(t), opts...), w.node(s.Client(t), opts...)
	ctx := t.Context()
	for round := range int64(5) {
		for i := range 100 {
			if err := a.Set(ctx, fmt.Sprint("k", i), round); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 100 {
			key := fmt.Sprint("k", i)
			awaits(t, "the write of another process", func() error {
				v, err := b.Get(ctx, key)
				if err == nil && v != round {
					err = fmt.Errorf("%s is %d, and not %d", key, v, round)
				}
				return err
			})
		}
	}
}
