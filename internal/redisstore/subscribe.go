package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// errStoreClosed ends sessions in progress when the store is closed.
var errStoreClosed = errors.New("redisstore: the store was closed")

// PublisherKey returns a key of the node that publishes on a channel, "" if there are several.
func (s *Redis) PublisherKey(channel string) string {
	if s.ring != nil {
		return ""
	}
	return channel
}

// Publish implements Store. On a ring all shards publish the message: which of them another
// process can reach is not known here. On a cluster the node that has the slot of the channel
// publishes it: any node could, but whether a randomly picked one answers is not known.
func (s *Redis) Publish(ctx context.Context, t store.Notify) error {
	if s.ring == nil {
		node, _, err := s.node(ctx, t.Channel)
		if err != nil {
			return err
		}
		if store.IsBackground(ctx) {
			defer takeTurn(ctx, node)()
		}
		err = s.publish(ctx, node, t)
		s.lookAroundFor(ctx, err)
		return err
	}
	shards, err := s.listenMasters(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(shards))
	var wg sync.WaitGroup
	for i := range shards {
		wg.Go(func() {
			errs[i] = s.publish(ctx, shards[i].rdb, t)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Subscribe implements Store. Subscriptions through one client share a session; see [sessions].
//
// Operations that may block for longer than ctx allows, dialing and publishing with a client
// that does not obey contexts, are left behind when the session ends: the client's own timeouts
// end them, and Close waits for them.
func (s *Redis) Subscribe(ctx context.Context, l store.Subscription, sink store.Subscriber) error {
	if err := l.Check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.cluster != nil {
		return s.subscribeToNodes(ctx, l, sink)
	}
	m, err := join(s, l, nil, sink)
	if err != nil {
		return err
	}
	defer m.leave()
	return s.await(ctx, m)
}

// await waits until the first of several subscribers has ended, or ctx.
func (s *Redis) await(ctx context.Context, all ...*subscriber) (err error) {
	ended := all[0].ended
	if len(all) > 1 {
		first := make(chan struct{})
		var once sync.Once
		stop := make(chan struct{})
		defer close(stop)
		for _, m := range all {
			go func() {
				select {
				case <-m.ended:
					once.Do(func() { close(first) })
				case <-stop:
				}
			}()
		}
		ended = first
	}
	select {
	case <-ended:
		for _, m := range all {
			select {
			case <-m.ended:
				err = cmp.Or(err, m.err)
			default:
			}
		}
	case <-ctx.Done():
	case <-s.ctx.Done():
		err = errStoreClosed
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// subscribeToNodes is Subscribe on a cluster. It is connected to each node that has some of the slots:
// mostly one.
func (s *Redis) subscribeToNodes(ctx context.Context, l store.Subscription, sink store.Subscriber) (err error) {
	until, cancel := context.WithTimeout(ctx, l.HeartbeatTimeout)
	nodes, err := detach(until, s, func(ctx context.Context) ([]listenMaster, error) { return s.listenNodes(ctx, l.Slots) }, nil)
	cancel()
	if err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	sinks := []store.Subscriber{sink}
	if len(nodes) > 1 {
		sinks = merge(sink, len(nodes))
	}
	var all []*subscriber
	defer func() {
		for _, m := range all {
			m.leave()
		}
	}()
	for i := range nodes {
		m, err := join(s, l, &nodes[i], sinks[i])
		if err != nil {
			return err
		}
		all = append(all, m)
	}
	err = s.await(ctx, all...)
	if ctx.Err() == nil {
		s.doubtLayout(ctx) // another master may have taken the place of one
	}
	return err
}

// detach runs f in a goroutine that Close waits for, and leaves it behind when ctx ends: its
// result then goes to drop, if that is not nil.
func detach[T any](ctx context.Context, s *Redis, f func(context.Context) (T, error), drop func(T)) (T, error) {
	type answer struct {
		val T
		err error
	}
	answers := make(chan answer)
	s.background(func(context.Context) {
		val, err := f(ctx)
		select {
		case answers <- answer{val, err}:
		case <-ctx.Done():
			if drop != nil {
				drop(val)
			}
		}
	})
	select {
	case a := <-answers:
		return a.val, a.err
	case <-ctx.Done(): // also if the store is closed, and f is never run
		var zero T
		return zero, context.Cause(ctx)
	}
}

// listenMaster is a node to subscribe to.
type listenMaster struct {
	name string // its address; "" for a single server
	rdb  redis.UniversalClient
	// options are those of its client, for connections of the session.
	options *redis.Options
	member  *member // of a cluster, else nil
}

// listenMasters lists the single server, or the shards of a ring in the order of their names.
func (s *Redis) listenMasters(ctx context.Context) ([]listenMaster, error) {
	if s.single != nil {
		return []listenMaster{{rdb: s.rdb, options: s.single.Options()}}, nil
	}
	var mu sync.Mutex // the function is called concurrently
	var masters []listenMaster
	err := s.forEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters = append(masters, listenMaster{name: c.Options().Addr, rdb: c, options: c.Options()})
		return nil
	})
	if err == nil && len(masters) == 0 {
		err = errors.New("redisstore: no master is up to listen to")
	}
	slices.SortFunc(masters, func(a, b listenMaster) int { return strings.Compare(a.name, b.name) })
	return masters, err
}

func masterNames(masters []listenMaster) []string {
	names := make([]string, len(masters))
	for i := range masters {
		names[i] = masters[i].name
	}
	return names
}

// publishPulse publishes a heartbeat through a master, and returns what pulse does. channels are those of the
// session.
func (s *Redis) publishPulse(ctx context.Context, m *listenMaster, channels func() []string, channel, payload string, count bool) (heard int64, err error) {
	defer takeTurn(ctx, m.rdb)()
	if m.member != nil {
		if err := s.memberPulse(ctx, m, channel, payload); !errors.Is(err, errUnconfirmed) {
			return -1, withoutEcho(err, "evalsha", channel, payload)
		}
		if err := m.member.confirm(ctx, m.rdb, channels()); err != nil {
			return -1, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	heard, err = s.pulse(ctx, m.rdb, channel, payload, count)
	return heard, withoutEcho(err, "evalsha", channel, payload)
}
