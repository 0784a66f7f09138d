package remote

import (
	"context"
	"errors"
	"time"
)

// errNoQueue is for a store that is not a Queue: one of a test.
var errNoQueue = errors.New("remote: this store has no queues")

// onQueue is [ask] for the methods of [Queue].
func onQueue[T any](g *Guard, ctx context.Context, op, key string, keys int, f func(context.Context, Queue) (T, error)) (T, error) {
	return ask(g, ctx, op, key, keys, func(ctx context.Context) (T, error) {
		q, ok := g.store.(Queue)
		if !ok {
			var zero T
			return zero, errNoQueue
		}
		return f(ctx, q)
	})
}

type nothing struct{}

// Append queues writes; see [Queue]. Neither a.Writes nor what is in it may be modified
// afterwards if there was an error.
func (g *Guard) Append(ctx context.Context, q QueueNames, a Append) ([]string, error) {
	return onQueue(g, ctx, "append", q.Log, len(a.Writes), func(ctx context.Context, s Queue) ([]string, error) { return s.Append(ctx, q, a) })
}

// Newest returns what is on its way; see [Queue].
func (g *Guard) Newest(ctx context.Context, asks []Ask) ([][]Entry, error) {
	keys := 0
	for i := range asks {
		keys += len(asks[i].Keys)
	}
	return onQueue(g, ctx, "newest", "", keys, func(ctx context.Context, s Queue) ([][]Entry, error) { return s.Newest(ctx, asks) })
}

// Hold takes or keeps a partition; see [Queue].
func (g *Guard) Hold(ctx context.Context, q QueueNames, owner string, lease time.Duration, renew bool) (bool, error) {
	return onQueue(g, ctx, "hold", q.Log, 0, func(ctx context.Context, s Queue) (bool, error) { return s.Hold(ctx, q, owner, lease, renew) })
}

// Leave gives a partition up; see [Queue].
func (g *Guard) Leave(ctx context.Context, q QueueNames, owner string) error {
	_, err := onQueue(g, ctx, "leave", q.Log, 0, func(ctx context.Context, s Queue) (nothing, error) { return nothing{}, s.Leave(ctx, q, owner) })
	return err
}

// Fetch reads what is to be applied; see [Queue].
func (g *Guard) Fetch(ctx context.Context, q QueueNames, f Fetch) (Fetched, error) {
	return onQueue(g, ctx, "fetch", q.Log, 0, func(ctx context.Context, s Queue) (Fetched, error) { return s.Fetch(ctx, q, f) })
}

// Settle records outcomes; see [Queue].
func (g *Guard) Settle(ctx context.Context, q QueueNames, r Settle) ([]Settled, error) {
	return onQueue(g, ctx, "settle", q.Log, len(r.Outcomes), func(ctx context.Context, s Queue) ([]Settled, error) { return s.Settle(ctx, q, r) })
}

// Depths says how much there is; see [Queue].
func (g *Guard) Depths(ctx context.Context, qs []QueueNames) ([]Depth, error) {
	return onQueue(g, ctx, "depths", "", 0, func(ctx context.Context, s Queue) ([]Depth, error) { return s.Depths(ctx, qs) })
}

// Letters lists dead letters; see [Queue].
func (g *Guard) Letters(ctx context.Context, q QueueNames, after string, n int) ([]Letter, error) {
	return onQueue(g, ctx, "letters", q.Log, 0, func(ctx context.Context, s Queue) ([]Letter, error) { return s.Letters(ctx, q, after, n) })
}

// Revive brings dead letters back; see [Queue].
func (g *Guard) Revive(ctx context.Context, q QueueNames, r Revive) ([]Revived, error) {
	return onQueue(g, ctx, "revive", q.Log, len(r.IDs), func(ctx context.Context, s Queue) ([]Revived, error) { return s.Revive(ctx, q, r) })
}

// Attend counts a member in or out; see [Queue].
func (g *Guard) Attend(ctx context.Context, members, member string, d time.Duration) (int, error) {
	return onQueue(g, ctx, "attend", members, 0, func(ctx context.Context, s Queue) (int, error) { return s.Attend(ctx, members, member, d) })
}
