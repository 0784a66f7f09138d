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

// EpochRead is a read of the logical clock in flight.
type EpochRead struct {
	asked logicalclock.Token
	at    int64
	known logicalclock.Known // before the read was sent
}

// BeginEpochRead is called before names.Epoch is read from Redis, together with the records
// that are to be validated against it.
func (a *Coordinator) BeginEpochRead() EpochRead {
	a.use()
	return a.beginLook()
}

// beginLook is BeginEpochRead for reads that do not show that the cache is in use.
func (a *Coordinator) beginLook() EpochRead {
	return EpochRead{a.Clock.ReadVersion(), now(), a.Clock.Known()}
}

// EndEpochRead takes the reply. If the epoch is missing or unusable, it is read once more, by
// the script that creates one. The error says why the epoch is not known.
func (a *Coordinator) EndEpochRead(ctx context.Context, l EpochRead, reply store.Reply) error {
	if reply.Err != nil {
		if a.fresh(now()) {
			return nil // the copy is not too old yet
		}
		return reply.Err
	}
	e, ok := a.parseEpoch(ctx, reply.Record.Raw)
	if l.known.Epoch != 0 && (!ok || e.Tick < l.known.Tick) {
		a.wentBack() // another epoch than the known one, or it has gone back in time
		return ErrSuspect
	}
	if ok {
		// Without Redis's clock, a pending tombstone would take effect at once.
		var redisNow int64
		if e.All.Next != 0 && !e.All.Dated() {
			redisNow, _ = a.cfg.Client.Now(ctx, a.cfg.Names.Epoch)
		}
		if a.learnEpoch(e, redisNow, l) {
			return nil
		}
	}
	return a.FetchTombstones(ctx, nil)
}

// wentBack is called when Redis turns out to have lost data or to be another server.
func (a *Coordinator) wentBack() {
	a.use()
	a.rollbackSeen.raise()
	a.Suspect()
}

// parseEpoch reads an epoch. An epoch whose times are too far ahead of Redis's clock counts as
// missing: once this process had learned such times, Redis could not make it forget them.
// Redis's clock is estimated only if the epoch may be too far ahead; see
// [Coordinator.measured].
func (a *Coordinator) parseEpoch(ctx context.Context, raw []byte) (e logicalclock.Epoch, ok bool) {
	if e, ok = logicalclock.ParseEpoch(raw); !ok || e.By(a.latest.Load()) {
		return e, ok
	}
	redisNow, err := a.cfg.Client.Now(ctx, a.cfg.Names.Epoch)
	if err != nil || !e.By(logicalclock.Latest(redisNow)) {
		return logicalclock.Epoch{}, false
	}
	a.measured(redisNow)
	return e, true
}

// measured records a reading of Redis's clock. A time that is plausible by it is plausible at
// any later time, until that clock is set back.
func (a *Coordinator) measured(redisNow int64) { a.latest.Store(logicalclock.Latest(redisNow)) }

// unreadable is called with the error of a script that was passed this process's copy of the
// logical clock. If the script answered nonsense, the copy may be the reason, and is discarded.
func (a *Coordinator) unreadable(err error) bool {
	if !errors.Is(err, logicalclock.ErrNoClock) {
		return false
	}
	a.Clock.Reset()
	a.wentBack()
	return true
}

// EndEpochReadBeside takes the reply to an epoch read that went with a write, and returns the
// logical time from before that write. Unlike [Coordinator.EndEpochRead] it does not count as a
// read that spares the next one: a process that writes must move the clock on from time to
// time; see [Coordinator.Version].
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
func (a *Coordinator) EndEpochReadBeside(ctx context.Context, l EpochRead, reply store.Reply) (epoch uint64, clock int64, ok bool) {
	if reply.Err != nil {
		return 0, 0, false
	}
	e, ok := a.parseEpoch(ctx, reply.Record.Raw)
	if ok && e.ID == l.known.Epoch && e.Tick >= l.known.Tick {
		var redisNow int64
		if e.All.Next != 0 && !e.All.Dated() {
			redisNow, _ = a.cfg.Client.Now(ctx, a.cfg.Names.Epoch)
		}
		a.Clock.Learn(e, redisNow, l.asked, l.at)
		return e.ID, e.Clock, true
	}
	if a.EndEpochRead(ctx, l, reply) != nil || !ok {
		return 0, 0, false
	}
	return e.ID, e.Clock, true
}

// readEpochNow reads the logical clock alone. [Coordinator.FetchTombstones] will not do where
// the clock may have gone back in time: the script repairs the clock, and the rollback would go
// unnoticed.
func (a *Coordinator) readEpochNow(ctx context.Context) error {
	l := a.beginLook()
	if l.known.Epoch == 0 {
		return nil // nothing known that the clock could have gone back from
	}
	rec, err := a.cfg.Client.Get(ctx, a.cfg.Names.Epoch)
	return a.EndEpochRead(ctx, l, store.Reply{Record: rec, Err: err})
}

func (a *Coordinator) learnEpoch(e logicalclock.Epoch, redisNow int64, l EpochRead) bool {
	before := a.Clock.Known().Epoch
	if !a.Clock.Learn(e, redisNow, l.asked, l.at) {
		return false
	}
	a.learnedAt(before, l.at)
	return true
}

// learnedAt is called when an answer to a read sent at the local time at was learned. In a new
// epoch, nothing that this process holds is valid.
func (a *Coordinator) learnedAt(epochBefore uint64, at int64) {
	for {
		last := a.learned.Load()
		if at <= last || a.learned.CompareAndSwap(last, at) {
			break
		}
	}
	if epochBefore != 0 && epochBefore != a.Clock.Known().Epoch {
		a.flushed()
	}
}

// askAgain is how often the logical clock is read if each answer is overtaken by another one.
const askAgain = 5

// FetchTombstones reads the logical clock and the tombstones of tags.
func (a *Coordinator) FetchTombstones(ctx context.Context, tags []string) error {
	for range askAgain {
		l := a.beginLook()
		before := a.Claim()
		m, err := a.cfg.Client.ReadClock(ctx, a.cfg.Names, before, tags)
		if a.unreadable(err) && before != (logicalclock.Known{}) {
			continue
		}
		if err != nil {
			return err
		}
		if a.learnTombstones(tags, &m, l) {
			a.learnedAt(before.Epoch, l.at)
			return nil
		}
	}
	return errOvertaken
}

// learnTombstones learns a script's answer.
func (a *Coordinator) learnTombstones(tags []string, m *logicalclock.Reading, l EpochRead) bool {
	a.measured(m.Now)
	ok := a.Clock.LearnTombstones(tags, m, l.asked, l.at)
	if !ok && l.known.Epoch != 0 && a.Clock.Known().Epoch == 0 {
		a.wentBack() // what was known is reset
	}
	return ok
}

// ValidateNow validates one record against an answer that is requested from Redis now.
func (a *Coordinator) ValidateNow(ctx context.Context, epoch uint64, logicalTime, began int64, tags []string) (logicalclock.Validity, int64, error) {
	at := now()
	m, err := a.cfg.Client.ReadClock(ctx, a.cfg.Names, a.Claim(), tags)
	if err != nil {
		a.unreadable(err)
		return logicalclock.Unknown, 0, err
	}
	v, until := logicalclock.ValidateBy(&m, epoch, logicalTime, began, at, now())
	return v, until, nil
}

// fresh reports whether the copy of the logical clock is recent enough to validate records of
// other processes.
func (a *Coordinator) fresh(now int64) bool {
	if _, _, ok := a.Clock.Version(); !ok {
		return false
	}
	learned := a.learned.Load()
	return a.Connected(now) || learned != never && now-learned < int64(clockAge)
}

// Version returns the logical time for an operation that begins now. It asks Redis only while
// disconnected, at most once a second.
func (a *Coordinator) Version(ctx context.Context) (epoch uint64, logicalTime int64, err error) {
	a.use()
	if err := a.Reconcile(ctx); err != nil {
		return 0, 0, err
	}
	if a.fresh(now()) {
		if epoch, logicalTime, ok := a.Clock.Version(); ok {
			return epoch, logicalTime, nil
		}
	}
	// This read moves the clock on, so that it shows if Redis goes back to a state from before
	// the write that begins now.
	if err := a.readEpochNow(ctx); err != nil && err != ErrSuspect {
		return 0, 0, err
	}
	for range askAgain {
		if err := a.FetchTombstones(ctx, nil); err != nil {
			return 0, 0, err
		}
		// A late message of another epoch may have reset the table.
		if epoch, logicalTime, ok := a.Clock.Version(); ok {
			return epoch, logicalTime, nil
		}
	}
	return 0, 0, errOvertaken
}

// WriteVersion is Stamp for a write. With several nodes, the node of the clock may be down while
// the node of the key answers: then the last known time will do. It is from before the write,
// and a logicalTime that is too old only makes a record invalid sooner than necessary.
func (a *Coordinator) WriteVersion(ctx context.Context) (epoch uint64, logicalTime int64, err error) {
	epoch, logicalTime, err = a.Version(ctx)
	if err == nil || ctx.Err() != nil || a.cfg.Client.OneNode() {
		return epoch, logicalTime, err
	}
	if k := a.Clock.Known(); k.Epoch != 0 {
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

// renewLives extends the TTLs of the logical clock's keys, and returns when to do so again.
func (a *Coordinator) renewLives(ctx context.Context) time.Duration {
	extend := store.Command{Op: store.Extend, Key: a.cfg.Names.Tags, Seen: store.CASToken{State: store.WrongType}, TTL: logicalclock.ClockLife}
	if a.FetchTombstones(ctx, nil) != nil || a.cfg.Client.Do(ctx, []store.Command{extend})[0].Err != nil {
		return renewLifeFirst
	}
	return renewLifeEvery
}

// ownTombstones takes Redis's answer to this process's own tombstones, before the invalidation
// returns to its caller: from then on no entry that they invalidate is served. l was begun before
// they were sent. They were requested at the times pasts; nil: when l was begun.
func (a *Coordinator) ownTombstones(ctx context.Context, tags []string, pasts []retryqueue.Past, m logicalclock.Reading, l EpochRead) error {
	s := subjects(aTag, tags)
	a.recent.NoteTombstones(s, answered(&m), pasts, l.at, now())
	a.use()
	before := a.Clock.Known().Epoch
	if a.learnTombstones(tags, &m, l) {
		a.learnedAt(before, l.at)
	} else if err := a.FetchTombstones(ctx, tags); err != nil {
		// Neither the effect of these tombstones nor of any others is known here: retry them,
		// and treat the clock as unknown until then.
		a.Clock.Forget()
		if pasts == nil {
			a.scheduleTombstones(tags, nil, l.at)
		} // otherwise it is returned to the queue, with its time
		return err
	}
	if pasts == nil {
		a.acknowledgedTombstones(s, l.at)
	} else {
		// A tombstone of an earlier time is not that of a later invalidation, which is pending:
		//
		//  1. this process invalidates a tag; Redis does not answer
		//  2. another process stores a value; this process invalidates the tag again, in vain
		//  3. Redis gets 1, as of its own time: the value of 2 stays, until Redis gets 2
		for i, subject := range s {
			a.acknowledgedTombstones([]string{subject}, pasts[i].Since)
		}
	}
	a.applyTombstones(tags)
	return nil
}

// applyPeerTombstones takes tombstones that another process has published.
func (a *Coordinator) applyPeerTombstones(tags []string, m logicalclock.Reading) {
	if latest := a.latest.Load(); latest != 0 && !m.Epoch.By(latest) {
		a.missed() // Redis would not accept it
		return
	}
	if !a.Clock.ApplyPeer(tags, &m, now()) {
		// Another epoch, or an unknown one: entries from before may be invalid.
		a.flushed()
		a.wakeUp()
		return
	}
	a.applyTombstones(tags)
}

// applyTombstones drops what tombstones have invalidated. Entries with tags are validated when they are
// next read; entries without tags are flushed now if everything was invalidated. Loads in
// flight began before the tombstones, and no new reader may share them.
func (a *Coordinator) applyTombstones(tags []string) {
	if len(tags) == 0 {
		a.flush()
		return
	}
	a.cfg.Fences.Turn() // with claims, what these loads store is validated by its tags
}
