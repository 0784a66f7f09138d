package redisstore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/delqhi/cache/internal/store"
)

// topic is a channel, or a prefix of keys whose changes the server reports. Session.mu guards it.
type topic struct {
	name        string
	prefix      bool
	sharded     bool          // it is subscribed to as one of the node's slots as well
	presence    bool          // and in no other way; see store.PresenceChannel
	subscribers []*subscriber // replaced, and not changed
	missing     int           // connections on which it is not confirmed yet; -1: it was not requested yet
}

// request is a command on a connection that only receives. Its answer is one that arrives there,
// in the order of the requests.
type request struct {
	kind  requestKind
	topic *topic
}

type requestKind uint8

const (
	subscribe requestKind = iota
	unsubscribe
	shardSubscribe
	shardUnsubscribe
	trackPrefix
)

// add adds a subscriber, and reports whether the session can take it. The lock of sessions is held.
func (s *session) add(m *subscriber) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	if s.node != nil && s.node.member.compare(m.node.member.layout, []string{s.channel, m.l.Channel, store.PresenceChannel(m.l.Channel)}) != nil {
		s.retireLocked() // the subscriber begins another one that can be joined
		s.mu.Unlock()
		s.end(errMoved) // which one of the two has not noticed yet
		return false
	}
	prefix := m.l.Prefix
	if m.l.Tracking && !m.l.ByKey {
		// A server refuses prefixes of one connection that overlap. A longer one is part of what
		// is reported already; a shorter one needs another connection.
		for _, t := range s.prefixes {
			switch {
			case strings.HasPrefix(prefix, t.name):
				prefix = t.name
			case strings.HasPrefix(t.name, prefix):
				s.mu.Unlock()
				return false
			}
		}
	}
	topics := []*topic{s.topicLocked(m.l.Channel, false)}
	if presence := store.PresenceChannel(m.l.Channel); s.isLocal(presence) {
		t := s.topicLocked(presence, false)
		t.presence = true
		topics = append(topics, t)
	}
	if m.l.Waiter != "" {
		topics = append(topics, s.topicLocked(store.WaiterChannel(m.l.Channel, m.l.Waiter), false))
	}
	if m.l.Tracking && !m.l.ByKey {
		topics = append(topics, s.topicLocked(prefix, true))
	}
	m.session, m.topics, m.waiting = s, topics, 0
	s.subscribers[m] = struct{}{}
	for _, t := range topics {
		t.subscribers = append(slices.Clone(t.subscribers), m)
		if t.missing != 0 {
			m.waiting++
		}
		if t.missing < 0 && s.open {
			s.requestLocked(t)
		}
	}
	ready := m.waiting == 0
	s.mu.Unlock()
	if ready {
		m.arm(s)
	}
	return true
}

// topicLocked returns a topic, which it makes if there is none. A prefix stays when its last
// subscriber has left, until the session is crowded: a server stops to report it only together with all
// others.
func (s *session) topicLocked(name string, prefix bool) *topic {
	of := s.channels
	if prefix {
		of = s.prefixes
	}
	t := of[name]
	if t == nil {
		t = &topic{name: name, prefix: prefix, sharded: !prefix && s.isLocal(name), missing: -1}
		of[name] = t
	}
	return t
}

// leaveLocked removes a subscriber from a topic. Where others stay, the last one of a channel
// unsubscribes; a session that ends need not. A user who may not is not asked to again: what
// arrives is ignored.
func (s *session) leaveLocked(t *topic, m *subscriber) {
	t.subscribers = slices.DeleteFunc(slices.Clone(t.subscribers), func(o *subscriber) bool { return o == m })
	if len(t.subscribers) > 0 || t.prefix || s.channels[t.name] != t {
		return
	}
	delete(s.channels, t.name)
	if t.missing >= 0 && len(s.subscribers) > 0 && !s.stays {
		for _, c := range s.conns {
			if !t.presence {
				c.request(request{unsubscribe, t})
			}
			if t.sharded {
				c.request(request{shardUnsubscribe, t})
			}
		}
	}
}

// unusedPrefixes is how many prefixes without a subscriber a session has at least before it is
// crowded.
const unusedPrefixes = 48

// crowdedLocked reports whether most prefixes have no subscriber any more. Such a session takes no
// other subscribers: they begin another one. Its own stay, since moving them would cost them what they
// hold.
func (s *session) crowdedLocked() bool {
	if len(s.prefixes) <= unusedPrefixes {
		return false
	}
	unused := 0
	for _, t := range s.prefixes {
		if len(t.subscribers) == 0 {
			unused++
		}
	}
	return unused >= unusedPrefixes && 2*unused > len(s.prefixes)
}

// requestLocked requests a topic on all connections that it concerns.
func (s *session) requestLocked(t *topic) {
	t.missing = 0
	for _, c := range s.conns {
		ask := func(kind requestKind) {
			t.missing++
			c.request(request{kind, t})
		}
		if t.prefix {
			ask(trackPrefix)
			continue
		}
		if !t.presence {
			ask(subscribe)
		}
		if t.sharded {
			ask(shardSubscribe)
		}
	}
}

// ready is called when all connections are set up: requests can be made.
func (s *session) ready() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
	for _, t := range s.channels {
		s.requestLocked(t)
	}
	for _, t := range s.prefixes {
		s.requestLocked(t)
	}
}

// answered takes the answer to a request. An error is that of the server: the connection goes on.
func (s *session) answered(r request, err error) {
	t := r.topic
	var arm, failed []*subscriber
	s.mu.Lock()
	if r.kind == unsubscribe || r.kind == shardUnsubscribe {
		s.stays = s.stays || err != nil
		s.mu.Unlock()
		return
	}
	if err != nil {
		failed = t.subscribers
		if s.channels[t.name] == t && !t.prefix {
			delete(s.channels, t.name)
		}
		if s.prefixes[t.name] == t && t.prefix {
			delete(s.prefixes, t.name)
		}
	} else if t.missing--; t.missing == 0 {
		for _, m := range t.subscribers {
			if m.waiting--; m.waiting == 0 {
				arm = append(arm, m)
			}
		}
	}
	s.mu.Unlock()
	for _, m := range failed {
		m.finish(err)
	}
	for _, m := range arm {
		m.arm(s)
	}
}

// ofChannel returns the subscribers of a channel.
func (s *session) ofChannel(name string) []*subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.channels[name]; t != nil {
		return t.subscribers
	}
	return nil
}

// all returns all subscribers.
func (s *session) all() []*subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*subscriber, 0, len(s.subscribers))
	for m := range s.subscribers {
		all = append(all, m)
	}
	return all
}

// names returns all that an error of the server might repeat.
func (s *session) names() []any {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := []any{"subscribe", s.pulse}
	for name := range s.channels {
		names = append(names, name)
	}
	for name := range s.prefixes {
		names = append(names, name)
	}
	return names
}

// command returns the bytes of a command as they are sent.
func command(words ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b
}
