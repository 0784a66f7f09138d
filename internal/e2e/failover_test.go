package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// replicated returns a function that reports whether all that was acknowledged before
// its call has reached a replica of each master: what has not is lost with the master.
func replicated(masters func() []*redis.Client) func() bool {
	return func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, m := range masters() {
			conn := m.Conn()
			// WAIT waits for the writes of its own connection, and the stream has an
			// order.
			err := conn.Set(ctx, "mark", 0, 0).Err()
			n := int64(0)
			if err == nil {
				n, err = conn.Wait(ctx, 1, 500*time.Millisecond).Result()
			}
			_ = conn.Close()
			if n < 1 || err != nil {
				return false
			}
		}
		return true
	}
}

// through runs a failover while one node writes and another reads.
// moved returns nil for a client that speaks to the new masters.
func through(t *testing.T, connect func() redis.UniversalClient, transport string, noted func() bool, failover func(), moved func(redis.UniversalClient) error) {
	t.Helper()
	w := newWorld(t)
	of := [2]redis.UniversalClient{connect(), connect()}
	a, b := w.node(of[0], transports[transport]...), w.node(of[1], transports[transport]...)
	stop := w.live(a, map[string]*cache.Cache[string, int64]{"the other": b}, noted)
	defer stop()
	pause(t.Context(), 500*time.Millisecond)
	failover()
	// While a client goes on with a master that is none any more, what it is told there is
	// lost: for as long as that is remembered, it is told again.
	for _, rdb := range of {
		awaits(t, "the clients to be elsewhere", func() error { return moved(rdb) })
	}
	pause(t.Context(), time.Second)
	stop()
	w.settle(a, b)
	began := time.Now()
	_, _ = a.Close(), b.Close()
	if d := time.Since(began); d > patience {
		t.Errorf("Close took %v", d)
	}
}

// P2 and P5 while a master fails over to its replica, with sentinels.
func TestSentinelFailovers(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		ends := map[string]func(*redistest.Server) error{
			"killed":  func(s *redistest.Server) error { s.Kill(); return nil },
			"frozen":  (*redistest.Server).Freeze,
			"running": func(*redistest.Server) error { return nil },
		}
		sideBySide(t, names(ends), func(t *testing.T, name string) {
			st := redistest.StartSentinel(t)
			master := st.Master.Client(t)
			connect := func() redis.UniversalClient { return st.Client(t) }
			through(t, connect, transport, replicated(func() []*redis.Client { return []*redis.Client{master} }), func() {
				old := st.Master
				if err := ends[name](old); err != nil {
					t.Fatal(err)
				}
				st.Failover(t)
				if name == "frozen" {
					if err := old.Thaw(); err != nil {
						t.Fatal(err)
					}
				}
			}, func(rdb redis.UniversalClient) error {
				info, err := rdb.Info(t.Context(), "server").Result()
				if port := fmt.Sprintf("tcp_port:%d\r\n", st.Master.Port()); err == nil && !strings.Contains(info, port) {
					err = errors.New("it speaks to another one")
				}
				return err
			})
		})
	})
}

// The same on a cluster.
func TestClusterFailovers(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		c := redistest.StartCluster(t, 3, redistest.Replicas(1))
		// All keys of a test may be on one node: each of them fails over.
		var masters []*redis.Client
		for _, s := range c.Nodes[:3] {
			masters = append(masters, s.Client(t))
		}
		through(t, func() redis.UniversalClient { return c.Client(t) }, transport, replicated(func() []*redis.Client { return masters }), func() {
			c.Failover(t, 0)
			c.Nodes[1].Kill()
			c.Failover(t, 1)
		}, func(rdb redis.UniversalClient) error { return nil }) // a node that is none any more says so at once
	})
}
