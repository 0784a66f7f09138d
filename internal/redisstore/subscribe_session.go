package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/store"
)

const (
	// mastersPause is the minimum time between two reads of a cluster's layout.
	mastersPause = 5 * time.Second

	// watchEvery is how many rounds of heartbeats pass between two looks at the keys that the
	// subscribers want to watch.
	watchEvery = 10

	// pulsesMax is the maximum number of heartbeats in flight to one master. More than that
	// mean that the master, or the client, is stuck.
	pulsesMax = 16
)

// session is what the subscribers of a client have in common. It consists of connections, each
// with a goroutine that reads and one that writes, and a goroutine that sends the heartbeats.
type session struct {
	store   *Redis // of its own
	key     sessionKey
	shared  bool          // others may join
	channel string        // of its heartbeats, which are below it
	node    *listenMaster // of a cluster; nil: there is none
	pulse   string        // the prefix of the names of its heartbeat channels, below that
	masters []listenMaster

	ctx      context.Context
	end      context.CancelCauseFunc // ends the session; the first cause is kept
	over     chan struct{}           // closed when its connections and their goroutines have ended
	released chan struct{}           // closed when also the operations have ended that it left behind

	slots int // how many heartbeats come back in a round

	mu          sync.Mutex // guards what follows
	closed      bool       // no subscriber can join any more
	open        bool       // the connections are set up
	stays       bool       // the user may not unsubscribe
	conns       []*listenConn
	subscribers map[*subscriber]struct{}
	channels    map[string]*topic
	prefixes    map[string]*topic

	rounds     store.Rounds
	publishing int   // heartbeats whose publication was not answered yet
	again      bool  // when all are answered, another round is due at once
	proof      proof // that no message can be lost alone
	watched    time.Time
	pulseErr   error     // of the last heartbeat that could not be published
	looking    bool      // lookAtMasters is asking for the masters
	first      bool      // a subscriber waits for its first round
	held       time.Time // when the round was sent that is reported when all are answered; zero: none
	looked     time.Time

	// Rounds are passed on to the subscribers with aliveMu held, so that they are notified of them in
	// their order.
	aliveMu sync.Mutex
	alive   time.Time // when the latest round that was passed on was sent
}

// heartbeats is the channel below which a session that begins with the subscriber has its heartbeats.
func (m *subscriber) heartbeats() string {
	if m.node == nil {
		return m.l.Channel
	}
	return store.InSlots(m.l.Channel, m.node.member.owns)
}

// newSession returns a session for a subscriber and others. Its heartbeats have channels below the
// subscriber's, which the user may subscribe to, or on a cluster below that of a part whose slot the node
// has, so that they do not go over the bus. Its store is its own: nothing that other subscribers need
// belongs to a store that may be closed before theirs. The lock of sessions is held.
func newSession(own *Redis, key sessionKey, m *subscriber, shared bool) *session {
	channel := m.heartbeats()
	s := &session{
		store: own, key: key, shared: shared, channel: channel, node: m.node, pulse: channel + ":" + rand.Text() + ":", over: make(chan struct{}), released: make(chan struct{}),
		subscribers: map[*subscriber]struct{}{}, channels: map[string]*topic{}, prefixes: map[string]*topic{},
	}
	s.ctx, s.end = context.WithCancelCause(store.Background(context.Background()))
	if shared {
		sessions.of[key] = s
	}
	return s
}

// run runs the session. It returns the reason for its end.
func (s *session) run() (err error) {
	defer s.end(nil)
	if s.node != nil {
		s.masters = []listenMaster{*s.node}
	} else if s.masters, err = detach(s.ctx, s.store, s.store.listenMasters, nil); err != nil {
		return err
	}
	conns := s.connections()
	s.mu.Lock()
	s.conns = conns
	s.mu.Unlock()
	s.store.background(func(context.Context) { s.askModes() }) // meanwhile
	ready := make(chan struct{}, len(conns))
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() { s.end(c.run(ready)) })
	}
	s.end(s.lead(ready, len(conns)))
	wg.Wait()
	return context.Cause(s.ctx)
}

// connections returns one connection for each server, with the heartbeats that have to come back on it.
func (s *session) connections() []*listenConn {
	conns := make([]*listenConn, len(s.masters))
	for i := range s.masters {
		conns[i] = &listenConn{session: s, master: &s.masters[i], slots: map[string]int{s.pulseChannel(i): i}, more: make(chan struct{}, 1)}
	}
	s.slots = len(conns)
	if s.key.byKey {
		s.slots *= 2 // another one for the lanes of each connection
	}
	return conns
}

// pulseChannel is the channel of the heartbeats through a master.
func (s *session) pulseChannel(master int) string { return s.pulse + strconv.Itoa(master) }

// lead has the subscribers subscribe when all connections are ready, sends the heartbeats, and
// checks that they come back.
func (s *session) lead(ready <-chan struct{}, conns int) error {
	late := time.NewTimer(s.key.timeout + s.dialTimeout())
	defer late.Stop()
	for range conns {
		select {
		case <-ready:
		case <-late.C:
			return fmt.Errorf("%w: no subscription within %v", store.ErrHeartbeatTimeout, s.key.timeout+s.dialTimeout())
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
	s.ready()
	s.startRound()
	late.Reset(s.key.timeout)
	pulse := time.NewTicker(s.interval())
	defer pulse.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-pulse.C:
			s.startRound()
			s.endStanding()
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

// interval is the time between two rounds. It is longer where one takes a master more than two commands:
// on a cluster, where it is asked for its state, and with lanes.
func (s *session) interval() time.Duration {
	switch {
	case s.key.byKey:
		return s.key.interval * 16 / 10
	case s.store.cluster != nil:
		return s.key.interval * 14 / 10
	}
	return s.key.interval
}

// watchPause is the time between two looks at what the subscribers watch. On a cluster they are as many
// commands as the node has parts of the keys. In a session by key they are all that shows that others have
// written; see rest in package coherence.
func (s *session) watchPause() time.Duration {
	pause := (watchEvery - 1) * s.key.interval
	if s.store.cluster != nil && !s.key.byKey {
		pause *= 2
	}
	return pause
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
	count := !full && s.proof.counts()
	watch := !full && time.Since(s.watched) >= s.watchPause()
	if watch {
		s.watched = time.Now()
	}
	s.mu.Unlock()
	if full {
		return
	}
	for i := range s.masters {
		s.store.background(func(context.Context) {
			if s.key.byKey {
				s.publishByLane(round, i, count)
			} else {
				s.publish(s.masters[i], round, i, count)
			}
			if i > 0 {
				return
			}
			// Later, and so on the same connection of the pool.
			s.askModes()
			if watch {
				s.watch()
			}
		})
	}
}

// publish sends a heartbeat through a master, by way of a client of its.
func (s *session) publish(by listenMaster, round int64, master int, count bool) (err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.key.timeout)
	defer cancel()
	heard, err := s.store.publishPulse(ctx, &by, s.channelNames, s.pulseChannel(master), strconv.FormatInt(round, 10), count)
	if err == nil {
		s.prove(master, heard)
	}
	s.published(err)
	return err
}

// published takes the outcome of a heartbeat that was to be published.
func (s *session) published(err error) {
	if errors.Is(err, errDemoted) {
		s.store.demotions.Add(1)
	}
	if errors.Is(err, errMoved) || errors.Is(err, errDemoted) {
		s.end(err)
	}
	s.mu.Lock()
	s.publishing--
	if err != nil {
		s.pulseErr = err
	}
	again := s.again && s.publishing == 0
	s.again = s.again && !again
	answered := s.publishing == 0
	s.mu.Unlock()
	if answered {
		s.report()
	}
	if again {
		s.startRound()
	}
}

// startRoundSoon starts a round: when those that are being sent are answered, so that many
// subscribers who join at once cost few.
func (s *session) startRoundSoon() {
	s.mu.Lock()
	wait := s.publishing > 0
	s.again, s.first = s.again || wait, true
	s.mu.Unlock()
	if !wait {
		s.startRound()
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
	if complete && s.first && s.publishing > 0 {
		// A caller waits for this, and should find a connection that is idle.
		if s.held.IsZero() {
			time.AfterFunc(turnWait, s.report)
		}
		if sent.After(s.held) {
			s.held = sent
		}
		complete = false
	}
	s.mu.Unlock()
	if complete {
		s.tell(sent)
	}
}

// report reports the round that heard has put off, if there is one.
func (s *session) report() {
	s.mu.Lock()
	sent := s.held
	s.held = time.Time{}
	s.mu.Unlock()
	if !sent.IsZero() {
		s.tell(sent)
	}
}

// tell reports a round that was sent at a time to the subscribers.
func (s *session) tell(sent time.Time) {
	s.mu.Lock()
	s.first = false
	s.mu.Unlock()
	s.aliveMu.Lock()
	defer s.aliveMu.Unlock()
	if sent.Before(s.alive) {
		return // one that was sent at the same time may have been before a subscriber could be told
	}
	s.alive = sent
	for _, m := range s.all() {
		m.alive(sent)
	}
}

// check returns the time after which it is to be called again, or an error if a round has taken
// too long.
func (s *session) check() (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := s.rounds.Wait(time.Now(), s.key.timeout)
	switch {
	case wait > 0:
		return wait, nil
	case s.pulseErr != nil:
		return 0, fmt.Errorf("%w: no pulse for %v; the last that could not be sent: %w", store.ErrHeartbeatTimeout, s.key.timeout, s.pulseErr)
	}
	return 0, fmt.Errorf("%w: no pulse for %v", store.ErrHeartbeatTimeout, s.key.timeout)
}

// lookAtMasters ends the session if the list of masters has changed, or the nodes that have the slots. It
// does not wait for the answer.
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
		ctx, cancel := context.WithTimeout(s.ctx, s.key.timeout)
		defer cancel()
		if err := s.sameMasters(ctx); err != nil {
			s.end(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.looking = false
	})
}

// sameMasters returns an error if they are not the same, and nil if that is not known.
func (s *session) sameMasters(ctx context.Context) error {
	if s.node != nil {
		defer takeTurn(ctx, s.node.rdb)()
		l, err := layoutOf(ctx, s.node.rdb)
		if err != nil {
			return nil
		}
		return s.node.member.compare(l, s.channelNames())
	}
	masters, err := s.store.listenMasters(ctx)
	if err != nil {
		return nil
	}
	if was, is := masterNames(s.masters), masterNames(masters); !slices.Equal(was, is) {
		return fmt.Errorf("%w from %v to %v", errMoved, was, is)
	}
	return nil
}

// channelNames returns the names of the channels that the session has subscribed to.
func (s *session) channelNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.AppendSeq([]string{s.channel}, maps.Keys(s.channels))
}

// isLocal reports whether a channel is one of a cluster whose slot the node has: what is published there
// is published by SPUBLISH.
func (s *session) isLocal(channel string) bool { return s.node != nil && s.node.member.has(channel) }
