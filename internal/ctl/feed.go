package ctl

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// feed receives what is published on the channels of a cache. On a cluster a node publishes what concerns
// its own slots to those that have subscribed there, by SSUBSCRIBE.
type feed struct {
	subs   []*redis.PubSub
	expect int // answers to the subscriptions
	got    chan received
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// received is what one of the connections has received.
type received struct {
	msg any
	err error
}

// follow subscribes to the channels of a cache, given by the names of the parts of its keys.
func (s *session) follow(ctx context.Context, parts []store.Names) *feed {
	ctx, stop := context.WithCancel(ctx)
	f := &feed{got: make(chan received), stop: stop}
	channels := make([]string, len(parts))
	for i, p := range parts {
		channels[i] = p.Channel
	}
	f.add(ctx, s.rdb.Subscribe(ctx, channels...), len(channels))
	if _, ok := s.rdb.(*redis.ClusterClient); ok {
		for _, c := range channels {
			f.add(ctx, s.rdb.SSubscribe(ctx, c), 1)
		}
	}
	return f
}

func (f *feed) add(ctx context.Context, sub *redis.PubSub, channels int) {
	f.subs = append(f.subs, sub)
	f.expect += channels
	f.wg.Go(func() {
		for {
			msg, err := sub.Receive(ctx)
			if isUnknown(err) {
				msg, err = &redis.Subscription{}, nil // a server before Redis 7.0 publishes nothing in this way
				f.pass(ctx, received{msg, err})
				return
			}
			if !f.pass(ctx, received{msg, err}) || err != nil {
				return
			}
		}
	})
}

func (f *feed) pass(ctx context.Context, r received) bool {
	select {
	case f.got <- r:
		return true
	case <-ctx.Done():
		return false
	}
}

// next returns what was received next, on whatever connection.
func (f *feed) next(ctx context.Context) (any, error) {
	select {
	case r := <-f.got:
		return r.msg, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *feed) close() {
	f.stop()
	for _, sub := range f.subs {
		_ = sub.Close()
	}
	f.wg.Wait()
}

// isUnknown reports whether a server has answered that it does not know a command.
func isUnknown(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer) && strings.Contains(strings.ToLower(answer.Error()), "unknown command")
}

// listeners counts the processes that have subscribed to the channels of a cache, -1 if that can't be
// known. Those whose keys are tracked one by one subscribe to the control channels. On a cluster each process
// subscribes for each part of the keys, at the nodes that have it.
func (s *session) listeners(ctx context.Context, parts []store.Names) (int64, error) {
	cluster, ok := s.rdb.(*redis.ClusterClient)
	if !ok {
		n, err := subscribed(ctx, parts, s.rdb.PubSubNumSub)
		if answered(err) {
			return -1, nil
		}
		return n, err
	}
	var most int64
	err := eachNode(ctx, cluster, func(ctx context.Context, node *redis.Client) error {
		n, err := subscribed(ctx, parts, node.PubSubShardNumSub)
		if isUnknown(err) || answered(err) {
			n, err = subscribed(ctx, parts, node.PubSubNumSub)
		}
		most = max(most, n)
		return err
	})
	if answered(err) {
		return -1, nil
	}
	return most, err
}

// subscribed returns how many have subscribed to the channel, or the control channel, of the part that has
// most.
func subscribed(ctx context.Context, parts []store.Names, ask func(context.Context, ...string) *redis.MapStringIntCmd) (most int64, err error) {
	var channels []string
	for _, p := range parts {
		channels = append(channels, p.Channel, store.ControlChannel(p.Channel))
	}
	n, err := ask(ctx, channels...).Result()
	for some := range slices.Chunk(channels, 2) {
		most = max(most, n[some[0]]+n[some[1]])
	}
	return most, err
}
