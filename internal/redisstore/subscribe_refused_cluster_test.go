package redisstore_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// Where a node refuses the heartbeats, a subscription ends, also if the node does not have the slot of its
// channel, and the heartbeats are on that of another part.
func TestRefusedHeartbeatsOfAnotherPartEndASubscription(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2)
	nodes := []*redis.Client{cluster.Nodes[0].Client(t), cluster.Nodes[1].Client(t)}
	epoch := agree(t, nodes, "")
	giveSlot(t, cluster, 1, 0, 8192)
	agree(t, nodes, epoch)
	for i, node := range nodes {
		args := []any{"acl", "setuser", "app", "on", ">pw", "~*", "&*", "+@all"}
		if i == 0 {
			args = append(args, "resetchannels", "&other*")
		}
		if err := node.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	o := cluster.Options()
	o.Username, o.Password = "app", "pw"
	client := redis.NewClusterClient(o)
	t.Cleanup(func() { client.Close() })
	part := store.NewNames("", "c").Parted(true)[store.PartOf(store.SlotTag(8192))]
	l := steady(part.Channel)
	l.Slots = part.Slots
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := newReal(t, client).Subscribe(ctx, l, newEar()); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Error(err)
	}
	info, err := nodes[0].Info(t.Context(), "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, n, _ := strings.Cut(info, "total_connections_received:")
	n, _, _ = strings.Cut(n, "\r")
	t.Log("connections", n)
}
