package redisstore_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// throughProxy makes a client, with as many idle connections as its pools may have.
func throughProxy(t *testing.T, addr string, size int) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: addr, PoolSize: size, PipelinePoolSize: size, MaintNotificationsConfig: noMaintenance(),
	})
	t.Cleanup(func() { c.Close() })
	fill(t, c, size)
	return c
}

// fill makes connections, and returns on how many of them a server refuses to write.
func fill(t *testing.T, c *redis.Client, n int) (replicas int) {
	t.Helper()
	var held []*redis.Conn
	for range n {
		cn := c.Conn()
		held = append(held, cn)
		role, err := cn.Do(t.Context(), "role").Slice()
		if err != nil {
			t.Fatal(err)
		}
		if role[0] != "master" {
			replicas++
		}
	}
	for _, cn := range held {
		cn.Close()
	}
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			pipe := c.Pipeline()
			pipe.Ping(t.Context())
			_, _ = pipe.Exec(t.Context())
		})
	}
	all.Wait()
	return replicas
}

func demote(t *testing.T, s *redistest.Server) {
	t.Helper()
	if err := s.Client(t).ReplicaOf(t.Context(), "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
}

type embeddedSingle struct{ *redis.Client }

type unwrapping struct{ redis.UniversalClient }

func (u unwrapping) Unwrap() redis.UniversalClient { return u.UniversalClient }

type hiding struct{ redis.UniversalClient }

// However the client is decorated, no idle connection stays with what is no master, and
// one place in the pool is left to others.
func TestRenewLeavesIdleConnectionsToAReplica(t *testing.T) {
	redistest.Require(t)
	const size = 8
	for name, c := range map[string]struct {
		as    func(*redis.Client) redis.UniversalClient
		inUse bool
	}{
		"a client":       {as: func(c *redis.Client) redis.UniversalClient { return c }},
		"one in use":     {as: func(c *redis.Client) redis.UniversalClient { return c }, inUse: true},
		"one embedded":   {as: func(c *redis.Client) redis.UniversalClient { return embeddedSingle{c} }},
		"one that tells": {as: func(c *redis.Client) redis.UniversalClient { return unwrapping{c} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := redistest.Start(t), redistest.Start(t)
			proxy := redistest.NewProxy(t, first.Addr())
			rdb := throughProxy(t, proxy.Addr(), size)
			store, err := redisstore.NewRedis(c.as(rdb))
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			demote(t, first)
			proxy.Redirect(second.Addr())
			want := size
			if c.inUse {
				cn := rdb.Conn()
				defer cn.Close()
				if err := cn.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				want--
			}
			if err := store.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := fill(t, rdb, want); n > 0 {
				t.Errorf("%d of %d connections lead to the replica", n, want)
			}
		})
	}
}

// An application may block in a connection for long: nothing waits for that, or takes what
// the pool has left.
func TestRenewIsSoonDoneBesideConnectionsInUse(t *testing.T) {
	redistest.Require(t)
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr())
	for _, size := range []int{1, 2, 8} {
		rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr(), PoolSize: size, MaintNotificationsConfig: noMaintenance()})
		defer rdb.Close()
		fill(t, rdb, min(size, 3))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cn := rdb.Conn()
		defer cn.Close()
		if err := cn.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		store := newReal(t, rdb)
		before, dialed := rdb.PoolStats().TotalConns, proxy.Accepted()
		for range 20 {
			if err := store.Renew(ctx); err != nil {
				t.Errorf("%d connections: %v", size, err)
			}
		}
		if n := rdb.PoolStats().TotalConns; n > before || proxy.Accepted() > dialed {
			t.Errorf("%d connections, %d before", n, before)
		}
	}
}

// A client that gets to nothing else says so, after a few connections.
func TestRenewOnAReplicaFailsSoon(t *testing.T) {
	redistest.Require(t)
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr())
	for name, as := range map[string]func(*redis.Client) redis.UniversalClient{
		"a client":       func(c *redis.Client) redis.UniversalClient { return c },
		"one that hides": func(c *redis.Client) redis.UniversalClient { return hiding{c} },
	} {
		rdb := throughProxy(t, proxy.Addr(), 4)
		store, err := redisstore.NewRedis(as(rdb))
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		if err := store.Renew(t.Context()); err != nil {
			t.Errorf("%s: on a master: %v", name, err)
		}
		demote(t, s)
		before := proxy.Accepted()
		err = store.Renew(t.Context())
		if err == nil || !redis.HasErrorPrefix(err, "READONLY") {
			t.Errorf("%s: %v", name, err)
		}
		if n := proxy.Accepted() - before; n > 40 {
			t.Errorf("%s: %d connections were made", name, n)
		}
		if err := s.Client(t).ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// A client that obeys no context is left behind with its silent server.
func TestRenewOnASilentServerIsLeftBehind(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	rdb := patient(ln.Addr().String(), redis.Options{PoolSize: 2})
	store, err := redisstore.NewRedis(rdb)
	if err != nil {
		t.Fatal(err)
	}
	g := client.New(store, never)
	var late *client.TimeoutError
	if err := g.Renew(t.Context()); !errors.As(err, &late) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	// The first is under way still.
	if err := g.Renew(t.Context()); err == nil || !strings.Contains(err.Error(), "do not answer") {
		t.Errorf("the second: %v", err)
	}
	rdb.Close()
	ln.Close()
	g.Close()
}

// Pipelines have connections of their own.
func TestConnectionsOfPipelinesAreCounted(t *testing.T) {
	redistest.Require(t)
	rdb := redistest.Start(t).Client(t)
	store, err := redisstore.NewRedis(rdb)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	before := store.Connections()
	for range 3 {
		if _, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Ping(t.Context()).Err() }); err != nil {
			t.Fatal(err)
		}
	}
	if n := store.Connections(); n != before+1 {
		t.Errorf("%d connections, %d before", n, before)
	}
}
