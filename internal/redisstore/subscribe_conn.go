package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// listenConn is one connection of a session. The goroutine of run reads, and makes the calls to
// the sinks.
type listenConn struct {
	session *session
	master  *listenMaster
	slots   map[string]int // of the heartbeats that come back here, by channel
	raw     net.Conn       // since connect
	id      int64          // by which the server knows it, since connect; ByKey
	server  string         // its run_id, likewise
	lanes   lanes          // ByKey
	more    chan struct{}  // buffered: there are requests

	mu       sync.Mutex // guards what follows; taken after that of the session
	requests []request  // not sent yet
	sent     []request  // not answered yet, in their order
}

// run sets up the connection, reports it as ready, and passes on what it receives, until the
// session ends or the connection breaks.
func (c *listenConn) run(ready chan<- struct{}) error {
	// There are no read or write deadlines here: a deadline that passes in the middle of a
	// message would leave its rest to be taken for the next. Reads end when the session closes
	// the connection, which happens at the latest when the heartbeats time out.
	ctx := context.WithoutCancel(c.session.ctx)
	sub, closeAll, err := c.connect(ctx)
	if err != nil {
		return c.explain(err)
	}
	defer closeAll()
	defer context.AfterFunc(c.session.ctx, closeAll)()
	pulses := slices.Collect(maps.Keys(c.slots))
	if err := sub.Subscribe(ctx, pulses...); err != nil {
		return c.explain(err)
	}
	setUp := len(pulses)
	for _, p := range pulses {
		if c.session.isLocal(p) {
			if err := sub.SSubscribe(ctx, p); err != nil {
				return c.explain(err)
			}
			setUp++
		}
	}
	writing, stop := context.WithCancel(c.session.ctx)
	var writer sync.WaitGroup
	defer writer.Wait()
	defer closeAll() // the writer may wait for the connection
	defer stop()
	for confirmed := 0; ; {
		msg, err := sub.Receive(ctx)
		var refused redis.Error
		switch {
		case err == nil:
		case errors.As(err, &refused) && c.answer(err):
			continue
		case confirmed >= len(pulses) && confirmed < setUp && isUnknownCommand(err):
			msg = &redis.Subscription{} // a server before Redis 7.0 publishes no message in this way
		case confirmed < setUp && redis.HasErrorPrefix(err, "NOPERM") && strings.Contains(err.Error(), "channel"):
			return fmt.Errorf("%w: %w", errPulseRefused, c.explain(err))
		default:
			return c.explain(err)
		}
		switch msg := msg.(type) {
		case *redis.Subscription, *redis.Pong:
			if s, ok := msg.(*redis.Subscription); ok && s.Kind == "sunsubscribe" && !c.awaits(shardUnsubscribe, s.Channel) {
				return c.explain(fmt.Errorf("%w: the slot of a channel has moved", errMoved))
			}
			if confirmed < setUp {
				if confirmed++; confirmed == setUp {
					if c.session.key.byKey {
						if err := c.openLane(c.session.ctx); err != nil {
							return c.explain(err)
						}
						context.AfterFunc(c.session.ctx, c.endLanes)
					}
					writer.Go(func() { c.write(writing, sub) })
					ready <- struct{}{}
				}
			} else if !c.answer(nil) {
				return c.explain(errUnasked)
			}
		case *redis.Message:
			if slot, ok := c.slots[msg.Channel]; ok {
				c.session.heard(msg.Payload, slot)
				break
			}
			for _, m := range c.session.ofChannel(msg.Channel) {
				m.message(msg.Payload)
			}
		}
	}
}

// errUnasked ends a session whose connection gives an answer to nothing.
var errUnasked = errors.New("an answer to no command")

// request has something requested on the connection, after all that was requested before.
func (c *listenConn) request(r request) {
	c.mu.Lock()
	c.requests = append(c.requests, r)
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// write sends what is requested, until ctx ends. The answers arrive where messages do.
func (c *listenConn) write(ctx context.Context, sub *redis.PubSub) {
	always := context.WithoutCancel(ctx)
	for {
		select {
		case <-c.more:
		case <-ctx.Done():
			return
		}
		for {
			c.mu.Lock()
			if len(c.requests) == 0 {
				c.mu.Unlock()
				break
			}
			r := c.requests[0]
			c.requests = c.requests[1:]
			c.sent = append(c.sent, r)
			c.mu.Unlock()
			var err error
			switch r.kind {
			case subscribe:
				err = sub.Subscribe(always, r.topic.name)
			case unsubscribe:
				err = sub.Unsubscribe(always, r.topic.name)
			case shardSubscribe:
				err = sub.SSubscribe(always, r.topic.name)
			case shardUnsubscribe:
				err = sub.SUnsubscribe(always, r.topic.name)
			case trackPrefix:
				// A PubSub has no such command. Nothing else writes at this time.
				_, err = c.raw.Write(trackCommand(r.topic.name))
			}
			if err != nil {
				c.session.end(c.explain(err))
				return
			}
		}
	}
}

// answer takes the answer to the first command that was not answered yet, and reports whether
// there is one.
func (c *listenConn) answer(err error) bool {
	c.mu.Lock()
	if len(c.sent) == 0 {
		c.mu.Unlock()
		return false
	}
	r := c.sent[0]
	c.sent = c.sent[1:]
	c.mu.Unlock()
	if err != nil {
		shard := r.kind == shardSubscribe || r.kind == shardUnsubscribe
		switch {
		case shard && isUnknownCommand(err):
			c.session.answered(r, nil)
			return true
		case shard && redis.HasErrorPrefix(err, "MOVED"):
			c.session.end(c.explain(fmt.Errorf("%w: %w", errMoved, err)))
			return true
		case r.kind == trackPrefix:
			err = noTracking(err)
		}
		err = c.explain(err)
	}
	c.session.answered(r, err)
	return true
}

// awaits reports whether the next answer is that to a request of a kind for a channel.
func (c *listenConn) awaits(kind requestKind, channel string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sent) > 0 && c.sent[0].kind == kind && c.sent[0].topic.name == channel
}

// isUnknownCommand reports whether a server has answered that it does not know a command.
func isUnknownCommand(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer) && strings.Contains(strings.ToLower(answer.Error()), "unknown command")
}

// errBroken ends a session whose connection has ended.
var errBroken = errors.New("the connection has ended")

func (c *listenConn) explain(err error) error {
	err = withoutEcho(err, c.session.names()...)
	where := ""
	if c.master.name != "" {
		where = " to " + c.master.name
	}
	return fmt.Errorf("redisstore: the notification connection%s: %w", where, err)
}

// connect opens the connection, and turns tracking on if it is wanted. The connection can be
// closed from any goroutine.
//
// It belongs to a client that has no other connection, made from the options of the given
// client. A PubSub of the given client would dial again when its connection breaks, within the
// very call that is to report that, subscribe again, and continue.
func (c *listenConn) connect(ctx context.Context) (*redis.PubSub, func(), error) {
	o := *c.master.options
	conn, err := dial(c.session.ctx, c.session.store, &o)
	if err != nil {
		return nil, nil, err
	}
	o.Dialer = onlyOnce(conn)
	c.raw = conn
	c.adapt(&o)
	rdb := redis.NewClient(&o)
	if c.session.key.tracking {
		if err := rdb.RegisterPushNotificationHandler("invalidate", changes{c}, true); err != nil {
			_ = rdb.Close()
			_ = conn.Close()
			return nil, nil, err
		}
	}
	sub := rdb.Subscribe(ctx)
	return sub, sync.OnceFunc(func() {
		_ = conn.Close() // first: closing the others may need a lock that is held while waiting for the connection
		_ = sub.Close()
		_ = rdb.Close()
	}), nil
}

// dial opens a connection as the client of o does. A session that ends meanwhile leaves the
// dialing behind: not every dialer obeys its context.
func dial(ctx context.Context, s *Redis, o *redis.Options) (net.Conn, error) {
	return detach(ctx, s, func(ctx context.Context) (net.Conn, error) {
		return o.Dialer(ctx, o.Network, o.Addr)
	}, func(conn net.Conn) {
		if conn != nil {
			_ = conn.Close()
		}
	})
}

// lonely turns a copy of a client's options into those of a client with one connection.
func lonely(o *redis.Options) {
	o.MaxRetries, o.DialerRetries = -1, 1
	o.PoolSize, o.MinIdleConns, o.MaxIdleConns, o.MaxActiveConns, o.MaxConcurrentDials = 1, 0, 0, 0, 0
	o.PipelinePoolSize = -1
	o.Limiter = nil
	o.ClientSideCache, o.ClientSideCacheConfig = nil, nil
	o.PushNotificationProcessor = nil // a copy would share that of the given client
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// adapt turns o into the options of a client with one connection.
func (c *listenConn) adapt(o *redis.Options) {
	// The copy has been through the client's own initialisation, which has replaced -1 by 0: a
	// 0 in it would now be replaced by the default.
	lonely(o)
	o.ReadTimeout, o.WriteTimeout = -1, -1
	if !c.session.key.tracking {
		return
	}
	o.Protocol = 3
	first := o.OnConnect
	o.OnConnect = func(ctx context.Context, cn *redis.Conn) error {
		if first != nil {
			if err := first(ctx, cn); err != nil {
				return err
			}
		}
		hello, err := speakRESP3(ctx, cn)
		if err == nil && c.session.key.byKey {
			err = c.identify(ctx, cn, hello)
		}
		return err
	}
}
