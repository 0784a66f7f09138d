package coherence

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/glob"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
)

// othersMost is how many sessions by key in a row find that several servers answer before there is none
// any more. While another server takes over an address, it is one or two.
const othersMost = 5

// listen runs one session after another.
func (p *Part) listen() {
	a := p.a
	tracking := a.cfg.Transport.tracks()
	pause := retryFirst
	others := 0 // sessions by key that have met several servers
	for {
		p.tracking.Store(tracking)
		s := &session{p: p, subscribed: make(chan struct{}), byKey: tracking && a.byKey.wanted()}
		p.byKey.Store(s.byKey)
		err := s.run(a.ctx, tracking)
		if a.ctx.Err() != nil {
			return
		}
		if errors.Is(err, store.ErrOtherServer) {
			others++
		}
		if s.byKey && (errors.Is(err, store.ErrNoKeyTracking) || others >= othersMost || !a.byKey.wanted()) {
			a.byKey.giveUp()
			continue // all keys may be tracked
		}
		if !s.byKey {
			a.byKey.receives(p.of)
		}
		if errors.Is(err, store.ErrNoTracking) && tracking {
			// All processes publish for Broadcast, whatever their own transport: it works, and
			// only misses changes made by other programs.
			tracking = false
			if !a.downgraded.Swap(true) {
				a.cfg.Events.Downgraded(err)
			}
			continue
		}
		a.cfg.Events.ConnectionChanged(false, err)
		p.firstSession()
		if s.known.Load() {
			others = 0
		}
		if s.wasValid() {
			pause = retryFirst
		}
		t := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-t.C:
		case <-a.ctx.Done():
			t.Stop()
			return
		}
		pause = min(2*pause, retryMost)
	}
}

// firstGrace is how long the first operations wait for the sessions of the other parts when that of one is
// connected: their nodes may not answer.
const firstGrace = 100 * time.Millisecond

// firstSession is called when the first session is connected, or has failed.
func (p *Part) firstSession() {
	p.firstOnce.Do(func() {
		a := p.a
		if a.firstLeft.Add(-1) == 0 {
			a.endFirst()
		} else if p.Valid(now()) {
			time.AfterFunc(firstGrace, a.endFirst)
		}
	})
}

func (a *Coordinator) endFirst() { a.firstEnds.Do(func() { close(a.first) }) }

// session is one run of store.Store.Subscribe, for a part of the keys, and its store.Subscriber.
type session struct {
	p          *Part
	subscribed chan struct{} // closed by Subscribed
	byKey      bool          // the server reports the keys that this process may hold only

	known atomic.Bool // the logical clock was learned after Subscribed: the local tier may become valid

	mu   sync.Mutex
	was  bool  // the local tier has been valid
	back bool  // a heartbeat has come back
	sent int64 // local time when the latest of these was sent
	over bool  // the session has ended: the local tier stays invalid

	watching EpochRead // in flight since Watch was called
}

var (
	_ store.CheckingSubscriber = (*session)(nil)
	_ store.WatchingSubscriber = (*session)(nil)
)

// wasValid reports whether the local tier of the part has been valid in this session.
func (s *session) wasValid() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.was
}

// counts reports whether messages are counted, since one may be lost alone. On a cluster each session
// is subscribed at the nodes that publish what concerns its part of the keys; and with TrackingKeys too,
// each server publishes to every process itself. There, none is lost without its connection.
func (s *session) counts() bool { return !s.byKey && len(s.p.a.parts) == 1 }

func (s *session) run(ctx context.Context, tracking bool) error {
	a := s.p.a
	ctx, cancel := context.WithCancel(ctx)
	if s.byKey {
		a.byKey.begin(s, cancel)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.prepare(ctx)
	}()
	l := store.Subscription{
		Channel: s.p.names.Channel, Waiter: a.waiter, Tracking: tracking, Prefix: a.cfg.Names.Data, Slots: s.p.names.Slots,
		HeartbeatInterval: HeartbeatInterval, HeartbeatTimeout: HeartbeatTimeout,
	}
	if s.byKey {
		// It signs no lease: the server reports the end of each that it has seen.
		l.ByKey, l.Channel, l.Waiter = true, store.ControlChannel(l.Channel), ""
	}
	err := a.cfg.Client.Subscribe(ctx, l, s)
	cancel()
	<-done
	s.end()
	return err
}

// end invalidates the local tier: messages are missed from now on. Waiting readers must ask
// Redis themselves.
func (s *session) end() {
	p, a := s.p, s.p.a
	s.mu.Lock()
	s.over = true
	if len(a.parts) == 1 {
		a.direct.Store(false)
		a.disprove.Store(nil)
	}
	p.extend(never)
	s.mu.Unlock()
	if s.byKey {
		a.byKey.end(s)
	}
	p.rest.end(p.Clock.Known(), now())
	p.Clock.Forget()
	p.suspect()
	a.wakeAll()
}

// prepare does what has to be done between Subscribed and validity.
func (s *session) prepare(ctx context.Context) {
	select {
	case <-s.subscribed:
	case <-ctx.Done():
		return
	}
	p, a := s.p, s.p.a
	reasons, _ := p.suspicion.open()
	safe := a.lookFor(ctx, reasons, 0)
	a.unverifyConnections()
	p.replayRecent(ctx, safe, reasons)
	if a.queue.Len() > 0 {
		a.wakeUp()
	}
	if p.learnAgain(ctx) != nil {
		return
	}
	s.mu.Lock()
	s.known.Store(true)
	s.extendLocked()
	s.mu.Unlock()
}

// learnAgain learns the clock, in as many attempts as that takes. The error is ctx's.
func (p *Part) learnAgain(ctx context.Context) error {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		if p.FetchTombstones(ctx, nil) == nil {
			return nil
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// extendLocked extends the local tier's validity up to the deadline of the last heartbeat. mu is
// held.
//
// What the tier has when it becomes valid is from before the subscription, or was put since then
// by readers that did not wait for the session: the changes made while disconnected are not known,
// and the tier is flushed. It is flushed before it is valid, and readers look whether it is valid
// before they look for an entry, or this could happen:
//
//  1. a reader takes an old entry
//  2. the tier is flushed, and becomes valid
//  3. the reader finds the tier valid, and returns the entry
//
// The tier is not flushed by Subscribed already. Where one node of a cluster is down, each session
// is subscribed at the others, and ends without a heartbeat; the tier is kept meanwhile, for
// strategy.LocalDuringOutage.
func (s *session) extendLocked() {
	if s.over || !s.known.Load() || !s.back {
		return
	}
	p, a := s.p, s.p.a
	if !s.was {
		s.was = true
		p.flush()
	}
	p.heard.Store(s.sent)
	p.extend(s.sent + int64(HeartbeatTimeout))
	if p.Valid(now()) {
		if !s.byKey {
			a.byKey.receives(p.of)
		}
		if a.LocalValid(now()) {
			a.cfg.Events.ConnectionChanged(true, nil)
		}
		p.firstSession()
	}
}

// Subscribed implements store.Subscriber. The local tier is flushed after it, in extendLocked, or
// this could happen:
//
//  1. flush
//  2. a reader fills the local tier from Redis
//  3. another process writes that key, and publishes
//  4. subscribed: only from here on are messages received
func (s *session) Subscribed() {
	p, a := s.p, s.p.a
	if s.counts() {
		a.inbox.Subscribed(now())
	}
	p.Clock.Subscribed()
	p.rest.begin(s.byKey)
	a.selfWrites.forget()
	a.changedAny()
	a.wakeAll()
	close(s.subscribed)
}

// Checks implements store.CheckingSubscriber.
func (s *session) Checks(disprove func()) {
	if s.counts() {
		s.p.a.disprove.Store(&disprove)
	}
}

// Direct implements store.DirectSubscriber. From now on numbers only check that, and a sender that
// is not known costs nothing, however late its first message comes.
func (s *session) Direct() {
	if !s.counts() {
		return
	}
	s.mu.Lock()
	s.p.a.direct.Store(!s.over)
	s.mu.Unlock()
	if s.p.a.inbox.Direct(now()) {
		s.missed()
	}
}

// Heartbeat implements store.Subscriber.
func (s *session) Heartbeat(sent time.Time) {
	at := now() - int64(time.Since(sent))
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.back || at > s.sent {
		s.back, s.sent = true, at
	}
	s.extendLocked()
}

// KeysChanged implements store.Subscriber.
func (s *session) KeysChanged(keys []string) {
	p, a := s.p, s.p.a
	if keys == nil {
		// FLUSHALL, FLUSHDB, or more keys than the server can report. The logical clock may be
		// lost as well.
		s.missed()
		return
	}
	for _, k := range keys {
		if len(k) < len(a.cfg.Names.Data) || a.selfWrites.maybeOwn(k) {
			continue
		}
		p.use()
		a.dropReported(k)
	}
}

// Message implements store.Subscriber.
func (s *session) Message(payload string) {
	p, a := s.p, s.p.a
	n, err := message.Parse(payload)
	switch {
	case errors.Is(err, message.ErrNewer):
		if n.Sender != 0 && n.Sender != a.Outbox.Sender() && s.counts() {
			a.inbox.Receive(&n, now())
		}
		s.missed() // its meaning is unknown
		return
	case err != nil:
		return // not a message of this library
	case n.Kind == message.Loaded:
		// Not for this process's own loads: a load that MaxAge(0) has begun besides another
		// process's, whose lock it took over, may fail while that one goes on. Its waiters
		// would find it gone, and begin another.
		if n.Sender != a.Outbox.Sender() {
			for _, k := range n.Keys {
				a.wait.wake(k)
			}
		}
		return
	case n.Sender == a.Outbox.Sender():
		if n.Kind == message.Watermark || a.Outbox.IsOwnEcho(n.Number) {
			return
		}
	case s.counts() && a.inbox.Receive(&n, now()), n.Unresolved:
		s.missed()
	}
	switch n.Kind {
	case message.Invalidated:
		for _, k := range n.Keys {
			p.use()
			a.drop(k)
		}
		a.cfg.Events.Received(len(n.Keys))
	case message.Pattern:
		p.use()
		p.dropMatching(n.Pattern)
		if p.of == 0 { // there is one for each part
			a.cfg.Events.Received(1)
		}
	case message.TagsInvalidated, message.PartTagsInvalidated:
		// A process that has another number of parts is not one of this library, or its client is
		// not one for a cluster.
		m, ok := logicalclock.ParseReading(n.Text, len(n.Tags))
		if ok && n.Part == p.of && (n.Kind == message.PartTagsInvalidated) == (len(a.parts) > 1) {
			p.use()
			p.applyPeerTombstones(n.Tags, m)
		} else {
			s.missed()
		}
		a.cfg.Events.Received(max(len(n.Tags), 1))
	}
}

// missed is called when messages may have been lost.
func (s *session) missed() {
	if s.counts() {
		s.p.a.missedAlone()
	} else {
		s.p.missed()
	}
}

// missedAlone is called when messages that are counted may have been lost.
func (a *Coordinator) missedAlone() {
	a.parts[0].missed()
	if a.inbox.Disproved() {
		a.direct.Store(false)
		if disprove := a.disprove.Load(); disprove != nil {
			(*disprove)()
		}
	}
}

// flushed flushes the local tier because it may be out of date.
func (a *Coordinator) flushed() {
	a.flush()
	a.cfg.Events.Flushed()
}

// dropMatching is that of the coordinator, for keys of this part.
func (p *Part) dropMatching(pattern string) {
	a := p.a
	if len(a.parts) == 1 || a.cfg.Local == nil {
		a.dropMatching(pattern)
		return
	}
	a.sweep(p.of, pattern)
}

// dropMatching drops the keys that a pattern matches. The keys of loads and reads in flight are
// not known here: none of them fills the local tier.
func (a *Coordinator) dropMatching(pattern string) {
	if a.cfg.Local != nil {
		a.cfg.Local.RemoveMatching(glob.Compile(pattern).Match)
	} else {
		a.cfg.Fences.MoveAll()
	}
	a.changedAny()
	a.wakeAll()
}

// Watch implements store.WatchingSubscriber.
func (s *session) Watch() []string {
	l := s.p.beginLook()
	if l.known.Epoch == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watching = l
	return []string{s.p.names.Epoch}
}

// Watched implements store.WatchingSubscriber. What is wrong with the clock is found out, and mended,
// by touching it.
func (s *session) Watched(recs []store.Record) {
	p := s.p
	s.mu.Lock()
	l := s.watching
	s.mu.Unlock()
	e, ok := logicalclock.ParseEpoch(recs[0].Raw)
	if !ok || !e.By(p.latest.Load()) || e.ID != l.known.Epoch || e.Tick < l.known.Tick {
		p.use()
		return
	}
	if e.All.Next == 0 || e.All.Dated() { // otherwise Redis's clock would be needed
		p.learnEpoch(e, 0, l)
	}
	if k := p.Clock.Known(); k.Epoch == e.ID && k.Tick >= e.Tick {
		p.rest.look(k, l.at, now())
	}
	p.rest.watched.Store(now())
}
