package memory_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/strategy"
)

// onStore is onMemory for any store.
func onStore[K comparable, V any](t *testing.T, st store.Store, src cache.Source[K, V], opts ...cache.Option) *cache.Cache[K, V] {
	t.Helper()
	opts = append([]cache.Option{cache.WithLogger(slog.New(slog.DiscardHandler)), cache.WithStrategy(strategy.LRU(100), strategy.Jitter(0))}, opts...)
	c, err := build("test", src, opts, func() store.Store { return st })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// disconnected is one process's way to a store, which may be cut for it alone. What listens
// goes on.
type deaf struct {
	store.Store

	mu   sync.Mutex
	err  error // of every operation that is begun
	lose bool  // replies are lost: the operation was carried out
}

func (d *deaf) set(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *deaf) loseReplies(lose bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lose = lose
}

func (d *deaf) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	d.mu.Lock()
	err, lose := d.err, d.lose
	d.mu.Unlock()
	replies := make([]store.Reply, len(cmds))
	if err == nil {
		replies = d.Store.Do(ctx, cmds)
		if lose {
			err = errDown
		}
	}
	if err != nil {
		for i := range replies {
			replies[i] = store.Reply{Err: err}
		}
	}
	return replies
}

func (d *deaf) Publish(ctx context.Context, t store.Notify) error {
	d.mu.Lock()
	err := d.err
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.Store.Publish(ctx, t)
}

func (d *deaf) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, m logicalclock.NewTombstone) (logicalclock.Reading, error) {
	d.mu.Lock()
	err := d.err
	d.mu.Unlock()
	if err != nil {
		return logicalclock.Reading{}, err
	}
	return d.Store.AddTombstones(ctx, names, known, m)
}

var quietLog = cache.WithLogger(slog.New(slog.DiscardHandler))
