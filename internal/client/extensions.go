package client

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// Optional methods of a store beyond [store.Store].

// Each is an interface of its own: a store may have some of them, and go without the others.
type (
	// deadliner: the store ends an operation at the deadline of its context by itself.
	deadliner interface{ HonorsDeadline() bool }
	// pooled: how many connections to a node there are at most.
	pooled interface{ PoolSize() int }
	// publisher: a key on the node that Publish goes through.
	publisher interface{ PublisherKey(channel string) string }
	// single: there is one node.
	single interface{ Single() bool }
	// placed: the node that a key's commands go to.
	placed interface{ Endpoint(key string) string }

	// turned: what no caller waits for takes turns at the node of a key.
	turned interface {
		Turn(ctx context.Context, key string) (end func())
	}

	// clocked: by how much the estimate of a node's clock may be wrong, in µs.
	clocked interface{ ClockError(key string) int64 }

	// described: how an operation is sent, and where to.
	described interface {
		Wire(op string, cmds []store.Command) store.Wire
		Address() (address string, port int)
		Database() int
	}

	kinded     interface{ Unknown() error }
	demoted    interface{ Demotions() uint64 }
	misfitting interface{ Misfit(error) store.Misfit }
	detouring  interface{ OnDetour(func(store.Misfit)) }
	renewing   interface{ Renew(context.Context) error }
	oneNode    interface{ OneNode() bool }
	connected  interface{ Connections() uint32 }
	// clustered: keys have slots, by which they are spread over the nodes.
	clustered interface{ Clustered() bool }
)

// Unknown is [redisstore.Redis.Unknown] of the Client's store, nil for other stores.
func (g *Client) Unknown() error {
	if s, ok := g.store.(kinded); ok {
		return s.Unknown()
	}
	return nil
}

// Wire says how an operation is sent, as far as the store can tell.
func (g *Client) Wire(o Observation) store.Wire {
	if s, ok := g.store.(described); ok {
		return s.Wire(o.Op, o.Commands)
	}
	return store.Wire{}
}

// Server returns the address of the servers in the configuration of the store's client, and its
// database; see [redisstore.Redis.Address]. ok is false if the store has none.
func (g *Client) Server() (address string, port, database int, ok bool) {
	s, ok := g.store.(described)
	if !ok {
		return "", 0, 0, false
	}
	address, port = s.Address()
	return address, port, s.Database(), true
}

// Demotions counts how often a server was found to be no longer a master, as far as the store
// can tell.
func (g *Client) Demotions() uint64 {
	if s, ok := g.store.(demoted); ok {
		return s.Demotions()
	}
	return 0
}

// ServerID returns the identity of the servers; see Store. It is not reported to Observe, and
// the breaker ignores it: its failure says nothing about other operations, which need other
// permissions.
func (g *Client) ServerID(ctx context.Context) (string, error) {
	if err := g.begin(ctx); err != nil {
		return "", err
	}
	return run(g, ctx, nil, g.timeout, g.store.ServerID)
}

// Misfit is [redisstore.Redis.Misfit] of the Client's store.
func (g *Client) Misfit(err error) store.Misfit {
	if s, ok := g.store.(misfitting); ok && err != nil {
		return s.Misfit(err)
	}
	return store.Fits
}

// Detours sets f to be called for each misfit that the store works around, once. It is to be
// called before first use.
func (g *Client) Detours(f func(store.Misfit)) {
	if s, ok := g.store.(detouring); ok {
		s.OnDetour(f)
	}
}

// Renew makes the store drop connections to servers that are no longer masters; see
// [redisstore.Redis.Renew]. It returns within [store.RenewTime], whether the store does or not.
func (g *Client) Renew(ctx context.Context) error {
	s, ok := g.store.(renewing)
	if !ok {
		return nil
	}
	if err := g.begin(ctx); err != nil {
		return err
	}
	start := time.Now()
	soon, cancel := context.WithTimeout(ctx, store.RenewTime)
	defer cancel()
	_, err := run(g, soon, nil, g.timeout, func(ctx context.Context) (struct{}, error) { return struct{}{}, s.Renew(ctx) })
	if err != nil {
		err = g.explain(ctx, start, err)
	}
	if g.Observe != nil {
		g.Observe(ctx, Observation{Op: "renew", Duration: time.Since(start), Err: err})
	}
	return err
}

// OneNode reports whether there is only one node, so that commands may share a message; see
// [store.Command].With.
func (g *Client) OneNode() bool {
	s, ok := g.store.(oneNode)
	return ok && s.OneNode()
}

// Clustered reports whether keys are spread over the nodes by their slots; see
// [store.Names.Parted].
func (g *Client) Clustered() bool {
	s, ok := g.store.(clustered)
	return ok && s.Clustered()
}

// Endpoint names the node that a key's commands go to. ok is false if the store does not tell.
func (g *Client) Endpoint(key string) (endpoint string, ok bool) {
	s, ok := g.store.(placed)
	if !ok {
		return "", false
	}
	return s.Endpoint(key), true
}

// Turn waits for a turn at the node of a key, for operations that no caller waits for; end ends it.
// See [redisstore.Redis.Turn].
func (g *Client) Turn(ctx context.Context, key string) (end func()) {
	if s, ok := g.store.(turned); ok {
		return s.Turn(ctx, key)
	}
	return func() {}
}

// Connections counts the connections that were made, including those for operations that have
// ended; see [redisstore.Redis.Connections]. It is 0 for a store without that method. Callers
// whose operations ended together cost one read of the client's statistics.
func (g *Client) Connections() uint32 {
	c, ok := g.store.(connected)
	if !ok {
		return 0
	}
	ended := g.ended.Load() // first: the operations that have ended by now are included
	if last := g.counted.Load(); uint32(last>>32) == ended {
		return uint32(last)
	}
	n := c.Connections()
	g.counted.Store(uint64(ended)<<32 | uint64(n))
	return n
}

// Status is the first word of a server's error reply, such as "OOM" or "WRONGTYPE"; "" if err is
// none, or begins with something else.
func Status(err error) string {
	var reply redis.Error
	if !errors.As(err, &reply) || reply == redis.Nil {
		return ""
	}
	word, _, _ := strings.Cut(reply.Error(), " ")
	if len(word) > maxStatus || strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
		return ""
	}
	return word
}

// maxStatus is more than the longest status of Redis has: scripts and proxies answer as they
// like, and a status is a label.
const maxStatus = 24

// Refused reports whether err says that a command that changes something was not carried out:
// the server has refused it, or it was not sent.
func Refused(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) || errors.Is(err, ErrOpen) || errors.Is(err, ErrNoPlace) || errors.Is(err, ErrClosed)
}
