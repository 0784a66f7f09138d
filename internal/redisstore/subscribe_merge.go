package redisstore

import (
	"sync"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// merged passes on to one sink what sessions with several nodes of a cluster receive, as if they were
// one: where the slots of a subscription are on more than one node.
type merged struct {
	sink store.Subscriber

	mu    sync.Mutex  // guards what follows
	left  int         // nodes that have not subscribed yet
	since time.Time   // when the last one had
	sent  []time.Time // by node: of the last heartbeat
	again []func()    // starts another round; of those that have subscribed
}

// mergedNode is the sink of one node's session.
type mergedNode struct {
	of *merged
	at int
}

// merge returns the sinks of n nodes.
func merge(sink store.Subscriber, n int) []store.Subscriber {
	of := &merged{sink: sink, left: n, sent: make([]time.Time, n)}
	sinks := make([]store.Subscriber, n)
	for i := range sinks {
		sinks[i] = &mergedNode{of, i}
	}
	return sinks
}

// Subscribed implements store.Subscriber.
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

// joins is called before Subscribed. What was sent before the last node has subscribed does not count.
func (m *mergedNode) joins(s *session) {
	m.of.mu.Lock()
	defer m.of.mu.Unlock()
	m.of.again = append(m.of.again, s.startRoundSoon)
}

// on reports whether all nodes have subscribed.
func (m *merged) on() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left == 0
}

// Message implements store.Subscriber.
func (m *mergedNode) Message(payload string) {
	if m.of.on() {
		m.of.sink.Message(payload)
	}
}

// KeysChanged implements store.Subscriber.
func (m *mergedNode) KeysChanged(keys []string) {
	if m.of.on() {
		m.of.sink.KeysChanged(keys)
	}
}

// Heartbeat implements store.Subscriber. What all nodes have confirmed is confirmed.
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

// Watch implements store.WatchingSubscriber. One of the nodes does it.
func (m *mergedNode) Watch() []string {
	if w, ok := m.of.sink.(store.WatchingSubscriber); ok && m.at == 0 && m.of.on() {
		return w.Watch()
	}
	return nil
}

// Watched implements store.WatchingSubscriber.
func (m *mergedNode) Watched(recs []store.Record) {
	m.of.sink.(store.WatchingSubscriber).Watched(recs)
}
