package cachetest

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Process stands for a process that uses Redis. Caches that are made with its client share
// nothing with those of other processes but Redis.
type Process struct {
	env    *Env
	client *redis.Client

	mu     sync.Mutex // guards what follows
	faults faults
	links  map[*link]struct{}
	closed bool
}

// Client returns the client of the process: the same one at each call. It is closed with the
// test.
func (p *Process) Client() redis.UniversalClient { return p.client }

// newClient returns a client with the settings of cache.NewClient.
func newClient(dial func(context.Context, string, string) (net.Conn, error)) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: "cachetest:6379", Dialer: dial, ContextTimeoutEnabled: true,
		MaxRetries: -1, DialerRetries: 1,
		DialTimeout: time.Second, ReadTimeout: time.Second, WriteTimeout: time.Second,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

var (
	errCut              = errors.New("cachetest: Redis is cut off")
	errNotificationsCut = errors.New("cachetest: notifications are cut off")
	errOutside          = errors.New("cachetest: New was called outside of the synctest bubble that its client is used in: call it inside")
)

func (p *Process) dial(context.Context, string, string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fail := func(err error) (net.Conn, error) { return nil, &net.OpError{Op: "dial", Net: "memory", Err: err} }
	switch {
	case p.closed:
		return fail(net.ErrClosed)
	case p.env.outside():
		return fail(errOutside)
	case p.faults.redis:
		return fail(errCut)
	}
	conn, err := p.env.server.Dial()
	if err != nil {
		return fail(err)
	}
	l := newLink(p, conn, p.faults.delay)
	p.links[l] = struct{}{}
	p.env.wg.Go(l.receive)
	return l, nil
}

// subscribe is called before a link subscribes to something.
func (p *Process) subscribe(l *link) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults.notifications {
		return errNotificationsCut
	}
	l.subscribed = true
	return nil
}

func (p *Process) forget(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

func (p *Process) subscriptions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for l := range p.links {
		if l.subscribed {
			n++
		}
	}
	return n
}

func (p *Process) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cut(net.ErrClosed, func(*link) bool { return true })
}
