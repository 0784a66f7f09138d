package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"github.com/delqhi/cache/internal/store"
	mathrand "math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// mastersPause is the minimum time between two reads of a cluster's list of masters, each
	// of which asks a node.
	mastersPause = 3 * time.Second

	// pulsesMax is the maximum number of heartbeats in flight to one master. More than that
	// mean that the master, or the client, is stuck.
	pulsesMax = 16
)

// session is one Listen of a Redis. It consists of connections, each with a goroutine that
// reads, and the goroutine of the caller, which sends the heartbeats.
type session struct {
	store   *Redis
	l       store.Subscription
	sink    store.Subscriber
	pulse   string // the prefix of the names of its heartbeat channels
	masters []listenMaster

	ctx   context.Context
	end   context.CancelCauseFunc // ends the session; the first cause is kept
	armed chan struct{}           // closed after Subscribed was called

	// slots is how many heartbeats come back in a round: more than one from a master whose
	// heartbeat is awaited on two connections.
	slots int

	mu         sync.Mutex
	rounds     store.Rounds
	publishing int   // heartbeats whose publication was not answered yet
	pulseErr   error // of the last heartbeat that could not be published
	looking    bool  // lookAtMasters is asking for the masters
	looked     time.Time

	// WARNING: the sink is called with aliveMu held, so that it is notified of rounds in their
	// order. A Subscriber must not block.
	aliveMu sync.Mutex
	alive   time.Time // when the latest round reported to the sink was sent
}

func newSession(ctx context.Context, s *Redis, l store.Subscription, sink store.Subscriber) *session {
	ls := &session{store: s, l: l, sink: sink, pulse: l.Channel + ":" + rand.Text() + ":", armed: make(chan struct{})}
	ls.ctx, ls.end = context.WithCancelCause(ctx)
	return ls
}

// run runs the session. It returns the reason for its end.
func (s *session) run() error {
	conns := s.connections()
	ready := make(chan struct{}, len(conns))
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() { s.end(c.run(ready)) })
	}
	s.end(s.lead(ready, len(conns)))
	wg.Wait()
	return context.Cause(s.ctx)
}

// connections returns one connection for each source of messages and changes, with the
// heartbeats that have to come back on each.
//
// Nodes of a cluster forward messages to each other: one connection receives those of all, and
// therefore awaits the heartbeats of all. Changes of keys are reported only by the keys'
// master. The shards of a ring know nothing of each other.
func (s *session) connections() []*listenConn {
	conns := make([]*listenConn, len(s.masters))
	for i := range s.masters {
		conns[i] = &listenConn{session: s, master: &s.masters[i], slots: map[string]int{s.pulseChannel(i): i}}
	}
	s.slots = len(conns)
	if s.store.cluster == nil {
		for _, c := range conns {
			c.messages = true
		}
		return conns
	}
	one := mathrand.IntN(len(conns)) // random, to spread the processes over the nodes
	c := conns[one]
	c.messages = true
	for i := range s.masters {
		switch {
		case i == one:
		case s.l.Tracking: // it is awaited on its own connection as well
			c.slots[s.pulseChannel(i)] = s.slots
			s.slots++
		default:
			c.slots[s.pulseChannel(i)] = i
		}
	}
	if s.l.Tracking {
		return conns
	}
	return conns[one : one+1]
}

// pulseChannel is the channel of the heartbeats through a master.
func (s *session) pulseChannel(master int) string { return s.pulse + strconv.Itoa(master) }

// lead calls Subscribed when all connections are ready, then sends the heartbeats and checks
// that they come back.
func (s *session) lead(ready <-chan struct{}, conns int) error {
	late := time.NewTimer(s.l.HeartbeatTimeout + s.dialTimeout())
	defer late.Stop()
	for range conns {
		select {
		case <-ready:
		case <-late.C:
			return fmt.Errorf("%w: no subscription within %v", store.ErrHeartbeatTimeout, s.l.HeartbeatTimeout+s.dialTimeout())
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
	s.sink.Subscribed()
	close(s.armed)

	s.startRound()
	late.Reset(s.l.HeartbeatTimeout)
	pulse := time.NewTicker(s.l.HeartbeatInterval)
	defer pulse.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-pulse.C:
			s.startRound()
			s.lookAtMasters()
		case <-late.C:
			wait, err := s.check()
			if err != nil {
				return err
			}
			late.Reset(wait)
		}
	}
}

// dialTimeout is the longest dial timeout of the masters' clients.
func (s *session) dialTimeout() time.Duration {
	var d time.Duration
	for i := range s.masters {
		d = max(d, s.masters[i].options.DialTimeout)
	}
	return d
}

// startRound sends a heartbeat through each master. If too many are in flight, it sends none:
// the round then times out.
func (s *session) startRound() {
	s.mu.Lock()
	round := s.rounds.Start(time.Now(), s.slots)
	full := s.publishing > (pulsesMax-1)*len(s.masters)
	if !full {
		s.publishing += len(s.masters)
	}
	s.mu.Unlock()
	if full {
		return
	}
	for i := range s.masters {
		s.store.background(func(context.Context) { s.publish(round, i) })
	}
}

func (s *session) publish(round int64, master int) {
	ctx, cancel := context.WithTimeout(s.ctx, s.l.HeartbeatTimeout)
	defer cancel()
	err := s.store.publishPulse(ctx, &s.masters[master], s.pulseChannel(master), strconv.FormatInt(round, 10))
	if errors.Is(err, errDemoted) {
		s.store.demotions.Add(1)
	}
	if errors.Is(err, errMoved) || errors.Is(err, errDemoted) {
		s.end(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.publishing--
	if err != nil {
		s.pulseErr = err
	}
}

// heard records a heartbeat that came back. The caller has passed on everything that arrived
// before it on that connection.
func (s *session) heard(payload string, slot int) {
	round, err := strconv.ParseInt(payload, 10, 64)
	if err != nil {
		return // not a heartbeat of this session
	}
	s.mu.Lock()
	sent, complete := s.rounds.Returned(round, slot)
	s.mu.Unlock()
	if !complete {
		return
	}
	s.aliveMu.Lock()
	defer s.aliveMu.Unlock()
	if sent.After(s.alive) {
		s.alive = sent
		s.sink.Heartbeat(sent)
	}
}

// check returns the time after which it is to be called again, or an error if a round has taken
// too long.
func (s *session) check() (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := s.rounds.Wait(time.Now(), s.l.HeartbeatTimeout)
	switch {
	case wait > 0:
		return wait, nil
	case s.pulseErr != nil:
		return 0, fmt.Errorf("%w: no pulse for %v; the last that could not be sent: %w", store.ErrHeartbeatTimeout, s.l.HeartbeatTimeout, s.pulseErr)
	}
	return 0, fmt.Errorf("%w: no pulse for %v", store.ErrHeartbeatTimeout, s.l.HeartbeatTimeout)
}

// lookAtMasters ends the session if the list of masters has changed. It does not wait for the
// answer.
func (s *session) lookAtMasters() {
	if s.store.cluster == nil && s.store.ring == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looking || s.store.cluster != nil && time.Since(s.looked) < mastersPause {
		return
	}
	s.looking, s.looked = true, time.Now()
	s.store.background(func(context.Context) {
		ctx, cancel := context.WithTimeout(s.ctx, s.l.HeartbeatTimeout)
		defer cancel()
		masters, err := s.store.listenMasters(ctx)
		if err == nil {
			if was, is := masterNames(s.masters), masterNames(masters); !slices.Equal(was, is) {
				s.end(fmt.Errorf("%w from %v to %v", errMoved, was, is))
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.looking = false
	})
}
