package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// post collects what is published on a channel, without [store.Store.Subscribe] where
// there is a server.
type post struct {
	channel string
	mark    func(t *testing.T, message string) // publishes through every master, by its number
	masters int

	mu    sync.Mutex
	got   []string
	news  chan struct{} // buffered
	calls int           // of heard
	armed chan struct{}
}

// newPost also collects what is published to waiters there.
func newPost(t *testing.T, w world, channel string, waiters ...string) *post {
	t.Helper()
	p := &post{channel: channel, news: make(chan struct{}, 1), armed: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { stop(); wg.Wait() })
	r, ok := w.(real)
	if !ok {
		p.masters = 1
		p.mark = func(t *testing.T, m string) { publish(t, w, channel, m+"0") }
		l := store.Subscription{Channel: channel, HeartbeatInterval: time.Minute, HeartbeatTimeout: time.Hour}
		for i, waiter := range waiters {
			if i == 0 {
				l.Waiter = waiter
			}
			w.(memory).JoinWaiter(l.Waiter, waiter)
		}
		wg.Go(func() { _ = w.Subscribe(ctx, l, p) })
		<-p.armed
		return p
	}
	var nodes []*redis.Client
	var mu sync.Mutex
	if err := onMasters(ctx, r.c, func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, c)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p.masters = len(nodes)
	p.mark = func(t *testing.T, m string) {
		for i, c := range nodes {
			if err := c.Publish(ctx, channel, fmt.Sprint(m, i)).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	listenTo := nodes
	if _, ok := r.c.(*redis.Ring); !ok {
		listenTo = nodes[:1] // a cluster's nodes pass it on
	}
	for _, c := range listenTo {
		channels := []string{channel}
		for _, waiter := range waiters {
			channels = append(channels, store.WaiterChannel(channel, waiter))
		}
		sub := c.Subscribe(ctx, channels...)
		for range channels {
			if _, err := sub.Receive(ctx); err != nil {
				t.Fatal(err)
			}
		}
		wg.Go(func() {
			for {
				m, err := sub.ReceiveMessage(ctx)
				if err != nil {
					return
				}
				p.Message(m.Payload)
			}
		})
		t.Cleanup(func() { sub.Close() }) // before it is waited for
	}
	return p
}

func (p *post) Subscribed()          { close(p.armed) }
func (p *post) KeysChanged([]string) {}
func (p *post) Heartbeat(time.Time)  {}

func (p *post) Message(m string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, m)
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// heard returns what was published since it was last called. What comes from
// different nodes of a cluster is in any order.
func (p *post) heard(t *testing.T) []string {
	t.Helper()
	p.calls++
	// Its own: another post of the channel may have the nodes in another order, and its marks say
	// nothing about what comes from the same node.
	mark := fmt.Sprintf("mark %p %d of ", p, p.calls)
	p.mark(t, mark)
	var marks []string
	for i := range p.masters {
		marks = append(marks, fmt.Sprint(mark, i))
	}
	for {
		p.mu.Lock()
		missing := slices.DeleteFunc(slices.Clone(marks), func(m string) bool { return slices.Contains(p.got, m) })
		if len(missing) == 0 {
			got := slices.DeleteFunc(p.got, func(m string) bool { return strings.HasPrefix(m, "mark ") })
			p.got = nil
			p.mu.Unlock()
			return got
		}
		p.mu.Unlock()
		select {
		case <-p.news:
		case <-time.After(enough):
			t.Fatalf("%q did not arrive", missing)
		}
	}
}
