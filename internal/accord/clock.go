package accord

import (
	"context"
	"errors"
	"time"

	"github.com/delqhi/cache/internal/ages"
	"github.com/delqhi/cache/internal/remote"
	"github.com/delqhi/cache/internal/untold"
)

// ErrSuspect says that what was read together with the logical clock may be older than
// what this process wrote. See [Accord.Reconcile].
var ErrSuspect = errors.New("accord: Redis has gone back in time")

// Look is a question about the logical clock that is under way.
type Look struct {
	asked ages.Token
	at    int64
	known remote.Known // before it was asked
}

// BeginLook is called before Redis is asked for names.Epoch, together with the
// records that are to be judged by it.
func (a *Accord) BeginLook() Look {
	if !a.used.Load() {
		a.used.Store(true)
	}
	return a.beginLook()
}

// beginLook is BeginLook for what does not show that the cache is in use.
func (a *Accord) beginLook() Look { return Look{a.Ages.Asked(), now(), a.Ages.Known()} }

// EndLook takes the answer. If there is no epoch, or it can't be used, it is asked for
// once more, in the way that makes one. The error says why it is not known.
func (a *Accord) EndLook(ctx context.Context, l Look, reply remote.Reply) error {
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
			redisNow, _ = a.cfg.Guard.Now(ctx, a.cfg.Names.Epoch)
		}
		if a.learnEpoch(e, redisNow, l) {
			return nil
		}
	}
	return a.AskMarks(ctx, nil)
}

// wentBack is called when it shows that Redis is not what it was.
func (a *Accord) wentBack() {
	a.evidence.raise()
	a.Suspect()
}

// parseEpoch reads an epoch. One whose times are too far ahead of Redis's clock is none:
// what this process remembered of it, it could not be told to forget. Redis's clock is
// estimated only if that may be so; see [Accord.measured].
func (a *Accord) parseEpoch(ctx context.Context, raw []byte) (e remote.Epoch, ok bool) {
	if e, ok = remote.ParseEpoch(raw); !ok || e.By(a.latest.Load()) {
		return e, ok
	}
	redisNow, err := a.cfg.Guard.Now(ctx, a.cfg.Names.Epoch)
	if err != nil || !e.By(remote.Latest(redisNow)) {
		return remote.Epoch{}, false
	}
	a.measured(redisNow)
	return e, true
}

// measured notes what Redis's clock was: what it believes by then, it believes at any later
// time, until the clock is set back.
func (a *Accord) measured(redisNow int64) { a.latest.Store(remote.Latest(redisNow)) }

// unreadable is called with the error of a script that was given what this process knows of
// the logical clock. If it has answered nonsense, that may be the reason, and is forgotten.
func (a *Accord) unreadable(err error) bool {
	if !errors.Is(err, remote.ErrNoClock) {
		return false
	}
	a.Ages.Reset()
	a.wentBack()
	return true
}

// EndLookBeside takes the answer to a look that went with a write, and returns the logical
// time from before that write. It is not counted as a look of [Accord.EndLook], which spares
// the next one: whoever writes is to move the clock on from time to time; see
// [Accord.Stamp].
func (a *Accord) EndLookBeside(ctx context.Context, l Look, reply remote.Reply) (era uint64, clock int64, ok bool) {
	if reply.Err != nil {
		return 0, 0, false
	}
	e, ok := a.parseEpoch(ctx, reply.Record.Raw)
	if ok && e.Era == l.known.Era && e.Tick >= l.known.Tick {
		var redisNow int64
		if e.All.Next != 0 && !e.All.Dated() {
			redisNow, _ = a.cfg.Guard.Now(ctx, a.cfg.Names.Epoch)
		}
		return e.Era, e.Clock, a.Ages.Learn(e, redisNow, l.asked, l.at)
	}
	if a.EndLook(ctx, l, reply) != nil {
		return 0, 0, false
	}
	return a.Ages.Stamp()
}

// lookNow asks for the logical clock alone. [Accord.AskMarks] would not do where it may
// have gone back in time: that sets it right, and nobody else would see that it had.
func (a *Accord) lookNow(ctx context.Context) error {
	l := a.beginLook()
	if l.known.Era == 0 {
		return nil // nothing that it could have gone back from
	}
	rec, err := a.cfg.Guard.Get(ctx, a.cfg.Names.Epoch)
	return a.EndLook(ctx, l, remote.Reply{Record: rec, Err: err})
}

func (a *Accord) learnEpoch(e remote.Epoch, redisNow int64, l Look) bool {
	before := a.Ages.Known().Era
	if !a.Ages.Learn(e, redisNow, l.asked, l.at) {
		return false
	}
	a.learnedAt(before, l.at)
	return true
}

// learnedAt is called when something was learned that was asked for at that time. In
// another era nothing is worth anything that this process has.
func (a *Accord) learnedAt(eraBefore uint64, at int64) {
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

// AskMarks asks for the logical clock and for the marks of tags.
func (a *Accord) AskMarks(ctx context.Context, tags []string) error {
	for range askAgain {
		l := a.beginLook()
		before := a.Ages.Known()
		m, err := a.cfg.Guard.Marks(ctx, a.cfg.Names, before, tags)
		if a.unreadable(err) && before != (remote.Known{}) {
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
func (a *Accord) learnMarks(tags []string, m *remote.Marks, l Look) bool {
	a.measured(m.Now)
	ok := a.Ages.LearnMarks(tags, m, l.asked, l.at)
	if !ok && l.known.Era != 0 && a.Ages.Known().Era == 0 {
		a.wentBack() // it was forgotten
	}
	return ok
}

// JudgeNow judges one record by an answer of Redis that is asked for now.
func (a *Accord) JudgeNow(ctx context.Context, era uint64, stamp, began int64, tags []string) (ages.Verdict, int64, error) {
	at := now()
	m, err := a.cfg.Guard.Marks(ctx, a.cfg.Names, a.Ages.Known(), tags)
	if err != nil {
		a.unreadable(err)
		return ages.Unknown, 0, err
	}
	v, until := ages.JudgeBy(&m, era, stamp, began, at, now())
	return v, until, nil
}

// fresh reports whether what is known of the logical clock may be used to judge what
// others write.
func (a *Accord) fresh(now int64) bool {
	if _, _, ok := a.Ages.Stamp(); !ok {
		return false
	}
	learned := a.learned.Load()
	return a.Hearing(now) || learned != never && now-learned < int64(clockAge)
}

// Stamp returns the logical time for what begins now. It asks Redis only where nothing
// is heard, once a second.
func (a *Accord) Stamp(ctx context.Context) (era uint64, stamp int64, err error) {
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
	if err := a.lookNow(ctx); err != nil && err != ErrSuspect {
		return 0, 0, err
	}
	for range askAgain {
		if err := a.AskMarks(ctx, nil); err != nil {
			return 0, 0, err
		}
		// A notice of another era that came late may have had it forgotten again.
		if era, stamp, ok := a.Ages.Stamp(); ok {
			return era, stamp, nil
		}
	}
	return 0, 0, errOvertaken
}

// StampWrite is Stamp for a write. Where there are several nodes, the one of the clock may be
// away while the one of the key answers: then the time that was known last will do. It is one
// from before the write, and an old one only makes a record go sooner than it had to.
func (a *Accord) StampWrite(ctx context.Context) (era uint64, stamp int64, err error) {
	era, stamp, err = a.Stamp(ctx)
	if err == nil || ctx.Err() != nil || a.cfg.Guard.OneNode() {
		return era, stamp, err
	}
	if k := a.Ages.Known(); k.Era != 0 {
		return k.Era, k.Clock, nil
	}
	return 0, 0, err
}

// The keys of the logical clock have lives; see [remote.ClockLife]. What renews them is mostly
// what is done anyway, but not in a process that only hears, or asks for no tags.
const (
	renewLifeFirst = time.Minute // after the start, and after an attempt that has failed
	renewLifeEvery = time.Hour
)

// renewLives renews the lives of the keys of the logical clock, and returns when to do so
// again.
func (a *Accord) renewLives(ctx context.Context) time.Duration {
	extend := remote.Command{Op: remote.Extend, Key: a.cfg.Names.Tags, Seen: remote.Seen{State: remote.WrongType}, TTL: remote.ClockLife}
	if a.AskMarks(ctx, nil) != nil || a.cfg.Guard.Do(ctx, []remote.Command{extend})[0].Err != nil {
		return renewLifeFirst
	}
	return renewLifeEvery
}

// OwnMarks takes the answer of this process's own mark, before it returns to its
// caller: nothing that it hit is served from then on. l was begun before.
func (a *Accord) OwnMarks(ctx context.Context, tags []string, m remote.Marks, l Look) error {
	return a.ownMarks(ctx, tags, nil, m, l)
}

// ownMarks is OwnMarks for what was invalidated at the times pasts; nil: when l was begun.
func (a *Accord) ownMarks(ctx context.Context, tags []string, pasts []untold.Past, m remote.Marks, l Look) error {
	s := subjects(aTag, tags)
	a.recent.NoteMarks(s, answered(&m), pasts, l.at, now())
	before := a.Ages.Known().Era
	if a.learnMarks(tags, &m, l) {
		a.learnedAt(before, l.at)
	} else if err := a.AskMarks(ctx, tags); err != nil {
		// What it has done there is not known here, nor what else has been done: tell
		// it again, and know nothing until then.
		a.Ages.Forget()
		if pasts == nil {
			a.UntoldMarks(tags, 0, l.at)
		} // else it is returned to the queue, with its time
		return err
	}
	a.acknowledgedMarks(s, l.at)
	a.marked(tags)
	return nil
}

// heardMarks takes another process's mark.
func (a *Accord) heardMarks(tags []string, m remote.Marks) {
	if latest := a.latest.Load(); latest != 0 && !m.Epoch.By(latest) {
		a.missed() // Redis does not believe it
		return
	}
	if !a.Ages.Heard(tags, &m, now()) {
		// Another era, or one that is not known yet: what there is may be of no use.
		a.flushed()
		a.nudge()
		return
	}
	a.marked(tags)
}

// marked drops what a mark has hit. Entries with tags are judged when they are next
// read; those without have to go now if the mark was one of everything. Loads under
// way began before it, and no new reader may share them.
func (a *Accord) marked(tags []string) {
	if len(tags) == 0 {
		a.flush()
		return
	}
	a.cfg.Fences.MoveAll()
}
