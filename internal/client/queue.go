package client

import (
	"context"
	"errors"
	"github.com/delqhi/cache/internal/store"
	"time"
)

// errNoQueue is returned for a store that is not a Queue, such as one of a test.
var errNoQueue = errors.New("client: this store has no queues")

// onQueue is [ask] for the methods of [store.Queue].
func onQueue[T any](g *Client, ctx context.Context, op, key string, keys int, f func(context.Context, store.Queue) (T, error)) (T, error) {
	return ask(g, ctx, op, key, keys, func(ctx context.Context) (T, error) {
		q, ok := g.store.(store.Queue)
		if !ok {
			var zero T
			return zero, errNoQueue
		}
		return f(ctx, q)
	})
}

type nothing struct{}

// Append queues writes; see [store.Queue]. Neither a.Writes nor its contents may be modified
// afterwards if there was an error.
func (g *Client) Append(ctx context.Context, q store.QueueNames, a store.Append) ([]string, error) {
	return onQueue(g, ctx, "append", q.Log, len(a.Writes), func(ctx context.Context, s store.Queue) ([]string, error) { return s.Append(ctx, q, a) })
}

// Newest returns the newest pending writes; see [store.Queue].
func (g *Client) Newest(ctx context.Context, asks []store.Ask) ([][]store.Entry, error) {
	keys := 0
	for i := range asks {
		keys += len(asks[i].Keys)
	}
	return onQueue(g, ctx, "newest", "", keys, func(ctx context.Context, s store.Queue) ([][]store.Entry, error) { return s.Newest(ctx, asks) })
}

// Acquire acquires or renews the lease of a partition; see [store.Queue].
func (g *Client) Acquire(ctx context.Context, q store.QueueNames, owner string, lease time.Duration, renew bool) (bool, error) {
	return onQueue(g, ctx, "hold", q.Log, 0, func(ctx context.Context, s store.Queue) (bool, error) { return s.Acquire(ctx, q, owner, lease, renew) })
}

// Leave releases the lease of a partition; see [store.Queue].
func (g *Client) Leave(ctx context.Context, q store.QueueNames, owner string) error {
	_, err := onQueue(g, ctx, "leave", q.Log, 0, func(ctx context.Context, s store.Queue) (nothing, error) { return nothing{}, s.Leave(ctx, q, owner) })
	return err
}

// Fetch reads the writes to apply; see [store.Queue].
func (g *Client) Fetch(ctx context.Context, q store.QueueNames, f store.Fetch) (store.Fetched, error) {
	return onQueue(g, ctx, "fetch", q.Log, 0, func(ctx context.Context, s store.Queue) (store.Fetched, error) { return s.Fetch(ctx, q, f) })
}

// Settle records outcomes; see [store.Queue].
func (g *Client) Settle(ctx context.Context, q store.QueueNames, r store.Settle) ([]store.Settled, error) {
	return onQueue(g, ctx, "settle", q.Log, len(r.Outcomes), func(ctx context.Context, s store.Queue) ([]store.Settled, error) { return s.Settle(ctx, q, r) })
}

// Depths returns the sizes of partitions; see [store.Queue].
func (g *Client) Depths(ctx context.Context, qs []store.QueueNames) ([]store.Depth, error) {
	return onQueue(g, ctx, "depths", "", 0, func(ctx context.Context, s store.Queue) ([]store.Depth, error) { return s.Depths(ctx, qs) })
}

// Letters lists dead letters; see [store.Queue].
func (g *Client) Letters(ctx context.Context, q store.QueueNames, after string, n int) ([]store.Letter, error) {
	return onQueue(g, ctx, "letters", q.Log, 0, func(ctx context.Context, s store.Queue) ([]store.Letter, error) { return s.Letters(ctx, q, after, n) })
}

// Revive replays or discards dead letters; see [store.Queue].
func (g *Client) Revive(ctx context.Context, q store.QueueNames, r store.Revive) ([]store.Revived, error) {
	return onQueue(g, ctx, "revive", q.Log, len(r.IDs), func(ctx context.Context, s store.Queue) ([]store.Revived, error) { return s.Revive(ctx, q, r) })
}

// Join adds, renews or removes a member; see [store.Queue].
func (g *Client) Join(ctx context.Context, members, member string, d time.Duration) (int, error) {
	return onQueue(g, ctx, "attend", members, 0, func(ctx context.Context, s store.Queue) (int, error) { return s.Join(ctx, members, member, d) })
}
