package redisstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// A message is not published by a node that does not have the slot of the channel any more, as a client may
// believe that has not asked for a while: it may have left the cluster, and no process receives it from there.
func TestAMessageIsPublishedByTheNodeOfItsChannel(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2)
	ids := [2]string{}
	for i, node := range cluster.Nodes {
		id, err := node.Client(t).ClusterMyID(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = id
	}
	late := cluster.Client(t)
	if err := late.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() }); err != nil {
		t.Fatal(err)
	}
	writer := newReal(t, late)
	// As a node is removed: its slots go to another one, and it is forgotten, and forgets.
	for _, node := range cluster.Nodes {
		order(t, node, "delslotsrange", 0, 8191)
	}
	order(t, cluster.Nodes[1], "addslotsrange", 0, 8191)
	order(t, cluster.Nodes[1], "forget", ids[0])
	order(t, cluster.Nodes[0], "reset", "soft")
	o := cluster.Options()
	o.Addrs = []string{cluster.Nodes[1].Addr()}
	other := redis.NewClusterClient(o)
	t.Cleanup(func() { other.Close() })
	part := store.NewNames("", "c").Parted(true)[0]
	l := steady(part.Channel)
	l.Slots = part.Slots
	h := hearAlive(t, newReal(t, other), l)
	if err := writer.Publish(t.Context(), store.Notify{Channel: part.Channel, Message: "m", Sharded: true}); err != nil {
		t.Log("not published: ", err) // it is told, and may try again
		return
	}
	since := time.Now()
	h.aliveSince(t, since)
	h.aliveSince(t, since.Add(time.Second))
	if got := h.all("message"); len(got) != 1 {
		t.Errorf("published, and received: %v", got)
	}
}
