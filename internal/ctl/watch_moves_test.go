package ctl_test

import (
	"testing"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// A watch goes on when the slot of a channel moves, with the node that has it now.
func TestAWatchFollowsASlot(t *testing.T) {
	cluster := redistest.StartCluster(t, 2)
	u := &user{t: t, prefix: "p:", connect: func() redis.UniversalClient { return cluster.Client(t) }}
	channel := store.NewNames("p:", "n").Parted(true)[0].Channel
	w := u.watch("n", "-json")
	if e := w.next(); e.Event != "connected" {
		t.Fatalf("first: %+v", e)
	}
	from, to := cluster.Nodes[0].Client(t), cluster.Nodes[1].Client(t)
	ids := [2]string{from.ClusterMyID(t.Context()).Val(), to.ClusterMyID(t.Context()).Val()}
	slot := store.SlotOf(channel)
	for _, o := range []struct {
		node *redis.Client
		args []any
	}{
		{to, []any{"cluster", "setslot", slot, "importing", ids[0]}},
		{to, []any{"cluster", "setslot", slot, "node", ids[1]}},
		{from, []any{"cluster", "setslot", slot, "node", ids[1]}},
	} {
		if err := o.node.Do(t.Context(), o.args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if e := w.next(); e.Event != "lost" {
		t.Fatalf("the slot has moved: %+v", e)
	}
	for e := w.next(); e.Event != "connected"; e = w.next() {
		if e.Event != "lost" {
			t.Fatalf("after that: %+v", e)
		}
	}
}
