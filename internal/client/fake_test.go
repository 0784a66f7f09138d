package client

import (
	"context"
	"fmt"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"sync/atomic"
)

// fake is a store that does what act does, and then what Memory would. Where it is
// prompt, it claims to end an operation at its deadline.
type fake struct {
	*storetest.Memory
	prompt bool
	act    func(ctx context.Context) error
	done   atomic.Int32
	closed atomic.Int32
}

func (f *fake) HonorsDeadline() bool { return f.prompt }

func (f *fake) Close() { f.closed.Add(1) }

func (f *fake) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	defer f.done.Add(1)
	if err := f.act(ctx); err != nil {
		replies := make([]store.Reply, len(cmds))
		for i := range replies {
			replies[i].Err = err
		}
		return replies
	}
	return f.Memory.Do(context.Background(), cmds)
}

func (f *fake) Now(ctx context.Context, key string) (int64, error) {
	defer f.done.Add(1)
	if err := f.act(ctx); err != nil {
		return 0, err
	}
	return f.Memory.Now(context.Background(), key)
}

// late does what a method of a fake does.
func late[T any](f *fake, ctx context.Context, what func(context.Context) (T, error)) (T, error) {
	defer f.done.Add(1)
	if err := f.act(ctx); err != nil {
		var zero T
		return zero, err
	}
	return what(context.Background())
}

func (f *fake) Masters(ctx context.Context) ([]string, error) { return late(f, ctx, f.Memory.Masters) }

func (f *fake) Scan(ctx context.Context, master, pattern string, cursor uint64) (keys []string, next uint64, err error) {
	keys, err = late(f, ctx, func(ctx context.Context) (keys []string, err error) {
		keys, next, err = f.Memory.Scan(ctx, master, pattern, cursor)
		return keys, err
	})
	return keys, next, err
}

func (f *fake) ReadClock(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (logicalclock.Reading, error) {
	return late(f, ctx, func(ctx context.Context) (logicalclock.Reading, error) {
		return f.Memory.ReadClock(ctx, names, known, tags)
	})
}

func (f *fake) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, n logicalclock.NewTombstone) (logicalclock.Reading, error) {
	return late(f, ctx, func(ctx context.Context) (logicalclock.Reading, error) {
		return f.Memory.AddTombstones(ctx, names, known, n)
	})
}

func (f *fake) Publish(ctx context.Context, tell store.Notify) error {
	_, err := late(f, ctx, func(ctx context.Context) (int, error) { return 0, f.Memory.Publish(ctx, tell) })
	return err
}

// operations are all that a Client does.
var operations = map[string]func(*Client, context.Context) error{
	"do": func(g *Client, ctx context.Context) error {
		replies := g.Do(ctx, []store.Command{{Op: store.Get, Key: "k"}, {Op: store.Set, Key: "k"}})
		if len(replies) != 2 || (replies[0].Err == nil) != (replies[1].Err == nil) {
			return fmt.Errorf("replies: %+v", replies)
		}
		return replies[0].Err
	},
	"get": func(g *Client, ctx context.Context) error { _, err := g.Get(ctx, "k"); return err },
	"now": func(g *Client, ctx context.Context) error { _, err := g.Now(ctx, "k"); return err },

	"masters": func(g *Client, ctx context.Context) error { _, err := g.Masters(ctx); return err },
	"scan":    func(g *Client, ctx context.Context) error { _, _, err := g.Scan(ctx, "", "*", 0); return err },
	"read_clock": func(g *Client, ctx context.Context) error {
		_, err := g.ReadClock(ctx, store.NewNames("p", "n"), logicalclock.Known{}, []string{"a"})
		return err
	},
	"add_tombstones": func(g *Client, ctx context.Context) error {
		_, err := g.AddTombstones(ctx, store.NewNames("p", "n"), logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"a"}})
		return err
	},
	"publish": func(g *Client, ctx context.Context) error { return g.Publish(ctx, store.Notify{Channel: "c"}) },
}
