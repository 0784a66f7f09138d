package cache

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/delqhi/cache/internal/remote"
	"github.com/delqhi/cache/strategy"
)

// onStore is onMemory for any store.
func onStore[K comparable, V any](t *testing.T, store remote.Store, src Source[K, V], opts ...Option) *Cache[K, V] {
	t.Helper()
	opts = append([]Option{WithLogger(slog.New(slog.DiscardHandler)), WithStrategy(strategy.LRU(100), strategy.Jitter(0))}, opts...)
	c, err := build("test", src, opts, func(*config) remote.Store { return store })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// deaf is one process's way to a store, which may be cut for it alone. What listens
// goes on.
type deaf struct {
	remote.Store

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

func (d *deaf) Do(ctx context.Context, cmds []remote.Command) []remote.Reply {
	d.mu.Lock()
	err, lose := d.err, d.lose
	d.mu.Unlock()
	replies := make([]remote.Reply, len(cmds))
	if err == nil {
		replies = d.Store.Do(ctx, cmds)
		if lose {
			err = errDown
		}
	}
	if err != nil {
		for i := range replies {
			replies[i] = remote.Reply{Err: err}
		}
	}
	return replies
}

func (d *deaf) Publish(ctx context.Context, t remote.Tell) error {
	d.mu.Lock()
	err := d.err
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.Store.Publish(ctx, t)
}

func (d *deaf) Mark(ctx context.Context, names remote.Names, known remote.Known, m remote.NewMark) (remote.Marks, error) {
	d.mu.Lock()
	err := d.err
	d.mu.Unlock()
	if err != nil {
		return remote.Marks{}, err
	}
	return d.Store.Mark(ctx, names, known, m)
}

var quietLog = WithLogger(slog.New(slog.DiscardHandler))
