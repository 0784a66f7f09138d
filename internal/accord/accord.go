// Package accord keeps what one process has of a cache in accord with Redis and with
// the other processes.
//
// It hears what others write and invalidate, and drops it from the local tier; it
// knows until when the local tier may be trusted; it wakes those who wait for another
// process's load; it knows the cache's logical clock; and it tells Redis later what it
// could not be told at once.
//
// # Trust
//
// The local tier may be used until a moment that only ever moves on when a pulse has
// come back, the whole way that messages take: [Accord.Trusted]. There is no timer that
// must fire and no goroutine that must run to take trust away, so that a process that
// was stopped for an hour does not serve one value from before. The moment is the time
// when the pulse was sent, plus [Dead]: nobody serves what another process replaced
// longer ago than that.
//
//  1. A session is armed: from here on everything will be told. What is in the local
//     tier may be older than that, and is flushed; reads under way may have been
//     answered before, and their fences are moved.
//  2. The logical clock is learned, and what this process wrote lately is told again,
//     unless Redis is known to be the one that acknowledged it.
//  3. A pulse that was sent after that comes back: trust begins.
//  4. The session ends, for whatever reason: trust ends with it.
package accord

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/ages"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/notice"
	"github.com/delqhi/cache/internal/remote"
	"github.com/delqhi/cache/internal/revoke"
	"github.com/delqhi/cache/internal/untold"
)

const (
	// Pulse and Dead are how often a session proves that it hears, and how long one
	// proof lasts.
	Pulse = 500 * time.Millisecond
	Dead  = 1500 * time.Millisecond

	// A session that fails is tried again after these.
	retryFirst = 20 * time.Millisecond
	retryMost  = 2 * time.Second

	// beat is how often housekeeping looks whether there is something to do.
	beat = 500 * time.Millisecond

	// clockAge is how long the logical clock that was learned from a reply may be
	// used to stamp a write, where no session hears of its changes. A stamp that is
	// too old makes an entry a miss, never a wrong value.
	clockAge = time.Second
)

// never is a local time before all others, which may be negative.
const never = math.MinInt64

// Local is what an accord needs of the local tier.
type Local interface {
	// Remove moves the key's fence and removes what is stored under it.
	Remove(encoded string) bool
	// RemoveMatching moves every fence and removes the keys whose encodings match.
	RemoveMatching(match func(encoded string) bool)
	// Flush moves every fence and removes everything.
	Flush()
}

// Transport is how a process hears.
type Transport uint8

const (
	None Transport = iota
	Broadcast
	Tracking
)

// Config is what an accord is made of.
type Config struct {
	Guard     *remote.Guard
	Names     remote.Names
	Local     Local // nil: there is none
	Fences    *fence.Table
	Quote     func(string) string // makes a pattern that matches a text only
	Transport Transport
	Policy    revoke.Policy // of the cache's invalidations
	// Patience is how long the first operation waits for the first session, so that
	// the local tier can be used from the start.
	Patience time.Duration
	Events   Events
	// Changed, if not nil, is called with the encoding of a key that others have written
	// or invalidated, and ChangedAny where it is not known which. They must not block.
	Changed    func(encoded string)
	ChangedAny func()
}

// Events is what an operator wants to know. Its methods must not block.
type Events interface {
	Received(n int)              // … that others told this process
	Flushed()                    // messages may have been lost
	Heard(hearing bool, e error) // sessions prove that they hear, again and again, and end
	Downgraded(err error)        // Tracking is not to be had: the session is of Broadcast
	Overflowed()                 // too much is untold: all entries will be invalidated instead
	Redone(n int)                // what could not be told was told
}

// Accord is the whole of it for one cache. All methods are safe for concurrent use.
type Accord struct {
	Outbox *notice.Outbox
	Ages   *ages.Table

	cfg    Config
	revoke *revoke.Revoker // what is told later is removed, whatever the cache's own policy
	inbox  *notice.Inbox
	queue  *untold.Queue
	recent *untold.Recent
	wait   waiters
	own    own

	trusted atomic.Int64 // local time
	learned atomic.Int64 // local time when the last look at the logical clock began
	latest  atomic.Int64 // remote.Latest of the last that was seen of Redis's clock; 0: nothing was

	pending   pendingMarks
	delivered atomic.Uint64         // how much was told later
	failure   atomic.Pointer[error] // why the last attempt to tell has failed; nil: it has not
	suspicion suspicion             // Redis may have lost what this process wrote; see Reconcile
	used      atomic.Bool           // something was read since the last beat
	evidence  suspicion             // it has gone back in time
	lineage   lineage
	renewal   renewal
	dialed    atomic.Uint32 // the connections that Redialed knows of

	ctx     context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup
	nudged  chan struct{} // housekeeping has something to do
	answers chan struct{} // and it is worth trying

	mu          sync.Mutex // guards what follows
	started     bool
	closed      bool
	reconciling *reconciling // under way; nil: none

	begun   atomic.Bool   // started
	first   chan struct{} // closed when the first session hears, or has failed
	firstly sync.Once
	ready   atomic.Bool // first is closed, or was waited for long enough
}

// New returns an accord that does nothing yet: it starts with the first call of
// [Accord.Ready].
func New(cfg Config) *Accord {
	a := &Accord{
		cfg: cfg, Outbox: notice.NewOutbox(notice.NewSender()), Ages: ages.NewTable(),
		inbox: notice.NewInbox(), queue: untold.NewQueue(maxUntold), recent: untold.NewRecent(),
		nudged: make(chan struct{}, 1), answers: make(chan struct{}, 1), first: make(chan struct{}),
	}
	a.ctx, a.stop = context.WithCancel(remote.Background(context.Background()))
	a.trusted.Store(never)
	a.learned.Store(never)
	a.wait.init()
	a.own.init()
	a.lineage.init()
	a.pending.init()
	a.revoke = &revoke.Revoker{Store: cfg.Guard, Names: cfg.Names, Outbox: a.Outbox, Known: a.Ages.Known}
	if cfg.Transport == None {
		a.trusted.Store(math.MaxInt64)
		a.firstly.Do(func() { close(a.first) })
		a.ready.Store(true)
	}
	return a
}

// Ready starts the accord, and has its first callers wait until it hears, or it is
// clear that it does not: for [Config.Patience] at most, and no longer than ctx.
func (a *Accord) Ready(ctx context.Context) {
	if a.begun.Load() && a.ready.Load() {
		return
	}
	a.start()
	if a.ready.Load() {
		return
	}
	t := time.NewTimer(a.cfg.Patience)
	defer t.Stop()
	select {
	case <-a.first:
	case <-t.C:
	case <-ctx.Done():
		return
	case <-a.ctx.Done():
	}
	a.ready.Store(true)
}

func (a *Accord) start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.started || a.closed {
		return
	}
	a.started = true
	a.begun.Store(true)
	a.wg.Go(a.firstLook)
	a.wg.Go(a.housekeeping)
	if a.cfg.Transport != None {
		a.wg.Go(a.listen)
	}
	if a.cfg.Transport == Tracking {
		a.wg.Go(a.verify)
	}
}

// Close ends everything, after a last attempt to tell what is untold.
func (a *Accord) Close() {
	a.mu.Lock()
	first := !a.closed
	a.closed = true
	started := a.started
	a.mu.Unlock()
	if first && started {
		a.farewell()
	}
	a.trusted.Store(never)
	a.stop()
	a.wg.Wait()
	a.wakeAll()
}

// Trusted reports whether the local tier may be used at a local time.
func (a *Accord) Trusted(now int64) bool { return now < a.trusted.Load() }

// Listens reports whether there is something to hear by.
func (a *Accord) Listens() bool { return a.cfg.Transport != None }

// Hearing reports whether a session hears at this time, so that what is known of the
// logical clock is up to date.
func (a *Accord) Hearing(now int64) bool { return a.cfg.Transport != None && a.Trusted(now) }

// Since returns the local time from which on a load must have begun to be shared by who
// comes now. While this process hears, that is any time: whatever happens to a key moves
// its fence. Else a load may have begun before others wrote, and is shared for no longer
// than the local tier would be trusted.
func (a *Accord) Since(now int64) int64 {
	if a.Hearing(now) {
		return never
	}
	return now - int64(Dead)
}

// Distrusted reports whether a key is to be read past the local tier: it has been
// written or invalidated, and Redis does not know yet.
func (a *Accord) Distrusted(redisKey string) bool {
	return a.queue.Has(redisKey) || a.pending.n.Load() > 0 && len(redisKey) >= len(a.cfg.Names.Data) && a.pending.matches(redisKey[len(a.cfg.Names.Data):])
}

// DistrustedTag reports whether a tag, or everything, has been invalidated, and Redis
// does not know yet.
func (a *Accord) DistrustedTag(tag string) bool { return a.queue.HasTag(aTag + tag) }

// AnyDistrusted reports whether there are such keys.
func (a *Accord) AnyDistrusted() bool { return a.queue.Len() > 0 }

// Sync waits until Redis has been told everything that it could not be told before
// the call. The error is ctx's; why is the reason that the last attempt has failed for, nil
// if there was none.
func (a *Accord) Sync(ctx context.Context) (why, err error) {
	a.nudge()
	if err = a.queue.Wait(ctx); err == nil {
		return nil, nil
	}
	if f := a.failure.Load(); f != nil {
		why = *f
	}
	return why, err
}

func (a *Accord) nudge() {
	select {
	case a.nudged <- struct{}{}:
	default:
	}
}

// Answers is called when Redis answers again that had not: what is untold is told now,
// and not when the pause between attempts is over.
func (a *Accord) Answers() {
	select {
	case a.answers <- struct{}{}:
	default:
	}
}

// drop takes a key out of the local tier, because somebody else wrote or invalidated
// it, and wakes those who wait for it.
func (a *Accord) drop(encoded string) {
	if a.cfg.Local != nil {
		a.cfg.Local.Remove(encoded)
	} else {
		a.cfg.Fences.Move(encoded)
	}
	if a.cfg.Changed != nil {
		a.cfg.Changed(encoded)
	}
	a.wait.wake(encoded)
}

// flush drops everything that this process has.
func (a *Accord) flush() {
	if a.cfg.Local != nil {
		a.cfg.Local.Flush()
	} else {
		a.cfg.Fences.MoveAll()
	}
	a.changedAny()
	a.wakeAll()
}

func (a *Accord) changedAny() {
	if a.cfg.ChangedAny != nil {
		a.cfg.ChangedAny()
	}
}

func (a *Accord) wakeAll() { a.wait.wakeAll() }

func now() int64 { return local.Now() }
