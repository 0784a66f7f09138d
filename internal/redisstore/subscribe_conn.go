package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// listenConn is one connection of a session. Its fields are owned by the goroutine of run,
// which also makes its calls to the sink.
type listenConn struct {
	session  *session
	master   *listenMaster
	messages bool           // receives the messages of the channel
	slots    map[string]int // of the heartbeats that come back here, by channel
	open     bool           // everything is set up, and Subscribed was called
}

// run sets up the connection, reports it as ready, waits until the session is subscribed, and
// passes on what it receives, until the session ends or the connection breaks.
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
	channels := c.channels()
	if err := sub.Subscribe(ctx, channels...); err != nil {
		return c.explain(err)
	}
	for confirmed := 0; ; {
		msg, err := sub.Receive(ctx)
		if err != nil {
			return c.explain(err)
		}
		switch msg := msg.(type) {
		case *redis.Subscription:
			if confirmed++; confirmed == len(channels) {
				// Messages that arrive from here on wait in the connection until Subscribed was
				// called; those that arrived before are not needed.
				ready <- struct{}{}
				select {
				case <-c.session.armed:
				case <-c.session.ctx.Done():
					return c.session.ctx.Err()
				}
				c.open = true
			}
		case *redis.Message:
			if c.open {
				c.pass(msg)
			}
		}
	}
}

func (c *listenConn) channels() []string {
	var channels []string
	if c.messages {
		channels = append(channels, c.session.l.Channel)
	}
	for pulse := range c.slots {
		channels = append(channels, pulse)
	}
	return channels
}

func (c *listenConn) pass(msg *redis.Message) {
	if slot, ok := c.slots[msg.Channel]; ok {
		c.session.heard(msg.Payload, slot)
	} else {
		c.session.sink.Message(msg.Payload)
	}
}

// errBroken ends a session whose connection has ended.
var errBroken = errors.New("the connection has ended")

func (c *listenConn) explain(err error) error {
	err = withoutEcho(err, "subscribe", c.session.l.Channel, c.session.l.Prefix)
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
	var used atomic.Bool
	o.Dialer = func(context.Context, string, string) (net.Conn, error) {
		if used.Swap(true) {
			return nil, errBroken
		}
		return conn, nil
	}
	c.adapt(&o)
	rdb := redis.NewClient(&o)
	if c.session.l.Tracking {
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
	if !c.session.l.Tracking {
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
		return track(ctx, cn, c.session.l.Prefix)
	}
}
