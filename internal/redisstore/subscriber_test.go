package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	armed chan struct{}
}

// marks counts the calls of heard, of all posts.
var marks atomic.Int64

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
	cluster, _ := r.c.(*redis.ClusterClient)
	if cluster != nil { // the node that has the slot of the channel; the others pass it on
		owner, err := cluster.MasterForKey(ctx, channel)
		if err != nil {
			t.Fatal(err)
		}
		listenTo = []*redis.Client{owner}
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
		if cluster != nil {
			shardSubscribe(t, sub, channel)
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

// shardSubscribe subscribes to what a node of a cluster publishes for its own slots, if that of the
// channel is one of them.
func shardSubscribe(t *testing.T, sub *redis.PubSub, channel string) {
	t.Helper()
	if err := sub.SSubscribe(t.Context(), channel); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.Receive(t.Context()); err != nil && !redis.HasErrorPrefix(err, "MOVED") {
		t.Fatal(err)
	}
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
	// A mark is for this call only. Another post's may have been published through other nodes:
	// their order is that of a client.
	mark := fmt.Sprintf("mark %d of ", marks.Add(1))
	p.mark(t, mark)
	var sent []string
	for i := range p.masters {
		sent = append(sent, fmt.Sprint(mark, i))
	}
	for {
		p.mu.Lock()
		missing := slices.DeleteFunc(slices.Clone(sent), func(m string) bool { return slices.Contains(p.got, m) })
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
