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

func TestSlotsMayMoveWithinTheirPartButNotToAnotherMaster(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		cluster := redistest.StartCluster(t, 2)
		s := newReal(t, cluster.Client(t))
		h := listen(t, s, with(steady("news")))
		h.expectKind(t, "alive")
		nodes := []*redis.Client{cluster.Nodes[0].Client(t), cluster.Nodes[1].Client(t)}
		epoch := agree(t, nodes, "")

		moved := func(what string) {
			t.Helper()
			if err := h.end(t); errors.Is(err, store.ErrHeartbeatTimeout) || !strings.Contains(fmt.Sprint(err), "masters have changed") {
				t.Errorf("%s: %v", what, err)
			}
		}
		giveSlot(t, cluster, 1, 0, 8192) // 0 is of an older epoch than 1, and gets a new one
		agree(t, nodes, epoch)
		moved("a master that has a slot of another part") // which it had none of

		h = hearAlive(t, s, with(steady("news")))
		giveSlot(t, cluster, 1, 0, 8193)
		h.aliveSince(t, time.Now())
		h.aliveSince(t, time.Now())

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

// A part of the keys may have slots of two nodes: what each of them publishes is received from it, and the
// session ends with either.
func TestASubscriptionToSlotsOfTwoNodes(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		cluster := redistest.StartCluster(t, 2)
		nodes := []*redis.Client{cluster.Nodes[0].Client(t), cluster.Nodes[1].Client(t)}
		epoch := agree(t, nodes, "")
		giveSlot(t, cluster, 1, 0, 8192)
		agree(t, nodes, epoch)
		s := newReal(t, cluster.Client(t))
		part := store.NewNames("", "c").Parted(true)[store.PartOf(store.SlotTag(8192))]
		l := with(steady(part.Channel))
		l.Slots = part.Slots
		h := hearAlive(t, s, l)
		for i, slot := range []int{8192, 8193} { // of node 0, and of node 1, which has the slot of the channel
			for range 3 {
				m := fmt.Sprint("of node ", i)
				publishWith(t, s, store.SlotTag(slot), store.Notify{Channel: part.Channel, Message: m, Sharded: true})
				h.expectText(t, "message", m)
			}
		}
		h.aliveSince(t, time.Now())
		h.checkOrder(t)
		cluster.Nodes[0].Kill()
		if err := h.end(t); err == nil {
			t.Error("the session has ended without an error")
		}
	})
}

// publishWith has a node publish a message with the write of a key.
func publishWith(t *testing.T, s store.Store, key string, n store.Notify) {
	t.Helper()
	if r := s.Do(t.Context(), []store.Command{{Op: store.Set, Key: key, Frame: frame("v"), Notify: n}})[0]; !ok(r) {
		t.Fatalf("%+v", r)
	}
}

// Nodes before Redis 7.0 have no sharded channels: they publish as ever, and what a node publishes is
// received from it.
func TestAClusterWithoutShardedChannels(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, redistest.Args("--rename-command", "SSUBSCRIBE", "", "--rename-command", "SPUBLISH", "", "--rename-command", "SUNSUBSCRIBE", ""))
	s := newReal(t, cluster.Client(t))
	for i, part := range store.NewNames("", "c").Parted(true) {
		l := steady(part.Channel)
		l.Slots, l.Waiter = part.Slots, "waiter01"
		h := listen(t, s, l)
		h.expectKind(t, "alive")
		m := fmt.Sprint("of part ", i)
		publishWith(t, s, store.SlotTag(part.Slots.First), store.Notify{Channel: part.Channel, Message: m, Sharded: true})
		h.expectText(t, "message", m)
		if err := s.Publish(t.Context(), store.Notify{Channel: part.Channel, Message: "wide " + m, Wide: true, Sharded: true}); err != nil {
			t.Fatal(err)
		}
		h.expectText(t, "message", "wide "+m)
		h.stop()
		if err := h.end(t); !errors.Is(err, context.Canceled) {
			t.Errorf("part %d: %v", i, err)
		}
	}
}

// While a slot moves, a key of it may be at the node that it moves to, which has none of the channel's
// subscriptions: its message goes over the bus. It does not where sessions are present that do not
// receive the channel.
func TestWhatReceivesNoneIsPublishedEverywhere(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2)
	client := cluster.Client(t)
	s := newReal(t, client)
	part := store.NewNames("", "c").Parted(true)[0]
	l := steady(part.Channel)
	l.Slots = part.Slots
	h := listen(t, s, l)
	h.expectKind(t, "alive")
	key := "{" + store.SlotTag(store.SlotOf(part.Channel)) + "}k"
	send := func(message string) {
		t.Helper()
		publishWith(t, s, key, store.Notify{Channel: part.Channel, Message: message, Sharded: true})
	}
	send("before")
	h.expectText(t, "message", "before")

	// The other node, by itself: nothing has subscribed to the channel there.
	everywhere := client.Subscribe(t.Context(), part.Channel+":c")
	t.Cleanup(func() { everywhere.Close() })
	if _, err := everywhere.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(t.Context(), store.Notify{Channel: part.Channel, Message: "wide", Wide: true, Sharded: true}); err != nil {
		t.Fatal(err)
	}
	h.expectText(t, "message", "wide")
	if err := client.Publish(t.Context(), part.Channel+":c", "end").Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := everywhere.ReceiveMessage(t.Context()); err != nil || got.Payload != "end" {
		t.Errorf("a session is present, and the control channel has got %v, %v by the bus", got, err)
	}

	m := newMigration(t, cluster, client, key)
	m.begin(t)
	m.move(t, key)
	send("at the other node")
	h.expectText(t, "message", "at the other node")
	if err := s.Publish(t.Context(), store.Notify{Channel: part.Channel, Message: "wide there", Wide: true, Sharded: true}); err != nil {
		t.Fatal(err)
	}
	h.expectText(t, "message", "wide there")
	if got, err := everywhere.ReceiveMessage(t.Context()); err != nil || got.Payload != "wide there" {
		t.Errorf("no session is present, and the control channel has got %v, %v", got, err)
	}
}

// Where two nodes share a part, the slot of its channel may move from one to the other, which changes nothing
// else: who has subscribed at the former one begins anew.
func TestTheSlotOfAChannelMoves(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		cluster := redistest.StartCluster(t, 2)
		nodes := []*redis.Client{cluster.Nodes[0].Client(t), cluster.Nodes[1].Client(t)}
		epoch := agree(t, nodes, "")
		giveSlot(t, cluster, 1, 0, 8192)
		agree(t, nodes, epoch)
		s := newReal(t, cluster.Client(t))
		part := store.NewNames("", "c").Parted(true)[store.PartOf(store.SlotTag(8192))]
		l := with(steady(part.Channel))
		l.Slots = part.Slots
		h := hearAlive(t, s, l)
		slot := store.SlotOf(part.Channel)
		giveSlot(t, cluster, 1, 0, slot)
		if err := h.end(t); !strings.Contains(fmt.Sprint(err), "masters have changed") {
			t.Errorf("the slot of the channel has moved: %v", err)
		}
		h = hearAlive(t, s, l)
		for _, of := range []int{slot, 8193} { // of node 0, which has the slot of the channel, and of node 1
			m := fmt.Sprint("of slot ", of)
			publishWith(t, s, store.SlotTag(of), store.Notify{Channel: part.Channel, Message: m, Sharded: true})
			h.expectText(t, "message", m)
		}
	})
}
