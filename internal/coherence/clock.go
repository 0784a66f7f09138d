package coherence

import (
	"context"
	"errors"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

// ErrSuspect says that what was read together with the logical clock may be older than
// what this process wrote. See [Coordinator.Reconcile].
var ErrSuspect = errors.New("coherence: Redis has gone back in time")

// EpochRead is a question about the logical clock that is under way.
type EpochRead struct {
	asked logicalclock.Token
	at    int64
	known logicalclock.Known // before it was asked
}

// BeginEpochRead is called before Redis is asked for names.Epoch, together with the
// records that are to be judged by it.
func (a *Coordinator) BeginEpochRead() EpochRead {
	if !a.used.Load() {
		a.used.Store(true)
	}
	return a.beginLook()
}

// beginLook is BeginEpochRead for what does not show that the cache is in use.
func (a *Coordinator) beginLook() EpochRead {
	return EpochRead{a.Ages.ReadVersion(), now(), a.Ages.Known()}
}

// EndEpochRead takes the answer. If there is no epoch, or it can't be used, it is asked for
// once more, in the way that makes one. The error says why it is not known.
func (a *Coordinator) EndEpochRead(ctx context.Context, l EpochRead, reply store.Reply) error {
	if reply.Err != nil {
		if a.fresh(now()) {
			return nil // what is known is not too old yet
		}
		return reply.Err
	}
	e, ok := a.parseEpoch(ctx, reply.Record.Raw)
	if l.known.Era != 0 && (!ok || e.Tick < l.known.Tick) {
		a.wentBack() // it is not what it was, or has gone back in time
		return ErrSuspect
	}
	if ok {
		// A mark that is pending there strikes at once if Redis's clock is not known.
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

// wentBack is called when it shows that Redis is not what it was.
func (a *Coordinator) wentBack() {
	a.rollbackSeen.raise()
	a.Suspect()
}

// parseEpoch reads an epoch. One whose times are too far ahead of Redis's clock is none:
// what this process remembered of it, it could not be told to forget. Redis's clock is
// estimated only if that may be so; see [Coordinator.measured].
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

// measured notes what Redis's clock was: what it believes by then, it believes at any later
// time, until the clock is set back.
func (a *Coordinator) measured(redisNow int64) { a.latest.Store(logicalclock.Latest(redisNow)) }

// unreadable is called with the error of a script that was given what this process knows of
// the logical clock. If it has answered nonsense, that may be the reason, and is forgotten.
func (a *Coordinator) unreadable(err error) bool {
	if !errors.Is(err, logicalclock.ErrNoClock) {
		return false
	}
	a.Ages.Reset()
	a.wentBack()
	return true
}

// EndEpochReadBeside takes the answer to a look that went with a write, and returns the logical
// time from before that write. It is not counted as a look of [Coordinator.EndEpochRead], which spares
// the next one: whoever writes is to move the clock on from time to time; see
// [Coordinator.Stamp].
func (a *Coordinator) EndEpochReadBeside(ctx context.Context, l EpochRead, reply store.Reply) (era uint64, clock int64, ok bool) {
	if reply.Err != nil {
		return 0, 0, false
	}
	e, ok := a.parseEpoch(ctx, reply.Record.Raw)
	if ok && e.Era == l.known.Era && e.Tick >= l.known.Tick {
		var redisNow int64
		if e.All.Next != 0 && !e.All.Dated() {
			redisNow, _ = a.cfg.Client.Now(ctx, a.cfg.Names.Epoch)
		}
		return e.Era, e.Clock, a.Ages.Learn(e, redisNow, l.asked, l.at)
	}
	if a.EndEpochRead(ctx, l, reply) != nil {
		return 0, 0, false
	}
	return a.Ages.Stamp()
}

// readEpochNow asks for the logical clock alone. [Coordinator.FetchTombstones] would not do where it may
// have gone back in time: that sets it right, and nobody else would see that it had.
func (a *Coordinator) readEpochNow(ctx context.Context) error {
	l := a.beginLook()
	if l.known.Era == 0 {
		return nil // nothing that it could have gone back from
	}
	rec, err := a.cfg.Client.Get(ctx, a.cfg.Names.Epoch)
	return a.EndEpochRead(ctx, l, store.Reply{Record: rec, Err: err})
}

func (a *Coordinator) learnEpoch(e logicalclock.Epoch, redisNow int64, l EpochRead) bool {
	before := a.Ages.Known().Era
	if !a.Ages.Learn(e, redisNow, l.asked, l.at) {
		return false
	}
	a.learnedAt(before, l.at)
	return true
}

// learnedAt is called when something was learned that was asked for at that time. In
// another era nothing is worth anything that this process has.
func (a *Coordinator) learnedAt(eraBefore uint64, at int64) {
	for {
		last := a.learned.Load()
		if at <= last || a.learned.CompareAndSwap(last, at) {
			break
		}
	}
	if eraBefore != 0 && eraBefore != a.Ages.Known().Era {
		a.flushed()
	}
}

// askAgain is how often the logical clock is asked for if each answer is overtaken by
// another one.
const askAgain = 5

// FetchTombstones asks for the logical clock and for the marks of tags.
func (a *Coordinator) FetchTombstones(ctx context.Context, tags []string) error {
	for range askAgain {
		l := a.beginLook()
		before := a.Ages.Known()
		m, err := a.cfg.Client.Marks(ctx, a.cfg.Names, before, tags)
		if a.unreadable(err) && before != (logicalclock.Known{}) {
			continue
		}
		if err != nil {
			return err
		}
		if a.learnMarks(tags, &m, l) {
			a.learnedAt(before.Era, l.at)
			return nil
		}
	}
	return errOvertaken
}

// learnMarks learns what a script has answered.
func (a *Coordinator) learnMarks(tags []string, m *logicalclock.Marks, l EpochRead) bool {
	a.measured(m.Now)
	ok := a.Ages.LearnMarks(tags, m, l.asked, l.at)
	if !ok && l.known.Era != 0 && a.Ages.Known().Era == 0 {
		a.wentBack() // it was forgotten
	}
	return ok
}

// JudgeNow judges one record by an answer of Redis that is asked for now.
func (a *Coordinator) JudgeNow(ctx context.Context, era uint64, stamp, began int64, tags []string) (logicalclock.Validity, int64, error) {
	at := now()
	m, err := a.cfg.Client.Marks(ctx, a.cfg.Names, a.Ages.Known(), tags)
	if err != nil {
		a.unreadable(err)
		return logicalclock.Unknown, 0, err
	}
	v, until := logicalclock.JudgeBy(&m, era, stamp, began, at, now())
	return v, until, nil
}

// fresh reports whether what is known of the logical clock may be used to judge what
// others write.
func (a *Coordinator) fresh(now int64) bool {
	if _, _, ok := a.Ages.Stamp(); !ok {
		return false
	}
	learned := a.learned.Load()
	return a.Connected(now) || learned != never && now-learned < int64(clockAge)
}

// Stamp returns the logical time for what begins now. It asks Redis only where nothing
// is heard, once a second.
func (a *Coordinator) Stamp(ctx context.Context) (era uint64, stamp int64, err error) {
	if err := a.Reconcile(ctx); err != nil {
		return 0, 0, err
	}
	if a.fresh(now()) {
		if era, stamp, ok := a.Ages.Stamp(); ok {
			return era, stamp, nil
		}
	}
	// The clock is asked in the way that moves it on, so that it shows if Redis goes
	// back to before the write that begins now.
	if err := a.readEpochNow(ctx); err != nil && err != ErrSuspect {
		return 0, 0, err
	}
	for range askAgain {
		if err := a.FetchTombstones(ctx, nil); err != nil {
			return 0, 0, err
		}
		// A message of another era that came late may have had it forgotten again.
		if era, stamp, ok := a.Ages.Stamp(); ok {
			return era, stamp, nil
		}
	}
	return 0, 0, errOvertaken
}

// StampWrite is Stamp for a write. Where there are several nodes, the one of the clock may be
// away while the one of the key answers: then the time that was known last will do. It is one
// from before the write, and an old one only makes a record go sooner than it had to.
func (a *Coordinator) StampWrite(ctx context.Context) (era uint64, stamp int64, err error) {
	era, stamp, err = a.Stamp(ctx)
	if err == nil || ctx.Err() != nil || a.cfg.Client.OneNode() {
		return era, stamp, err
	}
	if k := a.Ages.Known(); k.Era != 0 {
		return k.Era, k.Clock, nil
	}
	return 0, 0, err
}

// The keys of the logical clock have lives; see [logicalclock.ClockLife]. What renews them is mostly
// what is done anyway, but not in a process that only hears, or asks for no tags.
const (
	renewLifeFirst = time.Minute // after the start, and after an attempt that has failed
	renewLifeEvery = time.Hour
)

// renewLives renews the lives of the keys of the logical clock, and returns when to do so
// again.
func (a *Coordinator) renewLives(ctx context.Context) time.Duration {
	extend := store.Command{Op: store.Extend, Key: a.cfg.Names.Tags, Seen: store.CASToken{State: store.WrongType}, TTL: logicalclock.ClockLife}
	if a.FetchTombstones(ctx, nil) != nil || a.cfg.Client.Do(ctx, []store.Command{extend})[0].Err != nil {
		return renewLifeFirst
	}
	return renewLifeEvery
}

// ApplyOwnTombstones takes the answer of this process's own mark, before it returns to its
// caller: nothing that it hit is served from then on. l was begun before.
func (a *Coordinator) ApplyOwnTombstones(ctx context.Context, tags []string, m logicalclock.Marks, l EpochRead) error {
	return a.ownMarks(ctx, tags, nil, m, l)
}

// ownMarks is ApplyOwnTombstones for what was invalidated at the times pasts; nil: when l was begun.
func (a *Coordinator) ownMarks(ctx context.Context, tags []string, pasts []retryqueue.Past, m logicalclock.Marks, l EpochRead) error {
	s := subjects(aTag, tags)
	a.recent.NoteMarks(s, answered(&m), pasts, l.at, now())
	before := a.Ages.Known().Era
	if a.learnMarks(tags, &m, l) {
		a.learnedAt(before, l.at)
	} else if err := a.FetchTombstones(ctx, tags); err != nil {
		// What it has done there is not known here, nor what else has been done: tell
		// it again, and know nothing until then.
		a.Ages.Forget()
		if pasts == nil {
			a.ScheduleTombstones(tags, 0, l.at)
		} // else it is returned to the queue, with its time
		return err
	}
	a.acknowledgedTombstones(s, l.at)
	a.marked(tags)
	return nil
}

// applyPeerTombstones takes another process's mark.
func (a *Coordinator) applyPeerTombstones(tags []string, m logicalclock.Marks) {
	if latest := a.latest.Load(); latest != 0 && !m.Epoch.By(latest) {
		a.missed() // Redis does not believe it
		return
	}
	if !a.Ages.ApplyPeer(tags, &m, now()) {
		// Another era, or one that is not known yet: what there is may be of no use.
		a.flushed()
		a.wakeUp()
		return
	}
	a.marked(tags)
}

// marked drops what a mark has hit. Entries with tags are judged when they are next
// read; those without have to go now if the mark was one of everything. Loads under
// way began before it, and no new reader may share them.
func (a *Coordinator) marked(tags []string) {
	if len(tags) == 0 {
		a.flush()
		return
	}
	a.cfg.Fences.MoveAll()
}
