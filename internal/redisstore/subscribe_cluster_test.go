package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// giveSlot has one master of a cluster give an empty slot to another.
func giveSlot(t *testing.T, cluster *redistest.Cluster, from, to, slot int) {
	t.Helper()
	ids := map[int]string{}
	for _, node := range []int{from, to} {
		id, err := cluster.Nodes[node].Client(t).ClusterMyID(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		ids[node] = id
	}
	// The new owner first: that it imports makes it take a new epoch.
	order(t, cluster.Nodes[to], "setslot", slot, "importing", ids[from])
	order(t, cluster.Nodes[to], "setslot", slot, "node", ids[to])
	order(t, cluster.Nodes[from], "setslot", slot, "node", ids[to])
}

// giveAll has one master give all slots but the first to another.
func giveAll(t *testing.T, cluster *redistest.Cluster, from, to int) {
	t.Helper()
	first, last := from*16384/len(cluster.Nodes), (from+1)*16384/len(cluster.Nodes)-1
	order(t, cluster.Nodes[from], "delslotsrange", first+1, last)
	order(t, cluster.Nodes[to], "delslotsrange", first+1, last)
	order(t, cluster.Nodes[to], "addslotsrange", first+1, last)
}

func order(t *testing.T, node *redistest.Server, args ...any) {
	t.Helper()
	if err := node.Client(t).Do(t.Context(), append([]any{"cluster"}, args...)...).Err(); err != nil {
		t.Fatal(args, err)
	}
}

// agree waits until all nodes are of one epoch, which is another than before.
func agree(t *testing.T, nodes []*redis.Client, before string) string {
	t.Helper()
	for began := time.Now(); time.Since(began) < enough; time.Sleep(10 * time.Millisecond) {
		epochs := map[string]bool{}
		var last string
		for _, node := range nodes {
			info, err := node.ClusterInfo(t.Context()).Result()
			if err != nil {
				t.Fatal(err)
			}
			_, epoch, _ := strings.Cut(info, "cluster_current_epoch:")
			last, _, _ = strings.Cut(epoch, "\r\n")
			epochs[last] = true
		}
		if len(epochs) == 1 && last != before {
			return last
		}
	}
	t.Fatal("the nodes do not agree")
	return ""
}

func TestSlotsMayMoveBetweenMastersButNotToAnother(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		cluster := redistest.StartCluster(t, 2)
		s := newReal(t, cluster.Client(t))
		h := listen(t, s, with(steady("news")))
		h.expectKind(t, "alive")
		nodes := []*redis.Client{cluster.Nodes[0].Client(t), cluster.Nodes[1].Client(t)}
		epoch := agree(t, nodes, "")

		giveSlot(t, cluster, 1, 0, 8192) // 0 is of an older epoch than 1, and gets a new one
		agree(t, nodes, epoch)
		h.aliveSince(t, time.Now())
		h.aliveSince(t, time.Now())

		moved := func(what string) {
			t.Helper()
			if err := h.end(t); errors.Is(err, store.ErrHeartbeatTimeout) || !strings.Contains(fmt.Sprint(err), "masters have changed") {
				t.Errorf("%s: %v", what, err)
			}
		}
		giveAll(t, cluster, 1, 0)
		moved("a master less")
		h = hearAlive(t, s, with(steady("news")))
		giveSlot(t, cluster, 0, 1, 0)
		moved("a master more")
	})
}

// asked counts the commands that ask a node about the cluster.
type asked struct{ n atomic.Int32 }

func (a *asked) DialHook(next redis.DialHook) redis.DialHook { return next }
func (a *asked) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (a *asked) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.String(), "cluster info") {
			a.n.Add(1)
		}
		return next(ctx, cmd)
	}
}

// A node confirms the list of masters and publishes the heartbeat in one script, which it is asked
// for first; where the user may not, the heartbeats go on.
func TestAHeartbeatOfAClusterIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2)
	for _, denied := range []bool{false, true} {
		for _, node := range cluster.Nodes {
			rules := []any{"acl", "setuser", "app", "on", ">pw", "~*", "&*", "+@all"}
			if denied {
				rules = append(rules, "-cluster|info")
			}
			if err := node.Client(t).Do(t.Context(), rules...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		o := cluster.Options()
		o.Username, o.Password = "app", "pw"
		c := redis.NewClusterClient(o)
		t.Cleanup(func() { c.Close() })
		questions := new(asked)
		c.OnNewNode(func(node *redis.Client) { node.AddHook(questions) })
		h := hearAlive(t, newReal(t, c), steady("news"))
		for range 20 {
			h.aliveSince(t, time.Now())
		}
		if n := int(questions.n.Load()); denied && n < 20 || !denied && n > 2*len(cluster.Nodes) {
			t.Errorf("denied: %v: nodes were asked %d times", denied, n)
		}
	}
}
