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
	// mastersPause is the least time between two looks at a cluster's list of masters,
	// each of which asks a node.
	mastersPause = 3 * time.Second

	// pulsesMax is how many heartbeats may be on their way to one master. More than that
	// mean that it, or the client, is stuck.
	pulsesMax = 16
)

// session is one Listen of a Redis. Its parts are connections, each with a goroutine
// that reads, and the goroutine of the caller, which sends the heartbeats.
type session struct {
	store   *Redis
	l       store.Subscription
	sink    store.Subscriber
	pulse   string // what the names of its channels for heartbeats begin with
	masters []listenMaster

	ctx   context.Context
	end   context.CancelCauseFunc // ends the session; the first cause counts
	armed chan struct{}           // closed when the sink has been told

	// slots is how many heartbeats come back in a round: more than one from a master
	// whose pulse is awaited on two connections.
	slots int

	mu         sync.Mutex
	rounds     store.Rounds
	publishing int   // heartbeats that wait for their answer
	pulseErr   error // of the last pulse that could not be published
	looking    bool  // at the masters
	looked     time.Time

	// WARNING: the sink is called with aliveMu held, so that it hears of rounds in
	// their order. A Sink must not block.
	aliveMu sync.Mutex
	alive   time.Time // the latest that it was told
}

func newSession(ctx context.Context, s *Redis, l store.Subscription, sink store.Subscriber) *session {
	ls := &session{store: s, l: l, sink: sink, pulse: l.Channel + ":" + rand.Text() + ":", armed: make(chan struct{})}
	ls.ctx, ls.end = context.WithCancelCause(ctx)
	return ls
}

// find finds the masters.
func (s *session) find() (err error) {
	s.masters, err = detach(s.ctx, s.store, s.store.listenMasters, nil)
	return err
}

// run is the life of the session. It returns why it ended.
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

// connections are one for each source of what is to be heard, and the heartbeats that
// have to come back on each.
//
// Nodes of a cluster pass messages on to each other: one connection hears those of
// all, and therefore awaits the heartbeats of all. What keys were changed only their
// master tells. The shards of a ring know nothing of each other.
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
	one := mathrand.IntN(len(conns)) // so that the processes of a fleet spread
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

// pulseChannel is where the heartbeats through a master go.
func (s *session) pulseChannel(master int) string { return s.pulse + strconv.Itoa(master) }

// lead arms the session, and then sends the heartbeats and sees to it that they come
// back.
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

// dialTimeout is what the clients of the masters have for it.
func (s *session) dialTimeout() time.Duration {
	var d time.Duration
	for i := range s.masters {
		d = max(d, s.masters[i].options.DialTimeout)
	}
	return d
}

// startRound sends a heartbeat through each master. If too many are on their way, none is
// sent: the round will be late.
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
	err := s.masters[master].publish(ctx, s.pulseChannel(master), strconv.FormatInt(round, 10))
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

// heard takes a heartbeat that came back. The caller has passed on everything that came
// before it on that connection.
func (s *session) heard(payload string, slot int) {
	round, err := strconv.ParseInt(payload, 10, 64)
	if err != nil {
		return // not ours
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

// check says how long it may take until it has to be called again, or that a round
// has taken too long.
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

// lookAtMasters ends the session if the list of masters has changed. It does not wait
// for the answer.
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
