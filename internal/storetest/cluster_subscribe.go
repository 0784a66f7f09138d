package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// ClusterClient is what a process knows of a [Memory] that is a cluster. It stands for what redisstore
// and go-redis do for it: there are two layouts, and both may be old.
type ClusterClient struct {
	m       *Memory
	ask     func() (node int)
	latency func() time.Duration

	mu      sync.Mutex // guards what follows
	known   Layout     // redisstore's knownLayout
	at      time.Time
	doubted bool
	state   Layout // of go-redis' client, by which it finds the nodes
	reload  bool   // in progress

	sessions map[sessionKey]*clusterSession // that can be joined; Memory.mu guards it
}

// sessionKey is what subscriptions have in common that share a session with a node.
type sessionKey struct {
	node, id        int // at which it is, and which that should be
	tracking, byKey bool
}

// clusterSession stands for redisstore's session with a node of a cluster, which the subscriptions of
// several parts share. Memory.mu guards it.
type clusterSession struct {
	key       sessionKey
	layout    Layout // of its first listener
	listeners []*memoryListener
	state     clusterState // at which the node has confirmed the layout
	looked    time.Time
}

// Times of redisstore.
const (
	layoutLife   = time.Second
	layoutPause  = 200 * time.Millisecond
	mastersPause = 5 * time.Second
)

var errMoved = errors.New("storetest: the masters have changed")

// NewClusterClient returns a client. ask returns the node that is to answer when a layout is read; that
// of one that does not answer is an error.
func (m *Memory) NewClusterClient(ask func() (node int), latency func() time.Duration) *ClusterClient {
	c := &ClusterClient{m: m, ask: ask, latency: latency, sessions: map[sessionKey]*clusterSession{}}
	m.mu.Lock()
	defer m.mu.Unlock()
	c.state = m.cluster.nodes[ask()].layout
	return c
}

// layoutAt asks a node for the layout.
func (c *ClusterClient) layoutAt() (Layout, error) {
	node := c.ask()
	time.Sleep(c.latency())
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	n := &c.m.cluster.nodes[node]
	return n.layout, n.down
}

// readLayout stands for redisstore's, beside that each caller reads by itself.
func (c *ClusterClient) readLayout() (Layout, error) {
	c.mu.Lock()
	age, doubted, known := time.Since(c.at), c.doubted, c.known
	c.mu.Unlock()
	if age < layoutPause || age < layoutLife && !doubted {
		return known, nil
	}
	l, err := c.layoutAt()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.at, c.doubted = l, time.Now(), false
	return l, nil
}

// doubt stands for redisstore's doubtLayout.
func (c *ClusterClient) doubt() {
	c.mu.Lock()
	c.doubted = true
	c.mu.Unlock()
	c.Reload()
}

// Reload has go-redis' client read the layout, a moment later, as its LazyReload does.
func (c *ClusterClient) Reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reload {
		return
	}
	c.reload = true
	go func() {
		l, err := c.layoutAt()
		time.Sleep(layoutPause)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.reload = false; err == nil {
			c.state = l
		}
	}()
}

// Endpoint returns the node that go-redis' client takes to have the slot of a key.
func (c *ClusterClient) Endpoint(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Owner(store.SlotOf(key))
}

// plan stands for redisstore's listenNodes.
func (c *ClusterClient) plan(slots store.SlotRange) (nodes []*listenNode, err error) {
	l, err := c.readLayout()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	type name struct{ addr, id int }
	there := map[name]bool{}
	for _, r := range l {
		if !r.Meets(slots) {
			continue
		}
		n := name{c.state.Owner(max(r.First, slots.First)), r.Node}
		if !there[n] {
			there[n] = true
			nodes = append(nodes, &listenNode{node: n.addr, id: n.id, layout: l})
		}
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("storetest: no node has the slots %v", slots)
	}
	return nodes, nil
}

// listenNode is the node of a listener, as redisstore's listenMaster and member are.
type listenNode struct {
	node   int // at which it is
	id     int // which it should be
	layout Layout

	// Memory.mu guards the fields below.
	session *clusterSession
	sharded bool // it has subscribed by SSUBSCRIBE, to the channel of presence as well
	again   bool // another round is due
}

// Subscribe stands for redisstore's subscribeToNodes: it is subscribed at each node that has some of the
// slots, and ends with the first of them.
func (c *ClusterClient) Subscribe(ctx context.Context, l store.Subscription, sink store.Subscriber) error {
	if err := l.Check(); err != nil {
		return err
	}
	nodes, err := c.plan(l.Slots)
	if err != nil {
		return err
	}
	of := &merged{sink: sink, left: len(nodes), sent: make([]time.Time, len(nodes))}
	some, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(nodes))
	for i, n := range nodes {
		go func() { errs <- c.listenAt(some, l, n, &mergedNode{of, i}) }()
	}
	err = <-errs
	cancel()
	for range nodes[1:] {
		<-errs
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.doubt()
	return err
}

// listenAt is the part of a subscription in the session with a node.
func (c *ClusterClient) listenAt(ctx context.Context, l store.Subscription, n *listenNode, sink *mergedNode) error {
	m := c.m
	if err := sleep(ctx, c.latency()); err != nil {
		return err
	}
	m.mu.Lock()
	down, hangs := m.cluster.nodes[n.node].down, m.cluster.nodes[n.node].hangs
	m.mu.Unlock()
	if down != nil && hangs {
		if err := sleep(ctx, l.HeartbeatTimeout); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w", store.ErrHeartbeatTimeout, down)
	}
	if down != nil {
		return down
	}
	ln := &memoryListener{Subscription: l, at: n, wake: make(chan struct{}, 1)}
	if err := c.join(ln); err != nil {
		return err
	}
	err := m.listen(ctx, ln, sink)
	c.leave(ln, err, ctx.Err() != nil)
	return err
}

// join stands for redisstore's, and session.add: the listener joins the session with its node, or begins
// one. Of two that disagree about the layout, one has not noticed yet.
func (c *ClusterClient) join(ln *memoryListener) error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	n := ln.at
	key := sessionKey{n.node, n.id, ln.Tracking, ln.ByKey}
	s := c.sessions[key]
	if s != nil && !s.same(n.layout, ln) {
		c.endLocked(s, errMoved)
		s = nil
	}
	if s == nil {
		s = &clusterSession{key: key, layout: n.layout, looked: time.Now()}
		c.sessions[key] = s
	}
	s.listeners = append(s.listeners, ln)
	n.session, n.sharded = s, !c.m.cluster.unheard && s.has(s.layout, ln)
	if n.sharded && !c.m.ownsLocked(n.node, ln.Channel) {
		c.endLocked(s, errMoved) // SSUBSCRIBE is answered by MOVED
		return errMoved
	}
	return nil
}

// leave is called when a listener has ended. The session ends with it, unless it has left by itself.
func (c *ClusterClient) leave(ln *memoryListener, err error, left bool) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	s := ln.at.session
	s.listeners = slices.DeleteFunc(slices.Clone(s.listeners), func(o *memoryListener) bool { return o == ln })
	if !left || len(s.listeners) == 0 {
		c.endLocked(s, err)
	}
}

func (c *ClusterClient) endLocked(s *clusterSession, err error) {
	if c.sessions[s.key] == s {
		delete(c.sessions, s.key)
	}
	s.endLocked(err)
}

func (s *clusterSession) endLocked(err error) {
	for _, ln := range s.listeners {
		ln.err = err
		ln.wakeUp()
	}
}

// has stands for that of redisstore's member.
func (s *clusterSession) has(l Layout, ln *memoryListener) bool {
	return l.Owner(store.SlotOf(ln.Channel)) == s.key.id
}

// same stands for redisstore's member.compare.
func (s *clusterSession) same(l Layout, others ...*memoryListener) bool {
	if !s.layout.sameFor(s.key.id, l) {
		return false
	}
	for _, ln := range append(others, s.listeners...) {
		if s.has(s.layout, ln) != s.has(l, ln) {
			return false
		}
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// confirmLocked stands for redisstore's memberPulse and member.confirm, before each heartbeat, and for
// sameMasters: it ends a session whose node says that the slots have moved, and reports whether the node
// publishes the heartbeat. Memory.mu is held.
func (m *Memory) confirmLocked(ln *memoryListener) bool {
	if ln.at == nil {
		return true
	}
	s := ln.at.session
	node := &m.cluster.nodes[s.key.node]
	if node.down != nil {
		return false
	}
	look := time.Since(s.looked) >= mastersPause
	if node.state() == s.state && !look {
		return true
	}
	if look {
		s.looked = time.Now()
	}
	if !s.same(node.layout) || s.key.id != s.key.node {
		s.endLocked(errMoved)
		return false
	}
	s.state = node.state()
	return true
}

// merged stands for that of redisstore.
type merged struct {
	sink store.Subscriber

	mu    sync.Mutex // guards what follows
	left  int
	since time.Time
	sent  []time.Time
	again []func()
}

type mergedNode struct {
	of *merged
	at int
}

// joins is called before Subscribed.
func (m *mergedNode) joins(again func()) {
	m.of.mu.Lock()
	defer m.of.mu.Unlock()
	m.of.again = append(m.of.again, again)
}

func (m *mergedNode) Subscribed() {
	m.of.mu.Lock()
	defer m.of.mu.Unlock()
	if m.of.left--; m.of.left == 0 {
		m.of.sink.Subscribed()
		m.of.since = time.Now()
		for _, again := range m.of.again {
			again()
		}
	}
}

func (m *merged) on() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left == 0
}

func (m *mergedNode) Message(payload string) {
	if m.of.on() {
		m.of.sink.Message(payload)
	}
}

func (m *mergedNode) KeysChanged(keys []string) {
	if m.of.on() {
		m.of.sink.KeysChanged(keys)
	}
}

func (m *mergedNode) Heartbeat(sent time.Time) {
	o := m.of
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left > 0 || sent.Before(o.since) {
		return
	}
	o.sent[m.at] = sent
	for _, t := range o.sent {
		if t.IsZero() {
			return
		}
		if t.Before(sent) {
			sent = t
		}
	}
	o.sink.Heartbeat(sent)
}

func (m *mergedNode) Watch() []string {
	if w, ok := m.of.sink.(store.WatchingSubscriber); ok && m.at == 0 && m.of.on() {
		return w.Watch()
	}
	return nil
}

func (m *mergedNode) Watched(recs []store.Record) {
	m.of.sink.(store.WatchingSubscriber).Watched(recs)
}

// mendLocked stands for that of redisstore's tracks: what was not sent on a lane of the node that has the
// key is reported as a change, if its reader may keep what it got. Memory.mu is held.
func (m *Memory) mendLocked(ctx context.Context, c *store.Command, r *store.Reply) {
	if m.cluster == nil {
		return
	}
	var all []*memoryListener
	for _, ln := range m.listeners.all {
		switch {
		case !ln.reads(ctx, c.Key):
		case ln.at.node == m.cluster.layout.Owner(store.SlotOf(c.Key)):
			return
		default:
			all = append(all, ln)
		}
	}
	if len(all) == 0 {
		return
	}
	if c.Op == store.GetHeader && r.Err == nil {
		*r = store.Reply{Err: errNoLane}
	}
	if r.Err != nil {
		return
	}
	if c.Op == store.Get || c.Op == store.SetNX && !r.OK {
		if r.Record.State != store.Found || store.IsLease(r.Record.Raw) {
			return
		}
	}
	for _, ln := range all {
		m.deliverLocked(ln, Delivery{Kind: DeliverChange, Text: c.Key}, 0)
	}
}

var errNoLane = errors.New("storetest: no tracked connection to this node")
