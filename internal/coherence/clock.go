package coherence

import (
	"context"
	"errors"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

// ErrSuspect means that records read together with the logical clock may be older than what
// this process wrote. See [Coordinator.Reconcile].
var ErrSuspect = errors.New("coherence: Redis has gone back in time")

var errOvertaken = errors.New("coherence: the logical clock changes faster than it can be read")

// EpochRead is a read of the logical clock in flight.
type EpochRead struct {
	part  *Part
	asked logicalclock.Token
	at    int64
	known logicalclock.Known // before the read was sent
}

// BeginEpochRead is called at the local time at, before names.Epoch is read from Redis, together with
// the records that are to be validated against it.
func (p *Part) BeginEpochRead(at int64) EpochRead {
	p.use()
	return p.beginLookAt(at)
}

// beginLook is BeginEpochRead for reads that do not show that the cache is in use.
func (p *Part) beginLook() EpochRead { return p.beginLookAt(now()) }

func (p *Part) beginLookAt(at int64) EpochRead {
	return EpochRead{p, p.Clock.ReadVersion(), at, p.Clock.Known()}
}

// EndEpochRead takes the reply. If the epoch is missing or unusable, it is read once more, by
// the script that creates one. The error says why the epoch is not known.
func (p *Part) EndEpochRead(ctx context.Context, l EpochRead, reply store.Reply) error {
	if reply.Err != nil {
		if p.fresh(now()) {
			return nil // the copy is not too old yet
		}
		return reply.Err
	}
	e, ok := p.parseEpoch(ctx, reply.Record.Raw)
	if l.known.Epoch != 0 && (!ok || e.Tick < l.known.Tick) {
		p.wentBack() // another epoch than the known one, or it has gone back in time
		return ErrSuspect
	}
	if ok {
		// Without Redis's clock, a pending tombstone would take effect at once.
		var redisNow int64
		if e.All.Next != 0 && !e.All.Dated() {
			redisNow, _ = p.a.cfg.Client.Now(ctx, p.names.Epoch)
		}
		if p.learnEpoch(e, redisNow, l) {
			return nil
		}
	}
	return p.FetchTombstones(ctx, nil)
}

// wentBack is called when Redis turns out to have lost data or to be another server.
func (p *Part) wentBack() {
	p.use()
	p.rollbackSeen.raise()
	p.a.Suspect()
}

// noteRepair takes the answer of a script of the logical clock, before which known was known of it.
func (p *Part) noteRepair(m *logicalclock.Reading, known logicalclock.Known) {
	if m.Repaired(known) {
		p.wentBack()
	}
}

// parseEpoch reads an epoch. An epoch whose times are too far ahead of Redis's clock counts as
// missing: once this process had learned such times, Redis could not make it forget them.
// Redis's clock is estimated only if the epoch may be too far ahead; see
// [Part.measured].
func (p *Part) parseEpoch(ctx context.Context, raw []byte) (e logicalclock.Epoch, ok bool) {
	if e, ok = logicalclock.ParseEpoch(raw); !ok || e.By(p.latest.Load()) {
		return e, ok
	}
	redisNow, err := p.a.cfg.Client.Now(ctx, p.names.Epoch)
	if err != nil || !e.By(logicalclock.Latest(redisNow)) {
		return logicalclock.Epoch{}, false
	}
	p.measured(redisNow)
	return e, true
}

// measured records a reading of Redis's clock. A time that is plausible by it is plausible at
// any later time, until that clock is set back.
func (p *Part) measured(redisNow int64) { p.latest.Store(logicalclock.Latest(redisNow)) }

// unreadable is called with the error of a script that was passed this process's copy of the
// logical clock. If the script answered nonsense, the copy may be the reason, and is discarded.
func (p *Part) unreadable(err error) bool {
	if !errors.Is(err, logicalclock.ErrNoClock) {
		return false
	}
	p.Clock.Reset()
	p.wentBack()
	return true
}

// EndEpochReadBeside takes the reply to an epoch read that went with a write, and returns the
// logical time from before that write. Unlike [Part.EndEpochRead] it does not count as a
// read that spares the next one: a process that writes must move the clock on from time to
// time; see [Part.Version].
//
// The time is that of the reply, whatever else becomes known of the clock meanwhile:
//
//  1. a write is sent, and the clock read with it
//  2. the session ends: what is known of the clock is forgotten, and the reply not learned
//  3. a record with the version from before 1 would be invalid if that was old: the write was
//     acknowledged, and the next read would not find it
//
// The clock as it is known after 2 would be too late a time: a tombstone may have been added after
// the write, for a newer value of the source.
func (p *Part) EndEpochReadBeside(ctx context.Context, l EpochRead, reply store.Reply) (epoch uint64, clock int64, ok bool) {
	if reply.Err != nil {
		return 0, 0, false
	}
	e, ok := p.parseEpoch(ctx, reply.Record.Raw)
	if ok && e.ID == l.known.Epoch && e.Tick >= l.known.Tick {
		var redisNow int64
		if e.All.Next != 0 && !e.All.Dated() {
			redisNow, _ = p.a.cfg.Client.Now(ctx, p.names.Epoch)
		}
		p.Clock.Learn(e, redisNow, l.asked, l.at)
		return e.ID, e.Clock, true
	}
	if p.EndEpochRead(ctx, l, reply) != nil || !ok {
		return 0, 0, false
	}
	return e.ID, e.Clock, true
}

// readEpochNow reads the logical clock alone. [Part.FetchTombstones] will not do where
// the clock may have gone back in time: the script repairs the clock, and if its answer is lost, the
// rollback goes unnoticed.
func (p *Part) readEpochNow(ctx context.Context) error {
	l := p.beginLook()
	if l.known.Epoch == 0 {
		return nil // nothing known that the clock could have gone back from
	}
	rec, err := p.a.cfg.Client.Get(ctx, p.names.Epoch)
	return p.EndEpochRead(ctx, l, store.Reply{Record: rec, Err: err})
}

func (p *Part) learnEpoch(e logicalclock.Epoch, redisNow int64, l EpochRead) bool {
	before := p.Clock.Known().Epoch
	if !p.Clock.Learn(e, redisNow, l.asked, l.at) {
		return false
	}
	p.learnedAt(before, l.at)
	return true
}

// learnedAt is called when an answer to a read sent at the local time at was learned. In a new
// epoch, nothing that this process holds is valid.
func (p *Part) learnedAt(epochBefore uint64, at int64) {
	for {
		last := p.learned.Load()
		if at <= last || p.learned.CompareAndSwap(last, at) {
			break
		}
	}
	if epochBefore != 0 && epochBefore != p.Clock.Known().Epoch {
		p.flushed()
	}
}

// askAgain is how often the logical clock is read if each answer is overtaken by another one.
const askAgain = 5

// FetchTombstones reads the logical clock and the tombstones of tags.
func (p *Part) FetchTombstones(ctx context.Context, tags []string) error {
	for range askAgain {
		l := p.beginLook()
		before := p.Claim()
		m, err := p.a.cfg.Client.ReadClock(ctx, p.names, before, tags)
		if p.unreadable(err) && before != (logicalclock.Known{}) {
			continue
		}
		if err != nil {
			return err
		}
		if p.learnTombstones(tags, &m, l) {
			p.learnedAt(before.Epoch, l.at)
			return nil
		}
	}
	return errOvertaken
}

// learnTombstones learns a script's answer.
func (p *Part) learnTombstones(tags []string, m *logicalclock.Reading, l EpochRead) bool {
	p.measured(m.Now)
	p.noteRepair(m, l.known)
	ok := p.Clock.LearnTombstones(tags, m, l.asked, l.at)
	if !ok && l.known.Epoch != 0 && p.Clock.Known().Epoch == 0 {
		p.wentBack() // what was known is reset
	}
	return ok
}

// ValidateNow validates one record against an answer that is requested from Redis now.
func (p *Part) ValidateNow(ctx context.Context, epoch uint64, logicalTime, began int64, tags []string) (logicalclock.Validity, int64, error) {
	at, known := now(), p.Clock.Known()
	m, err := p.a.cfg.Client.ReadClock(ctx, p.names, p.Claim(), tags)
	if err != nil {
		p.unreadable(err)
		return logicalclock.Unknown, 0, err
	}
	p.noteRepair(&m, known)
	v, until := logicalclock.ValidateBy(&m, epoch, logicalTime, began, at, now())
	return v, until, nil
}

// fresh reports whether the copy of the logical clock is recent enough to validate records of
// other processes.
func (p *Part) fresh(now int64) bool {
	if _, _, ok := p.Clock.Version(); !ok {
		return false
	}
	learned := p.learned.Load()
	return p.Connected(now) || learned != never && now-learned < int64(clockAge)
}

// Version returns the logical time for an operation that begins now. It asks Redis only while
// disconnected, at most once a second.
func (p *Part) Version(ctx context.Context) (epoch uint64, logicalTime int64, err error) {
	p.use()
	if err := p.Reconcile(ctx); err != nil {
		return 0, 0, err
	}
	if p.fresh(now()) {
		if epoch, logicalTime, ok := p.Clock.Version(); ok {
			return epoch, logicalTime, nil
		}
	}
	// This read moves the clock on, so that it shows if Redis goes back to a state from before
	// the write that begins now.
	if err := p.readEpochNow(ctx); err != nil && err != ErrSuspect {
		return 0, 0, err
	}
	for range askAgain {
		if err := p.FetchTombstones(ctx, nil); err != nil {
			return 0, 0, err
		}
		// A late message of another epoch may have reset the table.
		if epoch, logicalTime, ok := p.Clock.Version(); ok {
			return epoch, logicalTime, nil
		}
	}
	return 0, 0, errOvertaken
}

// WriteVersion is Stamp for a write. With several nodes, the node of the clock may be down while
// the node of the key answers: then the last known time will do. It is from before the write,
// and a logicalTime that is too old only makes a record invalid sooner than necessary.
func (p *Part) WriteVersion(ctx context.Context) (epoch uint64, logicalTime int64, err error) {
	epoch, logicalTime, err = p.Version(ctx)
	if err == nil || ctx.Err() != nil || p.a.cfg.Client.OneNode() {
		return epoch, logicalTime, err
	}
	if k := p.Clock.Known(); k.Epoch != 0 {
		return k.Epoch, k.Clock, nil
	}
	return 0, 0, err
}

// The keys of the logical clock expire; see [logicalclock.ClockLife]. Ordinary operations
// mostly renew them, but not in a process that only receives messages, or that reads no tags.
const (
	renewLifeFirst = time.Minute // after the start, and after a failed attempt
	renewLifeEvery = time.Hour
)

// renewLives extends the TTLs of all logical clocks' keys, and returns when to do so again.
func (a *Coordinator) renewLives(ctx context.Context) time.Duration {
	if !a.eachPart(a.parts, func(p *Part) error { return p.renewLives(ctx) }) {
		return renewLifeFirst
	}
	return renewLifeEvery
}

// renewLives extends the TTLs of the logical clock's keys.
func (p *Part) renewLives(ctx context.Context) error {
	extend := store.Command{Op: store.Extend, Key: p.names.Tags, Seen: store.CASToken{State: store.WrongType}, TTL: logicalclock.ClockLife}
	if err := p.FetchTombstones(ctx, nil); err != nil {
		return err
	}
	return p.a.cfg.Client.Do(ctx, []store.Command{extend})[0].Err
}

// ownTombstones takes Redis's answer to this process's own tombstones, before the invalidation
// returns to its caller: from then on no entry that they invalidate is served. l was begun before
// they were sent. They were requested at the times pasts; nil: when l was begun.
func (p *Part) ownTombstones(ctx context.Context, tags []string, pasts []retryqueue.Past, m logicalclock.Reading, l EpochRead) error {
	s := p.tagSubjects(tags)
	p.a.recent.NoteTombstones(s, answered(&m), pasts, l.at, now())
	p.use()
	before := p.Clock.Known().Epoch
	if p.learnTombstones(tags, &m, l) {
		p.learnedAt(before, l.at)
	} else if err := p.FetchTombstones(ctx, tags); err != nil {
		// Neither the effect of these tombstones nor of any others is known here: retry them,
		// and treat the clock as unknown until then.
		p.Clock.Forget()
		if pasts == nil {
			p.scheduleTombstones(tags, nil, l.at)
		} // otherwise it is returned to the queue, with its time
		return err
	}
	if pasts == nil {
		p.a.acknowledgedTombstones(s, l.at)
	} else {
		// A tombstone of an earlier time is not that of a later invalidation, which is pending:
		//
		//  1. this process invalidates a tag; Redis does not answer
		//  2. another process stores a value; this process invalidates the tag again, in vain
		//  3. Redis gets 1, as of its own time: the value of 2 stays, until Redis gets 2
		for i, subject := range s {
			p.a.acknowledgedTombstones([]string{subject}, pasts[i].Since)
		}
	}
	p.applyTombstones(tags)
	return nil
}

// applyPeerTombstones takes tombstones that another process has published.
func (p *Part) applyPeerTombstones(tags []string, m logicalclock.Reading) {
	if latest := p.latest.Load(); latest != 0 && !m.Epoch.By(latest) {
		p.missed() // Redis would not accept it
		return
	}
	if !p.Clock.ApplyPeer(tags, &m, now()) {
		// Another epoch, or an unknown one: entries from before may be invalid.
		p.flushed()
		p.a.wakeUp()
		return
	}
	p.applyTombstones(tags)
}

// applyTombstones drops what tombstones have invalidated. Entries with tags are validated when they are
// next read; entries without tags are flushed now if everything was invalidated. Loads in
// flight began before the tombstones, and no new reader may share them.
func (p *Part) applyTombstones(tags []string) {
	if len(tags) == 0 {
		p.a.flush() // also where there are several parts: all of them are invalidated, at about the same time
		return
	}
	p.a.cfg.Fences.Turn() // with claims, what these loads store is validated by its tags
}
