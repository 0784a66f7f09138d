package main

import (
	"context"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// roundTrips is a hook that counts how often a client waits for the server to answer: once per
// command, and once per pipeline, however long it is. Commands besides reading and writing
// entries (to greet the server, to read its time, to receive notifications) are not counted,
// nor is what the caches do in the background: see [counted].
type roundTrips struct {
	n atomic.Int64
}

type countedKey struct{}

// counted returns the context of calls whose round trips are counted.
func counted(ctx context.Context) context.Context {
	return context.WithValue(ctx, countedKey{}, true)
}

var _ redis.Hook = (*roundTrips)(nil)

// DialHook implements [redis.Hook].
func (r *roundTrips) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements [redis.Hook].
func (r *roundTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.count(ctx, cmd)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (r *roundTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		r.count(ctx, cmds...)
		return next(ctx, cmds)
	}
}

// count counts one round trip if one of its commands concerns an entry.
func (r *roundTrips) count(ctx context.Context, cmds ...redis.Cmder) {
	if ctx.Value(countedKey{}) == nil {
		return
	}
	for _, cmd := range cmds {
		switch cmd.Name() {
		case "hello", "auth", "select", "client", "ping", "time", "info", "command", "cluster",
			"script", "publish", "subscribe", "psubscribe", "unsubscribe":
		default:
			r.n.Add(1)
			return
		}
	}
}
