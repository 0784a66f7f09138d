package storetest

import (
	"cmp"
	"context"
	"github.com/delqhi/cache/internal/store"
	"slices"
	"strings"
	"time"
)

// Delivery is a message or a change on its way to a listener of a [Memory].
type Delivery struct {
	Listener int  // number of the Listen of this Memory, from 0 on
	ByKey    bool // of its Subscription, as Slots
	Slots    store.SlotRange
	Node     int // of a cluster
	Kind     DeliveryKind
	Text     string // the payload of a message, or the key
}

// DeliveryKind is the kind of a Delivery.
type DeliveryKind uint8

const (
	DeliverMessage DeliveryKind = iota
	DeliverChange
	DeliverFlush // any key may have been changed
	DeliverPulse
)

// memoryListeners are the listeners of a Memory; Memory.mu guards all fields.
type memoryListeners struct {
	all       []*memoryListener
	count     int // of all listeners so far
	intercept func(Delivery) (copies int, delay time.Duration)
	joined    map[string]string // by waiter: that of the Subscription that receives for it
}

// JoinWaiter has the Subscription of the waiter to also receive what is published for another one, which
// has no Subscription of its own.
func (m *Memory) JoinWaiter(to, waiter string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listeners.joined == nil {
		m.listeners.joined = map[string]string{}
	}
	m.listeners.joined[waiter] = to
}

// receives reports whether a channel is that of a waiter of the listener.
func (l *memoryListeners) receives(ln *memoryListener, channel string) bool {
	if ln.Waiter == "" {
		return false
	}
	if channel == store.WaiterChannel(ln.Channel, ln.Waiter) {
		return true
	}
	for waiter, to := range l.joined {
		if to == ln.Waiter && channel == store.WaiterChannel(ln.Channel, waiter) {
			return true
		}
	}
	return false
}

// memoryListener is one Listen of a Memory.
type memoryListener struct {
	store.Subscription
	at     *listenNode // of a cluster; nil: there is none
	number int
	reader any           // of ByKey, see Reading
	wake   chan struct{} // buffered: the state below has changed

	// Memory.mu guards the fields below.
	queue  []delivery
	held   map[string]bool // ByKey: the keys whose next change is reported
	rounds store.Rounds
	err    error // the reason to end
}

// delivery is a queued Delivery.
type delivery struct {
	Delivery
	due   time.Time
	round int64 // of a heartbeat
}

// Intercept sets f to decide about each delivery to a listener: how many copies arrive (0: it
// is lost, 1 is usual), and the minimum delay. A delayed delivery holds up those after it, as
// on a connection. f is called with a lock held: it must not call methods of m. Nil removes it.
func (m *Memory) Intercept(f func(Delivery) (copies int, delay time.Duration)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listeners.intercept = f
}

// CutListeners ends every Listen in progress with err, as when a server closes its connections.
// Deliveries in flight are lost.
func (m *Memory) CutListeners(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cutLocked(err, func(store.SlotRange) bool { return true })
}

// CutListenersOf is CutListeners for those of whose slots that is true.
func (m *Memory) CutListenersOf(err error, of func(store.SlotRange) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cutLocked(err, of)
}

func (m *Memory) cutLocked(err error, of func(store.SlotRange) bool) {
	for _, ln := range m.listeners.all {
		if of(ln.Slots) {
			ln.err = err
			ln.wakeUp()
		}
	}
}

// ChangeAll reports to listeners with Tracking that any key may have been changed, as FLUSHALL
// does. It changes nothing.
func (m *Memory) ChangeAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ln := range m.listeners.all {
		if ln.Tracking {
			clear(ln.held)
			m.deliverLocked(ln, Delivery{Kind: DeliverFlush}, 0)
		}
	}
}

// publishLocked delivers t to all listeners of its channel, on a cluster from the node that has a key.
// Memory.mu is held.
func (m *Memory) publishLocked(key string, t store.Notify) {
	if m.cluster != nil {
		m.publishAtLocked(m.cluster.layout.Owner(store.SlotOf(key)), t)
		return
	}
	for _, ln := range m.listeners.all {
		if ln.Channel == t.Channel || m.listeners.receives(ln, t.Channel) {
			m.deliverLocked(ln, Delivery{Kind: DeliverMessage, Text: t.Message}, 0)
		}
	}
}

// changedLocked reports to listeners with Tracking that key was changed. Memory.mu is held.
func (m *Memory) changedLocked(key string) {
	if m.cluster == nil {
		m.changedAtLocked(key, 0)
		return
	}
	m.changedAtLocked(key, m.cluster.layout.Owner(store.SlotOf(key)))
}

// changedAtLocked is changedLocked at a node of a cluster.
func (m *Memory) changedAtLocked(key string, node int) {
	for _, ln := range m.listeners.all {
		if ln.at != nil && ln.at.node != node {
			continue
		}
		if ln.Tracking && strings.HasPrefix(key, ln.Prefix) && ln.Slots.Has(key) && (!ln.ByKey || ln.held[key]) {
			delete(ln.held, key)
			m.deliverLocked(ln, Delivery{Kind: DeliverChange, Text: key}, 0)
		}
	}
}

type readerKey struct{}

// Reading returns a context for the operations of a reader, which may be any comparable value: a
// Subscription with ByKey receives the changes of the keys that were read by its own.
func Reading(ctx context.Context, reader any) context.Context {
	return context.WithValue(ctx, readerKey{}, reader)
}

// heldLocked notes that a reader may hold a key from now on. Memory.mu is held.
func (m *Memory) heldLocked(ctx context.Context, c *store.Command) {
	switch {
	case c.Op == store.Delete, c.Op == store.CompareAndDelete, c.Op == store.AwaitLease, c.Op == store.Set && !c.Notifies():
		return
	}
	for _, ln := range m.listeners.all {
		if ln.reads(ctx, c.Key) && (ln.at == nil || ln.at.node == m.cluster.layout.Owner(store.SlotOf(c.Key))) {
			ln.held[c.Key] = true
		}
	}
}

// reads reports whether the listener receives the changes of a key that the reader of ctx reads.
func (ln *memoryListener) reads(ctx context.Context, key string) bool {
	return ln.ByKey && ln.reader == ctx.Value(readerKey{}) && strings.HasPrefix(key, ln.Prefix) && ln.Slots.Has(key)
}

func (m *Memory) deliverLocked(ln *memoryListener, d Delivery, round int64) {
	d.Listener, d.ByKey, d.Slots = ln.number, ln.ByKey, ln.Slots
	if ln.at != nil {
		d.Node = ln.at.node
	}
	copies, delay := 1, time.Duration(0)
	if f := m.listeners.intercept; f != nil {
		copies, delay = f(d)
	}
	due := time.Now().Add(delay)
	for range copies {
		ln.queue = append(ln.queue, delivery{d, due, round})
	}
	ln.wakeUp()
}

func (ln *memoryListener) wakeUp() {
	select {
	case ln.wake <- struct{}{}:
	default:
	}
}

// Publish implements Store.
func (m *Memory) Publish(ctx context.Context, t store.Notify) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(ctx.Err(), m.fail); err != nil {
		return err
	}
	m.publishLocked(t.Channel, t)
	if t.Wide {
		t.Channel = store.ControlChannel(t.Channel)
		m.publishLocked(t.Channel, t)
	}
	return nil
}

// Subscribe implements Store. It runs on the goroutine of the caller.
func (m *Memory) Subscribe(ctx context.Context, l store.Subscription, sink store.Subscriber) error {
	if err := l.Check(); err != nil {
		return err
	}
	return m.listen(ctx, &memoryListener{Subscription: l, wake: make(chan struct{}, 1)}, sink)
}

func (m *Memory) listen(ctx context.Context, ln *memoryListener, sink store.Subscriber) error {
	if err := m.addListener(ctx, ln); err != nil {
		return err
	}
	defer m.removeListener(ln)
	if node, ok := sink.(*mergedNode); ok {
		node.joins(func() { m.pulseSoon(ln) })
	}
	sink.Subscribed()
	m.pulse(ln)
	pulse := time.NewTicker(ln.HeartbeatInterval)
	defer pulse.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	rounds := 0
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pulse.C:
			m.pulse(ln)
			if rounds++; rounds%watchEvery == 0 {
				m.watch(ctx, sink)
			}
		case <-next.C:
		case <-ln.wake:
		}
		if m.takeAgain(ln) {
			m.pulse(ln)
		}
		parcels, err := m.takeDue(ln)
		if err != nil {
			return err
		}
		for _, p := range parcels {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			m.deliver(ln, p, sink)
		}
		wait, err := m.look(ln)
		if err != nil {
			return err
		}
		next.Reset(wait)
	}
}

// watchEvery is how many rounds of heartbeats pass between two looks at what a subscriber watches.
const watchEvery = 10

func (m *Memory) watch(ctx context.Context, sink store.Subscriber) {
	w, ok := sink.(store.WatchingSubscriber)
	if !ok {
		return
	}
	var recs []store.Record
	for _, k := range w.Watch() {
		if m.downFor(k) {
			return
		}
		r := m.Do(ctx, []store.Command{{Op: store.Get, Key: k}})[0]
		if r.Err != nil {
			return
		}
		recs = append(recs, r.Record)
	}
	if len(recs) > 0 {
		w.Watched(recs)
	}
}

func (m *Memory) addListener(ctx context.Context, ln *memoryListener) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(ctx.Err(), m.fail); err != nil {
		return err
	}
	ln.number, ln.reader, ln.held = m.listeners.count, ctx.Value(readerKey{}), map[string]bool{}
	m.listeners.count++
	m.listeners.all = append(m.listeners.all, ln)
	return nil
}

// pulseSoon has another round begin.
func (m *Memory) pulseSoon(ln *memoryListener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ln.at.again = true
	ln.wakeUp()
}

func (m *Memory) takeAgain(ln *memoryListener) (again bool) {
	if ln.at == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	again, ln.at.again = ln.at.again, false
	return again
}

func (m *Memory) removeListener(ln *memoryListener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listeners.all = slices.DeleteFunc(m.listeners.all, func(o *memoryListener) bool { return o == ln })
}

// pulse begins a round. While the store fails, no heartbeat is delivered.
func (m *Memory) pulse(ln *memoryListener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	round := ln.rounds.Start(time.Now(), 1)
	if m.fail == nil && m.confirmLocked(ln) {
		m.deliverLocked(ln, Delivery{Kind: DeliverPulse}, round)
	}
}

// takeDue removes due deliveries from the queue.
func (m *Memory) takeDue(ln *memoryListener) ([]delivery, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, n := time.Now(), 0
	for n < len(ln.queue) && !ln.queue[n].due.After(now) {
		n++
	}
	due := ln.queue[:n:n]
	ln.queue = ln.queue[n:]
	return due, ln.err
}

// look returns the time until the next check, at the latest, or an error if the heartbeat timed
// out.
func (m *Memory) look(ln *memoryListener) (time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	wait := ln.rounds.Wait(now, ln.HeartbeatTimeout)
	if wait <= 0 {
		return 0, store.ErrHeartbeatTimeout
	}
	if len(ln.queue) > 0 {
		wait = min(wait, ln.queue[0].due.Sub(now))
	}
	return wait, nil
}

func (m *Memory) deliver(ln *memoryListener, p delivery, sink store.Subscriber) {
	switch p.Kind {
	case DeliverMessage:
		sink.Message(p.Text)
	case DeliverChange:
		sink.KeysChanged([]string{p.Text})
	case DeliverFlush:
		sink.KeysChanged(nil)
	case DeliverPulse:
		m.mu.Lock()
		sent, ok := ln.rounds.Returned(p.round, 0)
		m.mu.Unlock()
		if ok {
			sink.Heartbeat(sent)
		}
	}
}
