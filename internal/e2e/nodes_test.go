package e2e_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/redis/go-redis/v9"
)

// receiving are the transports by which changes are received.
var receiving = map[string]invalidate.Transport{
	"broadcast": invalidate.Broadcast(), "tracking": invalidate.Tracking(), "tracking keys": invalidate.TrackingKeys(),
}

// keysByNode returns n keys of each master of a cluster, by its address.
func keysByNode(t *testing.T, cluster *redistest.Cluster, c *cache.Cache[string, string], n int) map[string][]string {
	t.Helper()
	client, keys := cluster.Client(t), map[string][]string{}
	for i, have := 0, 0; have < n*len(cluster.Nodes); i++ {
		k := fmt.Sprint([]string{"a", "b"}[i%2], i)
		m, err := client.MasterForKey(t.Context(), c.RedisKey(k))
		if err != nil {
			t.Fatal(err)
		}
		if addr := m.Options().Addr; len(keys[addr]) < n {
			keys[addr] = append(keys[addr], k)
			have++
		}
	}
	return keys
}

// A master that does not answer costs the local hits of its own keys only. Those of the others stay
// coherent: writes and invalidations by tag of other processes take effect.
func TestLocalHitsWithoutOneMaster(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"freeze", "kill"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			cluster := redistest.StartCluster(t, 3, redistest.Args("--cluster-node-timeout", "60000", "--cluster-require-full-coverage", "no", "--appendonly", "yes"))
			n := 0
			for name, transport := range receiving {
				t.Run(name, func(t *testing.T) {
					localHitsWithout(t, cluster, n%3, how == "kill", transport)
				})
				n++
			}
		})
	}
}

func localHitsWithout(t *testing.T, cluster *redistest.Cluster, i int, kill bool, transport invalidate.Transport) {
	ctx := t.Context()
	src := cache.SourceFunc(func(context.Context, string) (string, error) { return "source", nil })
	src.Tags = func(k string, _ string) []string { return []string{k[:1]} }
	open := func(client *redis.ClusterClient) *cache.Cache[string, string] {
		c, err := cache.NewFrom(client, t.Name(), src, others, discard, withLocal, cache.WithTransport(transport))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	c, other := open(cluster.Client(t)), open(cluster.Client(t))
	known := cluster.Client(t) // knows the cluster: the first node that it asks may be the one that does not answer
	if err := known.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	node := cluster.Nodes[i]
	byNode := keysByNode(t, cluster, c, 40)
	var keys []string
	for addr, some := range byNode {
		if addr != node.Addr() {
			keys = append(keys, some...)
		}
	}
	lost := byNode[node.Addr()]
	// all reads keys until the local tier answers for all of them, with what they are to hold.
	all := func(when string, keys []string, want func(k string) string) {
		t.Helper()
		for began := time.Now(); ; {
			before, wrong := c.Metrics().LocalHits, ""
			for _, k := range keys {
				v, err := c.Get(ctx, k)
				if err != nil {
					t.Fatalf("%s: %s: %v", when, k, err)
				}
				if v != want(k) {
					wrong = fmt.Sprintf("%s is %q", k, v)
				}
			}
			hits := c.Metrics().LocalHits - before
			if hits == uint64(len(keys)) && wrong == "" {
				return
			}
			if time.Since(began) > 30*time.Second {
				t.Fatalf("%s: %d local hits of %d reads; %s", when, hits, len(keys), wrong)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	source := func(string) string { return "source" }
	all("at first", append(append([]string{}, keys...), lost...), source)
	if _, err := other.Get(ctx, keys[0]); err != nil {
		t.Fatal(err)
	}
	back := node.Thaw
	if kill {
		node.Kill()
		back = node.Restart
	} else if err := node.Freeze(); err != nil {
		t.Fatal(err)
	}
	isBack := false
	defer func() {
		if !isBack {
			_ = back()
		}
	}()
	for c.Metrics().Listener == metrics.Up || other.Metrics().Listener == metrics.Up {
		all("while it is not noticed", keys, source)
	}
	for began := time.Now(); time.Since(began) < 4*time.Second; { // several times what a heartbeat is good for
		all("without a master", keys, source)
	}
	late := open(known) // begins while the master does not answer
	for i, k := range keys {
		if err := []*cache.Cache[string, string]{other, late}[i%2].Set(ctx, k, "new"); err != nil {
			t.Fatal(err)
		}
	}
	all("written", keys, func(string) string { return "new" })
	if err := other.InvalidateTags(ctx, "a"); err == nil {
		t.Error("a tag was invalidated on a master that does not answer")
	}
	tagged := func(k string) string {
		if k[0] == 'a' {
			return "source"
		}
		return "new"
	}
	all("invalidated", keys, tagged)
	isBack = true
	if err := back(); err != nil {
		t.Fatal(err)
	}
	if err := other.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	all("when it is back", lost, source)
	all("when it is back", keys, tagged)
}

// A write, and a miss, is no message on a cluster's bus, whatever the transport of those that receive
// it, nor is a heartbeat.
func TestNothingGoesOverTheBus(t *testing.T) {
	t.Parallel()
	for name, transport := range receiving {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := redistest.StartCluster(t, 3)
			ctx := t.Context()
			load := cache.SourceFunc(func(context.Context, string) (string, error) { return "source", nil })
			open := func(transport invalidate.Transport) *cache.Cache[string, string] {
				c, err := cache.NewFrom(cluster.Client(t), "bus", load, slowly, withLocal, cache.WithTransport(transport))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				return c
			}
			listener, writer := open(transport), open(transport)
			byNode := keysByNode(t, cluster, listener, 20)
			pass := func() {
				for _, some := range byNode {
					for _, k := range some {
						if _, err := listener.Get(ctx, k); err != nil {
							t.Fatal(err)
						}
						if err := writer.Set(ctx, k, "v"); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			pass()
			for _, c := range []*cache.Cache[string, string]{listener, writer} {
				for c.Metrics().Listener != metrics.Up {
					time.Sleep(10 * time.Millisecond)
				}
			}
			before := published(t, cluster)
			pass()
			time.Sleep(2 * time.Second) // some heartbeats
			if n := published(t, cluster) - before; n > 0 {
				t.Errorf("%d messages", n)
			}
			if err := writer.InvalidateTags(ctx, "tag"); err != nil {
				t.Fatal(err)
			}
			if n := published(t, cluster) - before; n > 0 {
				t.Errorf("an invalidation of a tag is %d messages", n)
			}
		})
	}
}

// published is how many messages of PUBLISH the nodes of a cluster have sent to each other.
func published(t *testing.T, cluster *redistest.Cluster) (n int) {
	t.Helper()
	for _, node := range cluster.Nodes {
		info, err := node.Client(t).ClusterInfo(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"publish_sent", "publishshard_sent"} {
			_, rest, ok := strings.Cut(info, "\ncluster_stats_messages_"+kind+":")
			if !ok {
				continue // none was
			}
			val, _, _ := strings.Cut(rest, "\r")
			sent, err := strconv.Atoi(val)
			if err != nil {
				t.Fatal(err)
			}
			n += sent
		}
	}
	return n
}
