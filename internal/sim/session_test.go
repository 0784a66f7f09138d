package sim_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// simProcess is nodes that are caches of one process: their subscriptions share sessions, one of
// messages and one of tracking, as those through one client do.
type simProcess struct {
	client *storetest.ClusterClient // of a cluster whose slots move

	mu  sync.Mutex // guards now
	now map[simSessionKind]*simSession
}

type simSessionKind struct {
	tracking, byKey bool
	slots           store.SlotRange
}

// simSession is a session that nodes share. It begins with the first of them, and ends with the
// last; if it ends for another reason, it does so for all.
type simSession struct {
	waiter string // of the node that began it
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed after err is written
	err    error

	mu      sync.Mutex // guards what follows
	armed   bool
	members []*simMember // replaced, and not changed
}

// simMember is one node's part in it.
type simMember struct {
	sink store.Subscriber

	mu    sync.Mutex // held while the sink is called
	on    bool
	gone  bool
	since time.Time
}

// subscribes is a Memory, or a client of one that is a cluster.
type subscribes interface {
	Subscribe(ctx context.Context, l store.Subscription, s store.Subscriber) error
}

var errAlone = errors.New("sim: a session without members")

// subscribe joins the session, or begins one, until ctx ends or it has ended.
func (p *simProcess) subscribe(ctx context.Context, st *storetest.Memory, through subscribes, l store.Subscription, sink store.Subscriber) error {
	m := &simMember{sink: sink}
	kind := simSessionKind{l.Tracking, l.ByKey, l.Slots}
	p.mu.Lock()
	s := p.now[kind]
	if s == nil {
		s = &simSession{ended: make(chan struct{})}
		var running context.Context
		running, s.cancel = context.WithCancelCause(storetest.Reading(context.Background(), p))
		s.waiter = l.Waiter
		p.now[kind] = s
		go func() {
			err := through.Subscribe(running, l, s)
			if cause := context.Cause(running); cause != nil {
				err = cause
			}
			p.mu.Lock()
			if p.now[kind] == s { // first: who comes back does not join it
				delete(p.now, kind)
			}
			p.mu.Unlock()
			s.err = err
			close(s.ended)
		}()
	}
	st.JoinWaiter(s.waiter, l.Waiter)
	s.mu.Lock()
	s.members = append(slices.Clone(s.members), m)
	armed := s.armed
	s.mu.Unlock()
	p.mu.Unlock()
	if armed {
		m.arm()
	}
	var err error
	select {
	case <-s.ended:
		err = s.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	m.mu.Lock()
	m.on, m.gone = false, true
	m.mu.Unlock()
	p.mu.Lock()
	s.mu.Lock()
	s.members = slices.DeleteFunc(slices.Clone(s.members), func(o *simMember) bool { return o == m })
	last := len(s.members) == 0
	s.mu.Unlock()
	if last && p.now[kind] == s {
		delete(p.now, kind)
	}
	p.mu.Unlock()
	if last {
		s.cancel(errAlone)
		<-s.ended
	}
	return err
}

// cut ends the sessions.
func (p *simProcess) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.now {
		s.cancel(errLost)
	}
}

func (s *simSession) all() []*simMember {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members
}

func (m *simMember) arm() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.on || m.gone {
		return
	}
	m.sink.Subscribed()
	m.on, m.since = true, time.Now()
}

func (m *simMember) tell(f func(store.Subscriber)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.on {
		f(m.sink)
	}
}

func (s *simSession) Subscribed() {
	s.mu.Lock()
	s.armed = true
	all := s.members
	s.mu.Unlock()
	for _, m := range all {
		m.arm()
	}
}

func (s *simSession) Message(payload string) {
	for _, m := range s.all() {
		m.tell(func(sink store.Subscriber) { sink.Message(payload) })
	}
}

func (s *simSession) KeysChanged(keys []string) {
	for _, m := range s.all() {
		m.tell(func(sink store.Subscriber) { sink.KeysChanged(slices.Clone(keys)) })
	}
}

func (s *simSession) Heartbeat(sent time.Time) {
	for _, m := range s.all() {
		m.tell(func(sink store.Subscriber) {
			if !sent.Before(m.since) {
				sink.Heartbeat(sent)
			}
		})
	}
}
