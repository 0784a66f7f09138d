package redisstore

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// All subscriptions through one client, of whatever stores, share one session, on a cluster one for
// each node: its connections, its heartbeats, its watch of the masters. So what a process costs Redis while idle does not
// grow with its caches. A session begins with its first subscriber and ends with its last; when
// it ends for another reason, all of its subscribers are told, and the first that subscribes
// again begins the next session.

// sessions are the sessions that can be joined. Its lock is taken before that of a session.
var sessions = struct {
	sync.Mutex
	of map[sessionKey]*session
}{of: map[sessionKey]*session{}}

// sessionKey is what subscriptions must have in common to share a session.
type sessionKey struct {
	rdb               redis.UniversalClient
	tracking, byKey   bool
	interval, timeout time.Duration
	node, id          string // of a cluster; "": there is none
	prefix            string // of keys, of a session that begins because another one can't take them
}

// errUnused ends a session without subscribers.
var errUnused = errors.New("redisstore: a session without subscribers")

// subscriber is one Subscribe in progress.
type subscriber struct {
	store *Redis
	l     store.Subscription
	node  *listenMaster // of a cluster; nil: there is none
	sink  store.Subscriber

	finished sync.Once
	ended    chan struct{} // closed when the session has ended, or could not subscribe
	err      error         // why; before ended is closed
	released chan struct{} // closed when nothing of the session runs any more on behalf of the subscriber

	session *session // the lock of sessions guards it
	// Session.mu guards these.
	topics  []*topic
	waiting int // how many of them are not confirmed yet

	calls calls // of the sink

	// WARNING: the sink is called with mu held. One that blocks holds up its own calls, and its own
	// Subscribe: nothing else waits for this lock.
	mu    sync.Mutex
	on    bool      // Subscribed was called, and the subscriber has not left
	since time.Time // when Subscribed had returned
	gone  bool
	told  bool // Direct was called
}

// join adds a subscriber to the session of its client, with a node of a cluster or nil, or begins one.
func join(s *Redis, l store.Subscription, node *listenMaster, sink store.Subscriber) (*subscriber, error) {
	m := &subscriber{store: s, l: l, node: node, sink: sink, ended: make(chan struct{}), released: make(chan struct{})}
	m.calls.idle = make(chan struct{})
	if !s.background(func(context.Context) { <-m.released }) {
		return nil, errStoreClosed
	}
	if l.ByKey && !tracksKeys(s.rdb) {
		close(m.released)
		return nil, fmt.Errorf("%w: it is a %T", store.ErrNoKeyTracking, s.rdb)
	}
	key := sessionKey{rdb: s.rdb, tracking: l.Tracking, byKey: l.ByKey, interval: l.HeartbeatInterval, timeout: l.HeartbeatTimeout}
	if node != nil {
		key.node, key.id = node.name, node.member.id
	}
	may := reflect.ValueOf(s.rdb).Comparable()
	joined, shared := joinExisting(key, m, may)
	if !joined && !shared && may {
		// That one tracks keys of a longer prefix. Those of this prefix share another one.
		key.prefix = l.Prefix
		joined, shared = joinExisting(key, m, true)
	}
	if joined {
		return m, nil
	}
	// Without the lock: this calls the client, which may be the program's.
	own, err := NewRedis(s.rdb)
	if err != nil {
		close(m.released)
		return nil, err
	}
	if joined = beginOther(own, key, m, shared); joined {
		own.Close() // another subscriber was faster
	}
	return m, nil
}

// tracksKeys reports whether keys can be tracked one by one for a client. That takes connections of
// the session's own for all commands: a decorator would not see them.
func tracksKeys(rdb redis.UniversalClient) bool {
	switch rdb.(type) {
	case *redis.Client, *redis.ClusterClient:
		return true
	}
	return false
}

// joinExisting adds a subscriber to the session of its client, if there is one that can take it.
// shared is false if there is one that can't.
func joinExisting(key sessionKey, m *subscriber, may bool) (joined, shared bool) {
	sessions.Lock()
	defer sessions.Unlock()
	return joinLocked(key, m, may)
}

func joinLocked(key sessionKey, m *subscriber, may bool) (joined, shared bool) {
	if !may {
		return false, false
	}
	ls := sessions.of[key]
	if ls == nil {
		return false, true
	}
	joined = ls.add(m)
	return joined, joined || sessions.of[key] == nil // it goes on, if it can't take this one
}

// beginOther begins a session with a subscriber, unless there is one by now that it can join.
func beginOther(own *Redis, key sessionKey, m *subscriber, shared bool) (joined bool) {
	sessions.Lock()
	defer sessions.Unlock()
	if joined, shared = joinLocked(key, m, shared); joined {
		return true
	}
	next := newSession(own, key, m, shared)
	next.add(m)
	next.begin()
	return false
}

// begin runs the session in the background, until it has ended.
func (s *session) begin() {
	context.AfterFunc(s.ctx, s.retire) // at once, whatever its connections take to end
	go func() {
		err := s.run()
		s.conclude(err)
		close(s.over)
		s.store.Close()
		close(s.released)
	}()
}

// conclude ends the session for its subscribers. It can't be joined any more when they are told.
func (s *session) conclude(err error) {
	var other *Redis
	if errors.Is(err, errPulseRefused) {
		other, _ = NewRedis(s.key.rdb)
	}
	sessions.Lock()
	s.mu.Lock()
	s.retireLocked()
	all := s.subscribers
	s.subscribers = nil
	s.mu.Unlock()
	moved := other != nil && s.moveOnLocked(other, all)
	sessions.Unlock()
	if other != nil && !moved {
		other.Close()
	}
	for m := range all {
		m.finish(err)
	}
}

// errPulseRefused ends a session whose user may not subscribe to the channels of its heartbeats.
var errPulseRefused = errors.New("redisstore: the heartbeats are refused")

// moveOnLocked moves subscribers of a session that could not begin to another one, with a store of
// its own, and takes them out of all: those of other channels than the one below which the
// heartbeats were refused. It reports whether there are any. The lock of sessions is held.
func (s *session) moveOnLocked(own *Redis, all map[*subscriber]struct{}) bool {
	var next *session
	for m := range all {
		if m.heartbeats() == s.channel {
			continue
		}
		if next == nil {
			next = newSession(own, s.key, m, s.shared)
		}
		if next.add(m) {
			delete(all, m)
		}
	}
	if next != nil {
		next.begin()
	}
	return next != nil
}

// retire makes the session one that can't be joined.
func (s *session) retire() {
	sessions.Lock()
	defer sessions.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retireLocked()
}

// retireLocked is retire with the locks of sessions and of the session held.
func (s *session) retireLocked() {
	s.closed = true
	if s.shared && sessions.of[s.key] == s {
		delete(sessions.of, s.key)
	}
}

// leave ends a subscriber's part in the session. Its sink is not called any more. The last one
// waits until the session has ended, but for operations that can't be abandoned, which the
// subscriber's store waits for.
func (m *subscriber) leave() {
	m.stopCalls()
	sessions.Lock()
	s := m.session
	s.mu.Lock()
	delete(s.subscribers, m)
	for _, t := range m.topics {
		s.leaveLocked(t, m)
	}
	last := len(s.subscribers) == 0
	if last || s.crowdedLocked() {
		s.retireLocked()
	}
	s.mu.Unlock()
	sessions.Unlock()
	if last {
		s.end(errUnused)
	}
	// The call of the sink that is in progress, if there is one.
	m.mu.Lock()
	m.on, m.gone = false, true
	m.store.untrack(m)
	m.mu.Unlock()
	<-m.calls.idle
	if !last {
		close(m.released)
		return
	}
	<-s.over
	go func() {
		<-s.released
		close(m.released)
	}()
}

// finish tells a subscriber that the session has ended for it. At most the call of its sink that is
// in progress is completed.
func (m *subscriber) finish(err error) {
	m.finished.Do(func() {
		if errors.Is(err, errDemoted) {
			m.store.demotions.Add(1)
		}
		m.err = err
		m.store.untrack(m)
		close(m.ended)
		m.stopCalls()
	})
}

// arm has Subscribed called. What arrived before need not be passed on: the subscriber trusts nothing
// from before. Then a round of heartbeats is due: those that were sent before do not count.
func (m *subscriber) arm(s *session) {
	m.call(call{f: func() {
		if m.on {
			return
		}
		m.store.track(m, s)
		if node, ok := m.sink.(*mergedNode); ok {
			node.joins(s)
		}
		m.sink.Subscribed()
		m.on, m.since = true, time.Now()
		if s.isDirect() {
			m.directLocked()
		}
		s.startRoundSoon()
	}})
}

// direct has Direct called, once, if Subscribed was called.
func (m *subscriber) direct() { m.call(call{f: m.directLocked}) }

func (m *subscriber) directLocked() {
	if !m.on || m.told {
		return
	}
	m.told = true
	if s, ok := m.sink.(store.CheckingSubscriber); ok {
		s.Checks(m.session.disprove)
	}
	if s, ok := m.sink.(store.DirectSubscriber); ok {
		s.Direct()
	}
}

func (m *subscriber) message(payload string) { m.call(call{payload: payload}) }

// changed passes on those of the keys that have the subscriber's prefix; nil: any may have changed.
func (m *subscriber) changed(keys []string) {
	if keys == nil {
		m.call(call{f: func() {
			if m.on {
				m.sink.KeysChanged(nil)
			}
		}})
		return
	}
	var own []string
	for _, k := range keys {
		if m.concerns(k) {
			own = append(own, k)
		}
	}
	if len(own) > 0 {
		m.call(call{keys: own})
	}
}

// concerns reports whether a key is one of those whose changes the subscriber receives.
func (m *subscriber) concerns(key string) bool {
	return strings.HasPrefix(key, m.l.Prefix) && m.l.Slots.Has(key)
}

// alive passes on a heartbeat that was sent after Subscribed.
func (m *subscriber) alive(sent time.Time) {
	m.call(call{f: func() {
		if m.on && !sent.Before(m.since) {
			m.sink.Heartbeat(sent)
		}
	}})
}
