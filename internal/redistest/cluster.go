package redistest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

const (
	slots          = 16384
	defaultMasters = 3
)

// Cluster is a Redis cluster. At the start, node i of the first Masters has an
// equal share of the slots, and node Masters+i and each Masters-th after it are
// replicas of node i.
type Cluster struct {
	Nodes   []*Server
	Masters int

	config config
	ids    []string // of the nodes
}

// StartCluster starts a cluster of so many masters (0: three), and waits until all its nodes
// agree that it is up and on the owners of the slots, and carry to each other what is published.
// The option [Replicas] adds replicas. It takes about three seconds, and is stopped at the end of
// the test.
func StartCluster(tb testing.TB, masters int, opts ...Option) *Cluster {
	tb.Helper()
	config := newConfig(opts)
	requireFor(tb, config)
	c, err := newCluster(masters, config)
	if err != nil {
		tb.Fatal(err)
	}
	for _, s := range c.Nodes {
		s.stopAfter(tb)
	}
	return c
}

func newCluster(masters int, config config) (*Cluster, error) {
	c := &Cluster{Masters: cmp.Or(masters, defaultMasters), config: config}
	if config.dir != "" {
		return nil, errors.New("redistest: the nodes of a cluster can't share one Dir")
	}
	for range c.Masters * (1 + config.replicas) {
		s, err := newServer(config, true, redisArgs)
		if err != nil {
			c.close()
			return nil, err
		}
		c.Nodes = append(c.Nodes, s)
	}
	if err := c.form(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) close() {
	for _, s := range c.Nodes {
		s.close()
	}
}

// form joins the nodes to one cluster.
func (c *Cluster) form() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	first := c.Nodes[0]
	for i, s := range c.Nodes {
		err := s.do(func(rdb *redis.Client) error {
			id, err := rdb.ClusterMyID(ctx).Result()
			if err != nil {
				return err
			}
			c.ids = append(c.ids, id)
			// Nodes of equal epochs would have to resolve the conflict first.
			if err := rdb.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
				return err
			}
			if i < c.Masters {
				if err := rdb.ClusterAddSlotsRange(ctx, c.first(i), c.first(i+1)-1).Err(); err != nil {
					return err
				}
			}
			if i == 0 {
				return nil
			}
			return rdb.Do(ctx, "cluster", "meet", "127.0.0.1", first.port.number, first.bus.number).Err()
		})
		if err != nil {
			return fmt.Errorf("redistest: form a cluster: %w", err)
		}
	}
	if err := c.everyNode("acquaintance with all nodes", c.knowsAll); err != nil {
		return err
	}
	for i, s := range c.Nodes[c.Masters:] {
		if err := s.waitFor("its master", func(ctx context.Context, rdb *redis.Client) error {
			return rdb.ClusterReplicate(ctx, c.ids[i%c.Masters]).Err()
		}); err != nil {
			return err
		}
	}
	for _, s := range c.Nodes[c.Masters:] {
		if err := s.waitFor("the link to its master", linked); err != nil {
			return err
		}
	}
	if err := c.everyNode("a cluster that is up", func(ctx context.Context, rdb *redis.Client) error {
		return c.complete(ctx, rdb)
	}); err != nil {
		return err
	}
	return c.carries(ctx)
}

// do calls f with a client for the time of the call.
func (s *Server) do(f func(*redis.Client) error) error {
	rdb := redis.NewClient(s.Options())
	defer rdb.Close()
	return f(rdb)
}

// everyNode waits until f succeeds for each running node.
func (c *Cluster) everyNode(what string, f func(context.Context, *redis.Client) error) error {
	for _, s := range c.Nodes {
		if !s.Running() {
			continue
		}
		if err := s.waitFor(what, f); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) knowsAll(ctx context.Context, rdb *redis.Client) error {
	nodes, err := rdb.ClusterNodes(ctx).Result()
	if err != nil {
		return err
	}
	if n := strings.Count(nodes, "\n"); n != len(c.Nodes) || strings.Contains(nodes, "handshake") {
		return fmt.Errorf("%d nodes known of %d:\n%s", n, len(c.Nodes), nodes)
	}
	return nil
}

// complete checks that a node considers the cluster up, and that every slot has the master and
// as many replicas as it should.
func (c *Cluster) complete(ctx context.Context, rdb *redis.Client) error {
	info, err := rdb.ClusterInfo(ctx).Result()
	if err != nil {
		return err
	}
	if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_slots_ok:%d", slots)) {
		return errors.New(info)
	}
	for i := range c.Masters {
		nodes, err := c.share(ctx, rdb, i)
		if err != nil {
			return err
		}
		if len(nodes) != 1+c.config.replicas || !hasMaster(nodes, c.ids[i]) {
			return fmt.Errorf("the slots of node %d are with %v", i, nodes)
		}
	}
	return nil
}

// first returns the first slot of master i: they are shared as redis-cli shares them.
func (c *Cluster) first(i int) int { return (2*i*slots + c.Masters) / (2 * c.Masters) }

// share returns the nodes that hold the slots which node i had at the start.
func (c *Cluster) share(ctx context.Context, rdb *redis.Client, i int) ([]redis.Node, error) {
	shards, err := rdb.ClusterShards(ctx).Result()
	if err != nil {
		return nil, err
	}
	want := redis.SlotRange{Start: int64(c.first(i)), End: int64(c.first(i+1) - 1)}
	for _, s := range shards {
		if slices.Contains(s.Slots, want) {
			return s.Nodes, nil
		}
	}
	return nil, fmt.Errorf("no node has slots %d to %d: %v", want.Start, want.End, shards)
}

func hasMaster(nodes []redis.Node, id string) bool {
	return slices.ContainsFunc(nodes, func(n redis.Node) bool { return n.ID == id && n.Role == "master" })
}

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, s := range c.Nodes {
		addrs[i] = s.Addr()
	}
	return addrs
}

// URL returns a URL for cache.NewClient that names all nodes. With TLS it leaves
// the certificates unverified, as a URL can't name an authority.
func (c *Cluster) URL() string {
	hosts := strings.Join(c.Addrs(), ",")
	if len(c.Nodes) == 1 {
		return c.config.writeURL("redis", hosts, "", map[string][]string{"cluster": {"true"}})
	}
	return c.config.writeURL("redis", hosts, "", nil)
}

// Options returns those of a client that obeys contexts, does not retry and has
// timeouts of a few seconds. They are the caller's to change.
func (c *Cluster) Options() *redis.ClusterOptions {
	o := c.Nodes[0].Options()
	return &redis.ClusterOptions{
		Addrs:                    c.Addrs(),
		Password:                 o.Password,
		ContextTimeoutEnabled:    o.ContextTimeoutEnabled,
		MaxRetries:               o.MaxRetries,
		DialerRetries:            o.DialerRetries,
		DialTimeout:              o.DialTimeout,
		ReadTimeout:              o.ReadTimeout,
		WriteTimeout:             o.WriteTimeout,
		TLSConfig:                o.TLSConfig,
		MaintNotificationsConfig: o.MaintNotificationsConfig,
	}
}

// Client returns a client with [Cluster.Options] that is closed at the end of the
// test.
func (c *Cluster) Client(tb testing.TB) *redis.ClusterClient {
	return closeAfter(tb, redis.NewClusterClient(c.Options()))
}

// Failover makes the first replica of node i the master of its slots, in order if node i runs,
// otherwise by force, waits until all running nodes have received the change, and returns the
// new master. The cluster must have replicas.
func (c *Cluster) Failover(tb testing.TB, i int) *Server {
	tb.Helper()
	s, err := c.failover(i)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func (c *Cluster) failover(i int) (*Server, error) {
	if i < 0 || i >= c.Masters || c.config.replicas == 0 {
		return nil, fmt.Errorf("redistest: node %d has no replica", i)
	}
	s := c.Nodes[c.Masters+i]
	command := []any{"cluster", "failover"}
	if !c.Nodes[i].Running() {
		command = append(command, "force")
	}
	if err := s.waitFor("the failover", func(ctx context.Context, rdb *redis.Client) error {
		// The command is refused while a failover is in progress, and has no effect if the
		// others don't vote for it: it is repeated.
		_ = rdb.Do(ctx, command...).Err()
		return isMaster(ctx, rdb)
	}); err != nil {
		return nil, err
	}
	return s, c.everyNode("the news of the failover", func(ctx context.Context, rdb *redis.Client) error {
		nodes, err := c.share(ctx, rdb, i)
		if err != nil {
			return err
		}
		if !hasMaster(nodes, c.ids[c.Masters+i]) {
			return fmt.Errorf("the slots are with %v", nodes)
		}
		return nil
	})
}

// linked checks that a replica follows its master.
func linked(ctx context.Context, rdb *redis.Client) error {
	role, err := rdb.Do(ctx, "role").Slice()
	if err != nil {
		return err
	}
	if len(role) < 4 || role[0] != "slave" || role[3] != "connected" {
		return fmt.Errorf("its role is %v", role)
	}
	return nil
}

func isMaster(ctx context.Context, rdb *redis.Client) error {
	role, err := rdb.Do(ctx, "role").Slice()
	if err != nil {
		return err
	}
	if len(role) == 0 || role[0] != "master" {
		return fmt.Errorf("its role is %v", role)
	}
	return nil
}
