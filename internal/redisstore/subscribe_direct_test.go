package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// One server, and the shards of a ring, lose no message of a connection that lives; the nodes of a
// cluster may lose what they forward. A miniredis does not say what it is.
func TestSessionsAreDirectWhereNoNodeForwards(t *testing.T) {
	onStores(t, func(t *testing.T, s store.Store, prefix string) {
		if strings.Contains(t.Name(), "memory") {
			return
		}
		first := listen(t, s, steady(prefix+"news"))
		second := listen(t, s, steady(prefix+"more")) // joins the session
		for _, h := range []*hearing{first, second} {
			if strings.Contains(t.Name(), "cluster") || strings.Contains(t.Name(), "miniredis") {
				h.neverDirect(t)
				continue
			}
			h.expectKind(t, "direct")
			h.aliveSince(t, time.Now())
			if n := len(h.all("direct")); n != 1 {
				t.Errorf("it was told %d times", n)
			}
			h.checkOrder(t)
		}
	})
}

// neverDirect checks that a session is not direct after some rounds of heartbeats.
func (h *hearing) neverDirect(t *testing.T) {
	t.Helper()
	for range 10 {
		h.aliveSince(t, time.Now())
	}
	if n := len(h.all("direct", "ended")); n > 0 {
		t.Errorf("%v", h.all("direct", "ended"))
	}
}

// What looks like one server may be a cluster whose nodes forward messages to each other, or may
// not say what it is, nor who has subscribed: then numbers are needed, and a heartbeat that nothing
// on that node has subscribed to is as it should be.
func TestSessionsAreNotDirectWithoutAProof(t *testing.T) {
	node := redistest.StartCluster(t, 3).Nodes[0]
	server := redistest.Start(t, redistest.ACL("app on >secret ~* &* +@all -info", "blind on >secret ~* &* +@all -pubsub"))
	user := func(name string) *redis.Client {
		o := server.Options()
		o.Username, o.Password = name, "secret"
		c := redis.NewClient(o)
		t.Cleanup(func() { c.Close() })
		return c
	}
	front := func(mode string) *redis.Client {
		o := server.Options()
		o.Addr = redistest.NewFront(t, server.Addr(), func(args []string) string {
			if strings.EqualFold(args[0], "info") {
				return fmt.Sprintf("$%d\r\n%s\r\n", len(mode), mode)
			}
			return ""
		}).Addr()
		c := redis.NewClient(o)
		t.Cleanup(func() { c.Close() })
		return c
	}
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		for name, c := range map[string]*redis.Client{
			"a node of a cluster": node.Client(t), "no INFO": user("app"), "no PUBSUB": user("blind"),
			"another mode": front("# Server\r\nredis_mode:cluster\r\n"), "no mode": front("# Server\r\n"),
			"of a cluster after all": front("# Server\r\nredis_mode:standalone\r\n# Cluster\r\ncluster_enabled:1\r\n"),
		} {
			t.Run(name, func(t *testing.T) {
				listen(t, newReal(t, c), with(steady("news"))).neverDirect(t)
			})
		}
		for _, mode := range []string{"redis_mode", "server_mode"} {
			listen(t, newReal(t, front("# Server\r\n"+mode+":standalone\r\n")), with(steady("news"))).expectKind(t, "direct")
		}
	})
}

// A heartbeat that nothing has received does not end a session that was never direct: the node that
// published it may forward it to the one that has the subscription.
func TestASessionThatIsNotDirectGoesOnWhereHeartbeatsAreForwarded(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2)
	ways := map[bool]string{false: cluster.Nodes[0].Addr(), true: cluster.Nodes[1].Addr()}
	var news atomic.Bool
	o := cluster.Nodes[0].Options()
	o.PoolSize, o.MaxActiveConns = 1, 1
	o.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, ways[news.Load()])
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	if err := c.Ping(t.Context()).Err(); err != nil { // opens the connection for commands
		t.Fatal(err)
	}
	news.Store(true)
	h := listen(t, newReal(t, c), steady("news"))
	h.neverDirect(t)
}

// A session whose subscription turns out to be on another server than its commands ends at once,
// though its connection lives, and also where something else there has subscribed to everything.
func TestADirectSessionEndsWhenItsCommandsGoElsewhere(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		for _, monitored := range []bool{false, true} {
			w := newTwoWays(t)
			l := with(steady("news"))
			h := w.listen(t, l)
			for start := time.Now(); len(h.all("direct")) == 0; time.Sleep(time.Millisecond) {
				if time.Since(start) > enough {
					t.Fatal("the session is not direct")
				}
			}
			other := redistest.Start(t)
			if monitored {
				sub := other.Client(t).PSubscribe(t.Context(), "*")
				t.Cleanup(func() { sub.Close() })
				if _, err := sub.Receive(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			w.data.Redirect(other.Addr())
			w.data.Reset()
			if err := h.end(t); errors.Is(err, store.ErrHeartbeatTimeout) || !strings.Contains(err.Error(), "another server") {
				t.Error(err)
			}
			h.checkOrder(t)
			// Behind such an address it would be direct, and end, again and again.
			w.news.Redirect(other.Addr())
			w.listen(t, l).neverDirect(t)
		}
	})
}

// That the server has no subscription, once, may be because it has just closed the connection of the
// session. The client has direct sessions afterwards, and as long as it lives this one goes on.
func TestOneAnswerDoesNotEndADirectSession(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		server := redistest.Start(t)
		var none atomic.Int32 // how many heartbeats are not published, and said to be received by none
		o := server.Options()
		o.Addr = redistest.NewFront(t, server.Addr(), func(args []string) string {
			if strings.EqualFold(args[0], "evalsha") && len(args) > 2 && args[2] == "0" && none.Add(-1) >= 0 {
				return ":0\r\n"
			}
			return ""
		}).Addr()
		c := redis.NewClient(o)
		t.Cleanup(func() { c.Close() })
		s := newReal(t, c)
		l := with(steady("news"))
		l.Channel = "more"
		h, other := start(t, s, with(steady("news"))), start(t, s, l)
		h.expectKind(t, "direct")
		other.expectKind(t, "direct")
		for range 3 {
			none.Store(1)
			for none.Load() > 0 {
				h.aliveSince(t, time.Now())
			}
			for range 2 * 3 { // one of three counts
				h.aliveSince(t, time.Now())
			}
		}
		if all := h.all("ended"); len(all) > 0 {
			t.Fatal(all)
		}
		if n, err := server.Client(t).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Result(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		h.end(t)
		listen(t, s, steady("news")).expectKind(t, "direct")
	})
}

// A subscriber that misses a message ends the session, and the client has no direct one any more,
// with tracking or without. Other clients have.
func TestADirectSessionEndsWhenAMessageIsMissed(t *testing.T) {
	server := redistest.Start(t)
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		c := server.Client(t)
		first := listen(t, newReal(t, c), with(steady("news")))
		second := listen(t, newReal(t, c), with(steady("more")))
		first.expectKind(t, "direct")
		second.expectKind(t, "direct")
		first.disprove()
		for _, h := range []*hearing{first, second} {
			if err := h.end(t); !strings.Contains(err.Error(), "message was lost") {
				t.Error(err)
			}
			h.checkOrder(t)
		}
		for _, tracking := range []bool{false, true} {
			l := with(steady("news"))
			l.Tracking = tracking
			listen(t, newReal(t, c), l).neverDirect(t)
		}
		listen(t, newReal(t, server.Client(t)), with(steady("news"))).expectKind(t, "direct")
	})
}
