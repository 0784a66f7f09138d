package client

import (
	"context"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// Append queues writes; see [store.Queue]. Neither a.Writes nor its contents may be modified
// afterwards if there was an error.
func (g *Client) Append(ctx context.Context, q store.QueueNames, a store.Append) ([]string, error) {
	return ask(g, ctx, "append", q.Log, len(a.Writes), func(ctx context.Context) ([]string, error) { return g.store.Append(ctx, q, a) })
}

// Newest returns the newest pending writes; see [store.Queue].
func (g *Client) Newest(ctx context.Context, asks []store.Ask) ([][]store.Entry, error) {
	keys := 0
	for i := range asks {
		keys += len(asks[i].Keys)
	}
	return ask(g, ctx, "newest", "", keys, func(ctx context.Context) ([][]store.Entry, error) { return g.store.Newest(ctx, asks) })
}

// Acquire acquires or renews the lease of a partition; see [store.Queue].
func (g *Client) Acquire(ctx context.Context, q store.QueueNames, owner string, lease time.Duration, renew bool) (bool, error) {
	return ask(g, ctx, "hold", q.Log, 0, func(ctx context.Context) (bool, error) { return g.store.Acquire(ctx, q, owner, lease, renew) })
}

// Leave releases the lease of a partition; see [store.Queue].
func (g *Client) Leave(ctx context.Context, q store.QueueNames, owner string) error {
	_, err := ask(g, ctx, "leave", q.Log, 0, func(ctx context.Context) (struct{}, error) { return struct{}{}, g.store.Leave(ctx, q, owner) })
	return err
}

// Fetch reads the writes to apply; see [store.Queue].
func (g *Client) Fetch(ctx context.Context, q store.QueueNames, f store.Fetch) (store.Fetched, error) {
	return ask(g, ctx, "fetch", q.Log, 0, func(ctx context.Context) (store.Fetched, error) { return g.store.Fetch(ctx, q, f) })
}

// Settle records outcomes; see [store.Queue].
func (g *Client) Settle(ctx context.Context, q store.QueueNames, r store.Settle) ([]store.Settled, error) {
	return ask(g, ctx, "settle", q.Log, len(r.Outcomes), func(ctx context.Context) ([]store.Settled, error) { return g.store.Settle(ctx, q, r) })
}

// Depths returns the sizes of partitions; see [store.Queue].
func (g *Client) Depths(ctx context.Context, qs []store.QueueNames) ([]store.Depth, error) {
	return ask(g, ctx, "depths", "", 0, func(ctx context.Context) ([]store.Depth, error) { return g.store.Depths(ctx, qs) })
}

// Letters lists dead letters; see [store.Queue].
func (g *Client) Letters(ctx context.Context, q store.QueueNames, after string, n int) ([]store.Letter, error) {
	return ask(g, ctx, "letters", q.Log, 0, func(ctx context.Context) ([]store.Letter, error) { return g.store.Letters(ctx, q, after, n) })
}

// Revive replays or discards dead letters; see [store.Queue].
func (g *Client) Revive(ctx context.Context, q store.QueueNames, r store.Revive) ([]store.Revived, error) {
	return ask(g, ctx, "revive", q.Log, len(r.IDs), func(ctx context.Context) ([]store.Revived, error) { return g.store.Revive(ctx, q, r) })
}

// Join adds, renews or removes a member; see [store.Queue].
func (g *Client) Join(ctx context.Context, members, member string, d time.Duration) (int, error) {
	return ask(g, ctx, "attend", members, 0, func(ctx context.Context) (int, error) { return g.store.Join(ctx, members, member, d) })
}
