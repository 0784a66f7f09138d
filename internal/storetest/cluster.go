package storetest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// memoryCluster is a Memory whose slots belong to several nodes. All keys are in one map all the same: a
// node carries out commands, publishes, and reports changes of the keys whose slots it has, to those
// that are subscribed at that node; see [ClusterClient].
//
// As in a cluster, each node has a layout of its own. The one that takes over slots knows it first, and
// the others when they [Memory.Learn]. A command with a key goes to the node that has the slot, since
// the others answer MOVED, or ASK.
type memoryCluster struct {
	layout  Layout // as it is
	nodes   []memoryNode
	unheard bool // the servers know no SPUBLISH
	bus     func(from, to int) (delay time.Duration, lost bool)
}

type memoryNode struct {
	layout  Layout // as this node knows it
	epoch   int    // cluster_current_epoch
	down    error  // it does not answer; see [Memory.SetDown]
	hangs   bool   // … nor refuse connections
	arrival []time.Time
}

// clusterState is the cluster size and epoch of CLUSTER INFO.
type clusterState struct{ size, epoch int }

func (n *memoryNode) state() clusterState {
	return clusterState{len(n.layout.nodesOf(store.SlotRange{Next: store.Slots})), n.epoch}
}

// Layout says which nodes have which slots, as redisstore's layout does.
type Layout []SlotOwner

// SlotOwner is a range of slots, and their node.
type SlotOwner struct {
	store.SlotRange
	Node int
}

// Owner returns the node that has a slot.
func (l Layout) Owner(slot int) int {
	for _, r := range l {
		if r.HasSlot(slot) {
			return r.Node
		}
	}
	return -1
}

// nodesOf returns the nodes that have some of the slots.
func (l Layout) nodesOf(slots store.SlotRange) (nodes []int) {
	for _, r := range l {
		if r.Meets(slots) {
			nodes = append(nodes, r.Node)
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// sameFor stands for that of redisstore's layout.
func (l Layout) sameFor(node int, o Layout) bool {
	for i := range store.Parts {
		was, is := l.nodesOf(store.PartSlots(i)), o.nodesOf(store.PartSlots(i))
		if (slices.Contains(was, node) || slices.Contains(is, node)) && !slices.Equal(was, is) {
			return false
		}
	}
	return true
}

// With returns the layout after slots have moved to a node.
func (l Layout) With(slots store.SlotRange, to int) Layout {
	next := Layout{{slots, to}}
	for _, r := range l {
		for _, rest := range []store.SlotRange{{First: r.First, Next: min(r.Next, slots.First)}, {First: max(r.First, slots.Next), Next: r.Next}} {
			if rest.First < rest.Next {
				next = append(next, SlotOwner{rest, r.Node})
			}
		}
	}
	slices.SortFunc(next, func(a, b SlotOwner) int { return cmp.Compare(a.First, b.First) })
	return next
}

// SetCluster makes m a cluster of so many nodes, all of which know the layout. unheard: their servers are
// older than Redis 7.0, and know no SPUBLISH. bus is called, with a lock held, for each message that one node passes on to another.
func (m *Memory) SetCluster(nodes int, l Layout, unheard bool, bus func(from, to int) (delay time.Duration, lost bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cluster = &memoryCluster{layout: l, nodes: make([]memoryNode, nodes), unheard: unheard, bus: bus}
	for i := range m.cluster.nodes {
		m.cluster.nodes[i] = memoryNode{layout: l, arrival: make([]time.Time, nodes)}
	}
}

// NodeOf returns the node that has a key.
func (m *Memory) NodeOf(key string) int { return m.OwnerOf(store.SlotOf(key)) }

// OwnerOf returns the node that has a slot.
func (m *Memory) OwnerOf(slot int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cluster.layout.Owner(slot)
}

// NodesOf returns the nodes that have some of the slots.
func (m *Memory) NodesOf(slots store.SlotRange) []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cluster.layout.nodesOf(slots)
}

// Move has a node take over slots, with their keys, as after MIGRATE and CLUSTER SETSLOT NODE on that
// node. newEpoch: it did not have the latest epoch, and takes a new one.
func (m *Memory) Move(slots store.SlotRange, to int, newEpoch bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, before := m.cluster, m.cluster.layout
	c.layout = before.With(slots, to)
	for key := range m.data {
		if slot := store.SlotOf(key); slots.HasSlot(slot) && before.Owner(slot) != to {
			m.changedAtLocked(key, before.Owner(slot)) // removed there
			m.changedAtLocked(key, to)
		}
	}
	n := &c.nodes[to]
	n.layout = c.layout
	if newEpoch {
		for i := range c.nodes {
			n.epoch = max(n.epoch, c.nodes[i].epoch)
		}
		n.epoch++
	}
}

// Learn has a node learn how the slots are distributed by now. It tells those that have subscribed by
// SSUBSCRIBE to a channel whose slot it no longer has.
func (m *Memory) Learn(node int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &m.cluster.nodes[node]
	n.layout = m.cluster.layout
	for i := range m.cluster.nodes {
		n.epoch = max(n.epoch, m.cluster.nodes[i].epoch)
	}
	for _, ln := range m.listeners.all {
		if ln.at != nil && ln.at.node == node && ln.at.sharded && !m.ownsLocked(node, ln.Channel) {
			ln.err = errMoved // see listenConn.run
			ln.wakeUp()
		}
	}
}

// SetDown has a node not answer, until err is nil. Those that are subscribed at it hear nothing. hangs: a new connection is not refused, but gets no answer.
func (m *Memory) SetDown(node int, err error, hangs bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cluster.nodes[node].down, m.cluster.nodes[node].hangs = err, hangs
}

// CutNode ends every Listen at a node.
func (m *Memory) CutNode(node int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ln := range m.listeners.all {
		if ln.at != nil && ln.at.node == node {
			ln.err = err
			ln.wakeUp()
		}
	}
}

// downFor reports whether the node of a key does not answer.
func (m *Memory) downFor(key string) bool {
	if m.cluster == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cluster.nodes[m.cluster.layout.Owner(store.SlotOf(key))].down != nil
}

// ownsLocked reports whether a node has the slot of a channel, as far as it knows.
func (m *Memory) ownsLocked(node int, channel string) bool {
	return m.cluster.nodes[node].layout.Owner(store.SlotOf(channel)) == node
}

// PublishAt is Publish by way of a node, which answers MOVED if it knows that another one has the slot of the
// channel: that is a key of the script. See redisstore's Publish.
func (m *Memory) PublishAt(ctx context.Context, node int, t store.Notify) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for hops := 0; ; hops++ {
		if err := cmp.Or(ctx.Err(), m.fail, m.cluster.nodes[node].down); err != nil {
			return err
		}
		if m.ownsLocked(node, t.Channel) {
			break
		}
		if hops == len(m.cluster.nodes) {
			return errMoved
		}
		node = m.cluster.nodes[node].layout.Owner(store.SlotOf(t.Channel))
	}
	m.publishAtLocked(node, t)
	if t.Wide {
		t.Channel = store.ControlChannel(t.Channel)
		m.publishAtLocked(node, t)
	}
	return nil
}

// publishAtLocked stands for redisstore's shardedPublish, and for the plain PUBLISH.
func (m *Memory) publishAtLocked(node int, t store.Notify) {
	c := m.cluster
	receives := func(ln *memoryListener) bool {
		return ln.at != nil && (ln.Channel == t.Channel || m.listeners.receives(ln, t.Channel))
	}
	if t.Sharded && !c.unheard && m.ownsLocked(node, t.Channel) {
		heard, present := false, false
		for _, ln := range m.listeners.all {
			if ln.at == nil || ln.at.node != node || !ln.at.sharded {
				continue
			}
			present = present || store.PresenceChannel(ln.Channel) == store.PresenceChannel(t.Channel)
			if receives(ln) {
				m.deliverLocked(ln, Delivery{Kind: DeliverMessage, Text: t.Message}, 0)
				heard = true
			}
		}
		if heard || present {
			return
		}
	}
	reached := make([][]*memoryListener, len(c.nodes))
	for _, ln := range m.listeners.all {
		if receives(ln) {
			reached[ln.at.node] = append(reached[ln.at.node], ln)
		}
	}
	for to, all := range reached {
		if to == node {
			for _, ln := range all {
				m.deliverLocked(ln, Delivery{Kind: DeliverMessage, Text: t.Message}, 0)
			}
			continue
		}
		if len(all) > 0 {
			m.passOnLocked(node, to, t, receives)
		}
	}
}

// passOnLocked has one node pass a message on to another, over the bus.
func (m *Memory) passOnLocked(from, to int, t store.Notify, receives func(*memoryListener) bool) {
	c := m.cluster
	delay, lost := c.bus(from, to)
	if lost {
		return
	}
	due := time.Now().Add(delay)
	if last := c.nodes[to].arrival[from]; !due.After(last) {
		due = last.Add(1) // in order
	}
	c.nodes[to].arrival[from] = due
	time.AfterFunc(time.Until(due), func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if c.nodes[to].down != nil {
			m.passOnLocked(from, to, t, receives)
			return
		}
		for _, ln := range m.listeners.all {
			if receives(ln) && ln.at.node == to {
				m.deliverLocked(ln, Delivery{Kind: DeliverMessage, Text: t.Message}, 0)
			}
		}
	})
}
