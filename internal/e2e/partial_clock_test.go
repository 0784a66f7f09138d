package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
)

// others is the timeout of a cache with a master that does not answer: the others are well, and may be
// busy.
var others = cache.WithTimeout(time.Second)

// While a master of a cluster does not answer, whichever it is, keys of the others are written, read
// from Redis and invalidated by tag as ever, by all kinds of caches and by those that only
// invalidate. When it is back, it is told what it has missed, and all is as before.
func TestAClusterWithoutOneMaster(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"freeze", "kill"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			// Without one of its masters the cluster is to go on: a failover would bring it back.
			cluster := redistest.StartCluster(t, 3, redistest.Args("--cluster-node-timeout", "60000", "--cluster-require-full-coverage", "no", "--appendonly", "yes"))
			for i := range 3 {
				for name, opts := range map[string][]cache.Option{"one tier": {cache.WithTransport(invalidate.NoTransport())}, "two tiers": {withLocal}} {
					t.Run(fmt.Sprint(i, " ", name), func(t *testing.T) { withoutMaster(t, cluster, i, how == "kill", opts) })
				}
			}
		})
	}
}

func withoutMaster(t *testing.T, cluster *redistest.Cluster, i int, kill bool, opts []cache.Option) {
	ctx, client, name := t.Context(), cluster.Client(t), fmt.Sprint("c", len(t.Name())*10+i)
	opts = append([]cache.Option{others, discard}, opts...)
	src := cache.SourceFunc(func(context.Context, string) (string, error) { return "source", nil })
	src.Tags = func(k string, _ string) []string { return []string{k[:1]} }
	c, err := cache.NewFrom(cluster.Client(t), name, src, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	outside, err := invalidate.NewClient(cluster.Client(t), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outside.Close() })
	// Its client knows the cluster before a master does not answer: the first node that it asks for
	// that may be this one.
	if err := outside.InvalidateTags(ctx, "none"); err != nil {
		t.Fatal(err)
	}
	node := cluster.Nodes[i]
	var keys, lost []string
	for n := 0; len(keys) < 200; n++ {
		k := fmt.Sprint([]string{"a", "b", "c"}[n%3], n)
		m, err := client.MasterForKey(ctx, c.RedisKey(k))
		if err != nil {
			t.Fatal(err)
		}
		if m.Options().Addr == node.Addr() {
			lost = append(lost, k)
		} else {
			keys = append(keys, k)
		}
	}
	for _, k := range append(keys, lost...) {
		if err := c.Set(ctx, k, "before"); err != nil {
			t.Fatal(err)
		}
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
	// Until then, what is missed may go unnoticed.
	for c.Metrics().Listener == metrics.Up {
		time.Sleep(10 * time.Millisecond)
	}
	reads := func(when string, want func(k string) string) {
		t.Helper()
		for _, k := range keys {
			if v, err := c.Get(ctx, k); v != want(k) || err != nil {
				t.Errorf("%s: Get of %s, a key of a master that answers: %q, %v", when, k, v, err)
			}
		}
	}
	reads("at first", func(string) string { return "before" })
	for _, k := range keys {
		if err := c.Set(ctx, k, "during"); err != nil {
			t.Errorf("Set of a key of a master that answers: %v", err)
		}
	}
	reads("written", func(string) string { return "during" })
	all := append([]string{}, keys...)
	got, err := c.GetMany(ctx, append(all, lost[0]))
	for _, k := range keys {
		if got[k] != "during" {
			t.Errorf("GetMany of %s, with one of a master that does not answer: %q, %v", k, got[k], err)
		}
	}
	// A tag is invalidated where that can be: the error says that it is not everywhere.
	invalidated := map[byte]bool{}
	for tag, invalidates := range map[string]func(context.Context, ...string) error{"a": c.InvalidateTags, "b": outside.InvalidateTags} {
		if err := invalidates(ctx, tag); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("InvalidateTags while a master does not answer: %v", err)
		}
		invalidated[tag[0]] = true
	}
	reads("invalidated", func(k string) string {
		if invalidated[k[0]] {
			return "source"
		}
		return "during"
	})
	isBack = true
	if err := back(); err != nil {
		t.Fatal(err)
	}
	if err := c.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	// What a cache could not tell the master it is told later. Who only invalidates calls again.
	if err := outside.InvalidateTags(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	for _, k := range lost {
		v, err := c.Get(ctx, k)
		if err != nil || v != "source" && (v != "before" || k[0] != 'c') {
			t.Errorf("Get of %s, whose master is back: %q, %v", k, v, err)
		}
	}
}
