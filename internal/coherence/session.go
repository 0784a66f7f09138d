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
func (a *Coordinator) listen() {
	tracking := a.cfg.Transport.tracks()
	pause := retryFirst
	others := 0 // sessions by key that have met several servers
	for {
		a.tracking.Store(tracking)
		s := &session{a: a, subscribed: make(chan struct{}), byKey: tracking && a.byKey.wanted()}
		a.byKey.in.Store(s.byKey)
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
			a.byKey.receivesAll()
		}
		if errors.Is(err, store.ErrNoTracking) && tracking {
			// All processes publish for Broadcast, whatever their own transport: it works, and
			// only misses changes made by other programs.
			tracking = false
			a.cfg.Events.Downgraded(err)
			continue
		}
		a.cfg.Events.ConnectionChanged(false, err)
		a.readyOnce.Do(func() { close(a.first) })
		if s.known.Load() {
			pause, others = retryFirst, 0
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

// session is one run of store.Store.Subscribe, and its store.Subscriber.
type session struct {
	a          *Coordinator
	subscribed chan struct{} // closed by Subscribed
	byKey      bool          // the server reports the keys that this process may hold only

	known atomic.Bool // the logical clock was learned after Subscribed: the local tier may become valid

	mu   sync.Mutex
	was  bool  // the local tier has been valid
	back bool  // a heartbeat has come back
	sent int64 // local time when the latest of these was sent
	over bool  // the session has ended: the local tier stays invalid

	watching []EpochRead // in flight since Watch was called

	copies copies // byKey
}

var (
	_ store.CheckingSubscriber = (*session)(nil)
	_ store.WatchingSubscriber = (*session)(nil)
)

func (s *session) run(ctx context.Context, tracking bool) error {
	ctx, cancel := context.WithCancel(ctx)
	if s.byKey {
		s.a.byKey.begin(s, cancel)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.prepare(ctx)
	}()
	l := store.Subscription{
		Channel: s.a.cfg.Names.Channel, Waiter: s.a.waiter, Tracking: tracking, Prefix: s.a.cfg.Names.Data, HeartbeatInterval: HeartbeatInterval, HeartbeatTimeout: HeartbeatTimeout,
	}
	if s.byKey {
		// It signs no lease: the server reports the end of each that it has seen.
		l.ByKey, l.Channel, l.Waiter = true, store.ControlChannel(l.Channel), ""
	}
	err := s.a.cfg.Client.Subscribe(ctx, l, s)
	cancel()
	<-done
	s.end()
	return err
}

// end invalidates the local tier: messages are missed from now on. Waiting readers must ask
// Redis themselves.
func (s *session) end() {
	s.mu.Lock()
	s.over = true
	s.a.direct.Store(false)
	s.a.disprove.Store(nil)
	s.a.localValid.Store(never)
	s.mu.Unlock()
	for _, p := range s.a.parts {
		p.rest.end(p.Clock.Known(), now())
		p.Clock.Forget()
	}
	s.a.Suspect()
	s.a.wakeAll()
}

// prepare does what has to be done between Subscribed and validity.
func (s *session) prepare(ctx context.Context) {
	select {
	case <-s.subscribed:
	case <-ctx.Done():
		return
	}
	safe := s.a.look(ctx)
	s.a.unverifyConnections()
	s.a.replayAll(ctx, safe)
	if !s.a.eachPart(s.a.parts, func(p *Part) error { return p.learnAgain(ctx) }) {
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
	a := s.a
	if !s.was {
		s.was = true
		a.flush()
	}
	a.heard.Store(s.sent)
	a.localValid.Store(s.sent + int64(HeartbeatTimeout))
	if a.LocalValid(now()) {
		if !s.byKey {
			a.byKey.receivesAll()
		}
		a.cfg.Events.ConnectionChanged(true, nil)
		a.readyOnce.Do(func() { close(a.first) })
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
	s.a.inbox.Subscribed(now())
	s.a.subscribedClocks()
	for _, p := range s.a.parts {
		p.rest.begin(s.byKey)
	}
	s.a.selfWrites.forget()
	s.a.changedAny()
	s.a.wakeAll()
	close(s.subscribed)
}

// Checks implements store.CheckingSubscriber.
func (s *session) Checks(disprove func()) { s.a.disprove.Store(&disprove) }

// Direct implements store.DirectSubscriber. From now on numbers only check that, and a sender that
// is not known costs nothing, however late its first message comes.
func (s *session) Direct() {
	s.mu.Lock()
	s.a.direct.Store(!s.over)
	s.mu.Unlock()
	if s.a.inbox.Direct(now()) {
		s.a.missed()
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
	a := s.a
	if keys == nil {
		// FLUSHALL, FLUSHDB, or more keys than the server can report. The logical clock may be
		// lost as well.
		a.missed()
		return
	}
	for _, k := range keys {
		if len(k) < len(a.cfg.Names.Data) || a.selfWrites.maybeOwn(k) {
			continue
		}
		a.Of(k).use()
		a.dropReported(k)
	}
}

// Message implements store.Subscriber.
func (s *session) Message(payload string) {
	a := s.a
	if s.byKey && s.copies.isCopy(payload) {
		return
	}
	n, err := message.Parse(payload)
	switch {
	case errors.Is(err, message.ErrNewer):
		if n.Sender != 0 && n.Sender != a.Outbox.Sender() && !s.byKey {
			a.inbox.Receive(&n, now())
		}
		a.missed() // its meaning is unknown
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
	case !s.byKey && a.inbox.Receive(&n, now()), n.Unresolved:
		a.missed()
	}
	switch n.Kind {
	case message.Invalidated:
		for _, k := range n.Keys {
			a.useOf(k)
			a.drop(k)
		}
		a.cfg.Events.Received(len(n.Keys))
	case message.Pattern:
		a.use()
		a.dropMatching(n.Pattern)
		a.cfg.Events.Received(1)
	case message.TagsInvalidated, message.PartTagsInvalidated:
		// A process that has another number of parts is not one of this library, or its client is
		// not one for a cluster.
		m, ok := logicalclock.ParseReading(n.Text, len(n.Tags))
		if ok && int(n.Part) < len(a.parts) && (n.Kind == message.PartTagsInvalidated) == (len(a.parts) > 1) {
			p := a.parts[n.Part]
			p.use()
			p.applyPeerTombstones(n.Tags, m)
		} else {
			a.missed()
		}
		a.cfg.Events.Received(max(len(n.Tags), 1))
	}
}

// missed is called when messages may have been lost during a session. One of them may have been
// about tombstones: the copy of the logical clock is not complete any more.
func (a *Coordinator) missed() {
	a.use()
	a.subscribedClocks()
	a.flushed()
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
	var keys []string
	var looks []EpochRead
	for _, p := range s.a.parts {
		if l := p.beginLook(); l.known.Epoch != 0 {
			keys, looks = append(keys, p.names.Epoch), append(looks, l)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watching = looks
	return keys
}

// Watched implements store.WatchingSubscriber. What is wrong with a clock is found out, and mended,
// by touching it.
func (s *session) Watched(recs []store.Record) {
	s.mu.Lock()
	looks := s.watching
	s.mu.Unlock()
	for i, l := range looks {
		p := l.part
		e, ok := logicalclock.ParseEpoch(recs[i].Raw)
		if !ok || !e.By(p.latest.Load()) || e.ID != l.known.Epoch || e.Tick < l.known.Tick {
			p.use()
			continue
		}
		if e.All.Next == 0 || e.All.Dated() { // otherwise Redis's clock would be needed
			p.learnEpoch(e, 0, l)
		}
		if k := p.Clock.Known(); k.Epoch == e.ID && k.Tick >= e.Tick {
			p.rest.look(k, l.at, now())
		}
		p.rest.watched.Store(now())
	}
}
