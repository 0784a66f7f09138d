package redistest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
)

// spread writes keys that fall to all nodes, and reads them back.
func spread(t *testing.T, rdb *redis.ClusterClient, value string) {
	t.Helper()
	for i := range 50 {
		key := fmt.Sprintf("key %d", i)
		mustSet(t, rdb, key, value)
		mustGet(t, rdb, key, value)
	}
}

func TestAClusterHasItsSlotsOnAllMasters(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		masters, want int
		opts          []Option
		url           string
	}{
		"by default": {0, 3, nil, "redis://%[1]s,%[2]s,%[3]s"},
		"one node":   {1, 1, nil, "redis://%[1]s?cluster=true"},
		"TLS and a password": {2, 2, []Option{TLS(), Password("a b")},
			"rediss://:a%%20b@%[1]s,%[2]s?skip_verify=true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := StartCluster(t, c.masters, c.opts...)
			spread(t, cluster.Client(t), "v")
			carriesAll(t, cluster)
			if len(cluster.Nodes) != c.want || cluster.Masters != c.want {
				t.Errorf("%d nodes, %d masters", len(cluster.Nodes), cluster.Masters)
			}
			addrs := make([]any, c.want)
			for i, s := range cluster.Nodes {
				addrs[i] = s.Addr()
				if n, err := s.Client(t).DBSize(t.Context()).Result(); err != nil || n == 0 {
					t.Errorf("node %d has %d keys; %v", i, n, err)
				}
			}
			if want := fmt.Sprintf(c.url, addrs...); cluster.URL() != want {
				t.Errorf("its URL is %s, not %s", cluster.URL(), want)
			}
		})
	}
}

// carriesAll publishes one message at each node, which arrives at each other one.
func carriesAll(t *testing.T, c *Cluster) {
	t.Helper()
	var subs []*redis.PubSub
	for _, s := range c.Nodes {
		sub := s.Client(t).Subscribe(t.Context(), "c")
		t.Cleanup(func() { sub.Close() })
		if _, err := sub.ReceiveTimeout(t.Context(), patience); err != nil {
			t.Fatal(err)
		}
		subs = append(subs, sub)
	}
	for i, s := range c.Nodes {
		if err := s.Client(t).Publish(t.Context(), "c", i).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i, sub := range subs {
		for n := range c.Nodes {
			if _, err := sub.ReceiveTimeout(t.Context(), patience); err != nil {
				t.Errorf("at node %d %d messages of %d arrived: %v", i, n, len(c.Nodes), err)
				break
			}
		}
	}
}

func TestAReplicaTakesTheSlotsOfItsMaster(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*Server) error{
		"that runs":  func(*Server) error { return nil },
		"that died":  func(s *Server) error { s.Kill(); return nil },
		"that hangs": (*Server).Freeze,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The replicas do nothing by themselves.
			c := StartCluster(t, 3, Replicas(1), Password("p"), Args("--cluster-replica-no-failover", "yes"))
			spread(t, c.Client(t), "before")
			if err := leave(c.Nodes[1]); err != nil {
				t.Fatal(err)
			}
			next := c.Failover(t, 1)
			if next != c.Nodes[4] {
				t.Errorf("the new master is on %s, not %s", next.Addr(), c.Nodes[4].Addr())
			}
			rdb := c.Client(t)
			if name == "that hangs" { // a client would ask the silent node for the slots
				o := c.Options()
				o.Addrs = []string{next.Addr()}
				rdb = closeAfter(t, redis.NewClusterClient(o))
			}
			spread(t, rdb, "after")
		})
	}
}

func TestAClusterWithoutReplicasCannotFailOver(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 1)
	if _, err := c.failover(0); err == nil {
		t.Error("it did")
	}
}

func TestACheckOfAClusterSeesWhatIsMissing(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 1)
	check := func() error {
		return c.Nodes[0].do(func(rdb *redis.Client) error {
			return errors.Join(c.complete(t.Context(), rdb), c.knowsAll(t.Context(), rdb))
		})
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	// One slot less; then another master; then a replica more than there is.
	if err := c.Nodes[0].Client(t).ClusterDelSlots(t.Context(), 7).Err(); err != nil {
		t.Fatal(err)
	}
	if check() == nil {
		t.Error("a slot without a node was not missed")
	}
	if err := c.Nodes[0].Client(t).ClusterAddSlots(t.Context(), 7).Err(); err != nil {
		t.Fatal(err)
	}
	id := c.ids[0]
	c.ids[0] = "another node"
	if check() == nil {
		t.Error("slots with another master were not noticed")
	}
	c.ids[0] = id
	if err := check(); err != nil {
		t.Fatal(err)
	}
	c.config.replicas = 1
	if check() == nil {
		t.Error("a replica that is not there was not missed")
	}
}
