package redisstore

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// All subscriptions through one client, of whatever stores, share one session: its connections,
// its heartbeats, its watch of the masters. So what a process costs Redis while idle does not
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
	tracking          bool
	interval, timeout time.Duration
}

// errUnused ends a session without subscribers.
var errUnused = errors.New("redisstore: a session without subscribers")

// subscriber is one Subscribe in progress.
type subscriber struct {
	store *Redis
	l     store.Subscription
	sink  store.Subscriber

	ended    chan struct{} // closed when the session has ended, or could not subscribe
	err      error         // why; before ended is closed
	released chan struct{} // closed when nothing of the session runs any more on behalf of the subscriber

	session *session // the lock of sessions guards it
	// Session.mu guards these.
	topics  []*topic
	waiting int // how many of them are not confirmed yet

	// WARNING: the sink is called with mu held: to be told of something that arrived, with the
	// read lock. A Subscriber must not block.
	mu    sync.RWMutex
	on    bool      // Subscribed was called, and the subscriber has not left
	since time.Time // when Subscribed had returned
	gone  bool
	told  bool // Direct was called
}

// join adds a subscriber to the session of its client, or begins one.
func join(s *Redis, l store.Subscription, sink store.Subscriber) (*subscriber, error) {
	m := &subscriber{store: s, l: l, sink: sink, ended: make(chan struct{}), released: make(chan struct{})}
	if !s.background(func(context.Context) { <-m.released }) {
		return nil, errStoreClosed
	}
	key := sessionKey{s.rdb, l.Tracking, l.HeartbeatInterval, l.HeartbeatTimeout}
	shared := reflect.ValueOf(s.rdb).Comparable()
	sessions.Lock()
	defer sessions.Unlock()
	if shared {
		if ls := sessions.of[key]; ls != nil {
			if ls.add(m) {
				return m, nil
			}
			shared = false // it goes on, and can't take this one
		}
	}
	next, err := newSession(key, l.Channel, shared)
	if err != nil {
		close(m.released)
		return nil, err
	}
	next.add(m)
	next.begin()
	return m, nil
}

// begin runs the session in the background, until it has ended.
func (s *session) begin() {
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
	sessions.Lock()
	s.mu.Lock()
	s.retireLocked()
	all := s.subscribers
	s.subscribers = nil
	s.mu.Unlock()
	if errors.Is(err, errPulseRefused) {
		s.moveOnLocked(all)
	}
	sessions.Unlock()
	for m := range all {
		m.finish(err)
	}
}

// errPulseRefused ends a session whose user may not subscribe to the channels of its heartbeats.
var errPulseRefused = errors.New("redisstore: the heartbeats are refused")

// moveOnLocked moves subscribers of a session that could not begin to another one, and takes them
// out of all: those of other channels than the one below which the heartbeats were refused. The
// lock of sessions is held.
func (s *session) moveOnLocked(all map[*subscriber]struct{}) {
	var next *session
	for m := range all {
		if m.l.Channel == s.channel {
			continue
		}
		if next == nil {
			var err error
			if next, err = newSession(s.key, m.l.Channel, s.shared); err != nil {
				return
			}
		}
		if next.add(m) {
			delete(all, m)
		}
	}
	if next != nil {
		next.begin()
	}
}

// retireLocked makes the session one that can't be joined. The locks of sessions and of the session
// are held.
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
	m.mu.Lock()
	m.on, m.gone = false, true
	m.mu.Unlock()
	sessions.Lock()
	s := m.session
	s.mu.Lock()
	delete(s.subscribers, m)
	for _, t := range m.topics {
		s.leaveLocked(t, m)
	}
	last := len(s.subscribers) == 0
	if last {
		s.retireLocked()
	}
	s.mu.Unlock()
	sessions.Unlock()
	if !last {
		close(m.released)
		return
	}
	s.end(errUnused)
	<-s.over
	go func() {
		<-s.released
		close(m.released)
	}()
}

// finish tells a subscriber that the session has ended for it.
func (m *subscriber) finish(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on = false
	select {
	case <-m.ended:
		return
	default:
	}
	if errors.Is(err, errDemoted) {
		m.store.demotions.Add(1)
	}
	m.err = err
	close(m.ended)
}

// arm calls Subscribed. What arrived before need not be passed on: the subscriber trusts nothing
// from before.
func (m *subscriber) arm() {
	if m.subscribed() && m.session.isDirect() {
		m.direct()
	}
}

func (m *subscriber) subscribed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone || m.on {
		return false
	}
	select {
	case <-m.ended:
		return false
	default:
	}
	m.sink.Subscribed()
	m.on, m.since = true, time.Now()
	return true
}

// direct calls Direct, once, if Subscribed was called.
func (m *subscriber) direct() {
	m.mu.Lock()
	defer m.mu.Unlock()
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

func (m *subscriber) message(payload string) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.on {
		m.sink.Message(payload)
	}
}

// changed passes on those of the keys that have the subscriber's prefix; nil: any may have changed.
func (m *subscriber) changed(keys []string) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.on {
		return
	}
	if keys == nil {
		m.sink.KeysChanged(nil)
		return
	}
	var own []string
	for _, k := range keys {
		if strings.HasPrefix(k, m.l.Prefix) {
			own = append(own, k)
		}
	}
	if len(own) > 0 {
		m.sink.KeysChanged(own)
	}
}

// alive passes on a heartbeat that was sent after Subscribed.
func (m *subscriber) alive(sent time.Time) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.on && !sent.Before(m.since) {
		m.sink.Heartbeat(sent)
	}
}
