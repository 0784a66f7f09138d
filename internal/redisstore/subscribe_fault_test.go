package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// hasty is a Listening that messages soon.
func hasty(channel string) store.Subscription {
	return store.Subscription{Channel: channel, HeartbeatInterval: 50 * time.Millisecond, HeartbeatTimeout: 500 * time.Millisecond}
}

// slack is how much later than due something may happen on a busy machine.
const slack = 5 * time.Second

// both runs f with and without tracking, while other tests wait for their servers.
func both(t *testing.T, f func(t *testing.T, with func(store.Subscription) store.Subscription)) {
	t.Parallel()
	t.Run("messages", func(t *testing.T) {
		t.Parallel()
		f(t, func(l store.Subscription) store.Subscription { return l })
	})
	t.Run("tracking", func(t *testing.T) {
		t.Parallel()
		f(t, func(l store.Subscription) store.Subscription { return tracking(l, "k") })
	})
}

// twoWays returns a store whose connection for data and that of sessions go through
// proxies of their own. Sessions must be started by its listen.
type twoWays struct {
	real
	data, news *redistest.Proxy
	way        atomic.Pointer[redistest.Proxy] // of a connection that is opened now
}

func newTwoWays(t *testing.T) *twoWays {
	server := redistest.Start(t)
	w := &twoWays{data: redistest.NewProxy(t, server.Addr()), news: redistest.NewProxy(t, server.Addr())}
	w.way.Store(w.data)
	o := server.Options()
	o.PoolSize, o.MaxActiveConns = 1, 1
	o.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, w.way.Load().Addr())
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	if err := c.Ping(t.Context()).Err(); err != nil { // opens the one for data
		t.Fatal(err)
	}
	w.real = newReal(t, c)
	return w
}

func (w *twoWays) listen(t *testing.T, l store.Subscription) *hearing {
	t.Helper()
	for began := time.Now(); ; {
		w.way.Store(w.news)
		h := start(t, w, l)
		h.begins(t)
		w.way.Store(w.data)
		if h.lives(t, began) {
			return h
		}
	}
}

func TestABrokenNotificationConnectionEndsTheSessionAtOnce(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		w := newTwoWays(t)
		for name, fault := range map[string]func(){
			"cut":   w.news.Cut,
			"reset": w.news.Reset,
			"kill": func() {
				if n, err := w.c.(*redis.Client).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Result(); n != 1 || err != nil {
					t.Errorf("%d killed, %v", n, err)
				}
			},
		} {
			h := w.listen(t, with(steady("news")))
			before := w.news.Accepted()
			began := time.Now()
			fault()
			if err := h.end(t); errors.Is(err, store.ErrHeartbeatTimeout) || errors.Is(err, store.ErrNoTracking) {
				t.Errorf("%s: %v", name, err)
			}
			if d := time.Since(began); d > slack {
				t.Errorf("%s: it took %v", name, d)
			}
			if n := w.news.Accepted() - before; n > 0 {
				t.Errorf("%s: it connected again %d times", name, n)
			}
			h.checkOrder(t)
			w.news.Heal()
		}
	})
}

func TestDeafSessionsEnd(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		w := newTwoWays(t)
		for _, c := range []struct {
			name  string
			fault func()
		}{
			{"nothing passes", func() { w.news.Blackhole() }},
			{"nothing arrives", func() { w.news.Blackhole(redistest.ToClient) }},
			{"it takes longer than Dead", func() { w.news.Delay(time.Second) }},
			{"no data pass", func() { w.data.Blackhole() }},
			{"no data leave", func() { w.data.Blackhole(redistest.ToServer) }},
			{"data take longer than Dead", func() { w.data.Delay(time.Second) }},
			{"no data connection", w.data.Cut},
		} {
			h := w.listen(t, with(hasty("news")))
			began := time.Now()
			c.fault()
			if err := h.end(t); !errors.Is(err, store.ErrHeartbeatTimeout) {
				t.Errorf("%s: %v", c.name, err)
			}
			if d := time.Since(began); d > hasty("").HeartbeatTimeout+slack {
				t.Errorf("%s: it took %v", c.name, d)
			}
			h.checkOrder(t)
			w.news.Heal()
			w.data.Heal()
			// The pool may still have the connection that was spoilt.
			for w.c.Ping(t.Context()).Err() != nil {
				if time.Since(began) > enough {
					t.Fatalf("%s: the data connection does not come back", c.name)
				}
			}
		}
	})
}

func TestWhatPulsesOutliveDoesNotEndTheSession(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		w := newTwoWays(t)
		h := w.listen(t, with(steady("news")))
		for _, fault := range []func(){
			func() { w.news.Delay(50 * time.Millisecond) },
			func() { w.data.Delay(50 * time.Millisecond) },
			w.news.Heal,
			w.data.Reset,
			w.data.Heal,
		} {
			fault()
			h.aliveSince(t, time.Now())
		}
		h.checkOrder(t)
	})
}

func TestTheEndOfAServerEndsTheSession(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		server := redistest.Start(t)
		s := newReal(t, server.Client(t))
		for name, end := range map[string]func(){"kill": server.Kill, "stop": server.Stop} {
			h := listen(t, s, with(steady("news")))
			end()
			if err := h.end(t); errors.Is(err, store.ErrHeartbeatTimeout) {
				t.Errorf("%s: %v", name, err)
			}
			if err := start(t, s, with(steady("news"))).end(t); errors.Is(err, store.ErrHeartbeatTimeout) || errors.Is(err, store.ErrNoTracking) {
				t.Errorf("%s: of a server that is down: %v", name, err)
			}
			if err := server.Restart(); err != nil {
				t.Fatal(err)
			}
		}
		listen(t, s, with(steady("news"))).expectKind(t, "alive")
	})
}

func TestAFrozenServerIsDeaf(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		server := redistest.Start(t)
		s := newReal(t, server.Client(t))
		h := hearAlive(t, s, with(hasty("news")))
		if err := server.Freeze(); err != nil {
			t.Fatal(err)
		}
		if err := h.end(t); !errors.Is(err, store.ErrHeartbeatTimeout) {
			t.Error(err)
		}
		if h := start(t, s, with(hasty("news"))); !errors.Is(h.end(t), store.ErrHeartbeatTimeout) || len(h.all("armed")) > 0 {
			t.Errorf("a session that begins: %v", h.err)
		}
		if err := server.Thaw(); err != nil {
			t.Fatal(err)
		}
		listen(t, s, with(steady("news"))).expectKind(t, "alive")
	})
}

// The client waits without end, and does not obey contexts.
func TestACancellationNeedsNoServer(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		server := redistest.Start(t)
		c := patient(server.Addr(), redis.Options{})
		t.Cleanup(func() { c.Close() })
		s := newReal(t, c)
		t.Cleanup(server.Kill) // before the store waits for what is under way
		l := with(steady("news"))
		l.HeartbeatTimeout = never
		up := listen(t, s, l)
		up.expectKind(t, "alive")
		if err := server.Freeze(); err != nil {
			t.Fatal(err)
		}
		accepted := start(t, s, l)
		for _, h := range []*hearing{up, accepted} {
			h.stop()
			if err := h.end(t); err != context.Canceled {
				t.Error(err)
			}
		}
	})
}

// stuck is a dialer that obeys no context.
func TestACancellationNeedsNoDialer(t *testing.T) {
	dialing, release := make(chan struct{}), make(chan struct{})
	began := sync.OnceFunc(func() { close(dialing) })
	server := redistest.Start(t)
	var mu sync.Mutex
	var conns []net.Conn
	c := redis.NewClient(&redis.Options{
		MaintNotificationsConfig: noMaintenance(),
		Dialer: func(context.Context, string, string) (net.Conn, error) { // the client's own commands dial as well
			began()
			<-release
			conn, err := net.Dial("tcp", server.Addr())
			if err == nil {
				mu.Lock()
				conns = append(conns, conn)
				mu.Unlock()
			}
			return conn, err
		},
	})
	t.Cleanup(func() { c.Close() })
	s, err := redisstore.NewRedis(c)
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, s, steady("news"))
	<-dialing
	h.stop()
	if err := h.end(t); err != context.Canceled {
		t.Error(err)
	}
	close(release)
	s.Close()
	c.Close() // the connections of its pool, not that of the session
	mu.Lock()
	defer mu.Unlock()
	if len(conns) == 0 {
		t.Error("nothing was dialed")
	}
	for _, conn := range conns {
		// The client closes one that it was dialing meanwhile after Close has returned.
		for end := time.Now().Add(slack); ; time.Sleep(time.Millisecond) {
			_, err := conn.Write([]byte("x"))
			if errors.Is(err, net.ErrClosed) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("a connection that came too late was left open: %v", err)
			}
		}
	}
}

func TestCloseEndsSessions(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		s := newReal(t, redistest.Start(t).Client(t))
		h := listen(t, s, with(steady("news")))
		s.Close()
		for range 2 {
			if err := h.end(t); errors.Is(err, store.ErrHeartbeatTimeout) || errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			h = start(t, s, with(steady("news")))
		}
	})
}

// hearAlive starts sessions until one lives: one that is hasty may end before, on a busy machine.
func hearAlive(t *testing.T, s store.Store, l store.Subscription) *hearing {
	t.Helper()
	for began := time.Now(); ; {
		if h := start(t, s, l); h.lives(t, began) {
			return h
		}
	}
}

// lives waits for the first heartbeat of a session, and reports whether one came before its end. It
// fails if none has for long enough.
func (h *hearing) lives(t *testing.T, began time.Time) bool {
	t.Helper()
	if h.expect(t, "pulse or end", func(ev event) bool { return ev.kind == "alive" || ev.kind == "ended" }).kind == "alive" {
		return true
	}
	if time.Since(began) > enough {
		t.Fatal(h.end(t))
	}
	return false
}

// begins waits until a session is armed, or has ended.
func (h *hearing) begins(t *testing.T) {
	t.Helper()
	await(t, "beginning or end", func() bool { return len(h.all("armed", "ended")) > 0 })
}

// hearAgain starts sessions until one hears what change does.
func hearAgain(t *testing.T, s store.Store, l store.Subscription, change func() error) {
	t.Helper()
	for began := time.Now(); time.Since(began) < enough; {
		h := start(t, s, l)
		first := h.expect(t, "beginning or end", func(ev event) bool { return ev.kind == "armed" || ev.kind == "ended" })
		if first.kind == "ended" {
			continue
		}
		if err := change(); err != nil {
			h.stop()
			h.end(t)
			continue
		}
		ev := h.expect(t, "change or end", func(ev event) bool { return ev.kind == "changed" || ev.kind == "message" || ev.kind == "ended" })
		if ev.kind != "ended" {
			h.stop()
			return
		}
	}
	t.Errorf("no session has heard anything in %v", enough)
}

func TestASessionEndsWithItsMaster(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		st := redistest.StartSentinel(t)
		s := newReal(t, st.Client(t))
		l := with(store.Subscription{Channel: "news", HeartbeatInterval: 100 * time.Millisecond, HeartbeatTimeout: 2 * time.Second})
		change := func() error {
			if l.Tracking {
				return set(t.Context(), s.c, "k")
			}
			return s.Publish(t.Context(), store.Notify{Channel: "news", Message: "x"})
		}
		hearAgain(t, s, l, change)
		h := hearAlive(t, s, l)
		st.Failover(t)
		h.end(t)
		hearAgain(t, s, l, change)
	})
}

func TestASessionEndsWithAMasterOfTheCluster(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		cluster := redistest.StartCluster(t, 3, redistest.Replicas(1))
		s := newReal(t, cluster.Client(t))
		l := with(steady("news"))
		h := listen(t, s, l)
		for i := range 3 {
			cluster.Failover(t, i)
			if err := h.end(t); errors.Is(err, store.ErrHeartbeatTimeout) || errors.Is(err, store.ErrNoTracking) {
				t.Error(err)
			}
			h = hearAlive(t, s, l)
		}
		if !l.Tracking {
			return
		}
		for i := range 30 { // on all masters
			key := fmt.Sprint("k", i)
			if err := set(t.Context(), s.c, key); err != nil {
				t.Fatal(err)
			}
			h.expectText(t, "changed", key)
		}
	})
}

func TestASilentMasterMakesTheClusterDeaf(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		cluster := redistest.StartCluster(t, 3)
		s := newReal(t, cluster.Client(t))
		h := hearAlive(t, s, with(hasty("news")))
		if err := cluster.Nodes[1].Freeze(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := h.end(t); !errors.Is(err, store.ErrHeartbeatTimeout) {
			t.Error(err)
		}
		if d := time.Since(began); d > hasty("").HeartbeatTimeout+slack {
			t.Errorf("it took %v", d)
		}
		if err := cluster.Nodes[1].Thaw(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestALostShardEndsTheSession(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		ring, servers := newRing(t, 3)
		s := newReal(t, ring)
		h := listen(t, s, with(steady("news")))
		servers[0].Kill()
		h.end(t)
		h = hearAlive(t, s, with(steady("news")))
		// The shard that comes back ends it too: it is not listened to.
		if err := servers[0].Restart(); err != nil {
			t.Fatal(err)
		}
		if err := h.end(t); errors.Is(err, store.ErrHeartbeatTimeout) {
			t.Error(err)
		}
	})
}
