// Package coherence keeps what one process has of a cache coherent with Redis and with the
// other processes.
//
// A [Coordinator] receives invalidations and removes entries from the local tier, maintains
// the deadline until which the local tier is valid, wakes readers that wait for a load of
// another process, keeps a copy of the logical clock, and retries invalidations that Redis
// has not acknowledged.
//
// # Trust
//
// Validity of the local tier is a deadline that moves on only when a heartbeat has come back
// by the whole way that messages take: [Coordinator.LocalValid]. It lapses without a timer or
// a goroutine, so that a process that was stopped for an hour does not serve one value from
// before. The deadline is the time when the heartbeat was sent, plus [HeartbeatTimeout]: no
// process serves what another one replaced longer ago than that.
//
//  1. A session is subscribed: from here on everything will be told. What is in the local
//     tier may be older than that, and is flushed; reads under way may have been
//     answered before, and their fences are moved.
//  2. The logical clock is learned, and what this process wrote lately is told again,
//     unless Redis is known to be the one that acknowledged it.
//  3. A pulse that was sent after that comes back: trust begins.
//  4. The session ends, for whatever reason: trust ends with it.
package coherence

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

const (
	// HeartbeatInterval and Dead are how often a session proves that it hears, and how long one
	// proof lasts.
	HeartbeatInterval = 500 * time.Millisecond
	HeartbeatTimeout  = 1500 * time.Millisecond

	// A session that fails is tried again after these.
	retryFirst = 20 * time.Millisecond
	retryMost  = 2 * time.Second

	// tick is how often housekeeping looks whether there is something to do.
	tick = 500 * time.Millisecond

	// clockAge is how long the logical clock that was learned from a reply may be
	// used to stamp a write, where no session hears of its changes. A stamp that is
	// too old makes an entry a miss, never a wrong value.
	clockAge = time.Second
)

// never is a local time before all others, which may be negative.
const never = math.MinInt64

// Local is what a coordinator needs of the local tier.
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

// Config is what a coordinator is made of.
type Config struct {
	Client    *client.Client
	Names     store.Names
	Local     Local // nil: there is none
	Fences    *fence.Table
	Quote     func(string) string // makes a pattern that matches a text only
	Transport Transport
	Policy    invalidation.Policy // of the cache's invalidations
	// StartTimeout is how long the first operation waits for the first session, so that
	// the local tier can be used from the start.
	StartTimeout time.Duration
	Events       Events
	// KeysChanged, if not nil, is called with the encoding of a key that others have written
	// or invalidated, and ChangedAny where it is not known which. They must not block.
	Changed    func(encoded string)
	ChangedAny func()
}

// Events is what an operator wants to know. Its methods must not block.
type Events interface {
	Received(n int)                          // … that others told this process
	Flushed()                                // messages may have been lost
	ConnectionChanged(hearing bool, e error) // sessions prove that they hear, again and again, and end
	Downgraded(err error)                    // Tracking is not to be had: the session is of Broadcast
	Overflowed()                             // too much is pending: all entries will be invalidated instead
	Retried(n int)                           // what could not be told was told
}

// Coordinator is the whole of it for one cache. All methods are safe for concurrent use.
type Coordinator struct {
	Outbox *message.Outbox
	Ages   *logicalclock.Table

	cfg         Config
	invalidator *invalidation.Invalidator // what is told later is removed, whatever the cache's own policy
	inbox       *message.Inbox
	queue       *retryqueue.Queue
	recent      *retryqueue.RecentWrites
	wait        waiters
	selfWrites  selfWrites

	localValid atomic.Int64 // local time
	learned    atomic.Int64 // local time when the last look at the logical clock began
	latest     atomic.Int64 // logicalclock.Latest of the last that was seen of Redis's clock; 0: nothing was

	pending      pendingTombstones
	deliveredAny atomic.Uint64         // how much was told later
	failure      atomic.Pointer[error] // why the last attempt to tell has failed; nil: it has not
	suspicion    suspicion             // Redis may have lost what this process wrote; see Reconcile
	used         atomic.Bool           // something was read since the last beat
	rollbackSeen suspicion             // it has gone back in time
	serverID     serverID
	renewal      renewal
	dialed       atomic.Uint32 // the connections that Redialed knows of

	ctx     context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup
	woken   chan struct{} // housekeeping has something to do
	redisUp chan struct{} // and it is worth trying

	mu          sync.Mutex // guards what follows
	started     bool
	closed      bool
	reconciling *reconciling // under way; nil: none

	begun     atomic.Bool   // started
	first     chan struct{} // closed when the first session hears, or has failed
	readyOnce sync.Once
	ready     atomic.Bool // first is closed, or was waited for long enough
}

// New returns a coordinator that does nothing yet: it starts with the first call of
// [Coordinator.Ready].
func New(cfg Config) *Coordinator {
	a := &Coordinator{
		cfg: cfg, Outbox: message.NewOutbox(message.NewSender()), Ages: logicalclock.NewTable(),
		inbox: message.NewInbox(), queue: retryqueue.NewQueue(maxPending), recent: retryqueue.NewRecentWrites(),
		woken: make(chan struct{}, 1), redisUp: make(chan struct{}, 1), first: make(chan struct{}),
	}
	a.ctx, a.stop = context.WithCancel(store.Background(context.Background()))
	a.localValid.Store(never)
	a.learned.Store(never)
	a.wait.init()
	a.selfWrites.init()
	a.serverID.init()
	a.pending.init()
	a.invalidator = &invalidation.Invalidator{Store: cfg.Client, Names: cfg.Names, Outbox: a.Outbox, Known: a.Ages.Known}
	if cfg.Transport == None {
		a.localValid.Store(math.MaxInt64)
		a.readyOnce.Do(func() { close(a.first) })
		a.ready.Store(true)
	}
	return a
}

// Ready starts the coordinator, and has its first callers wait until it hears, or it is
// clear that it does not: for [Config.StartTimeout] at most, and no longer than ctx.
func (a *Coordinator) Ready(ctx context.Context) {
	if a.begun.Load() && a.ready.Load() {
		return
	}
	a.start()
	if a.ready.Load() {
		return
	}
	t := time.NewTimer(a.cfg.StartTimeout)
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

func (a *Coordinator) start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.started || a.closed {
		return
	}
	a.started = true
	a.begun.Store(true)
	a.wg.Go(a.firstLook)
	a.wg.Go(a.maintain)
	if a.cfg.Transport != None {
		a.wg.Go(a.listen)
	}
	if a.cfg.Transport == Tracking {
		a.wg.Go(a.verify)
	}
}

// Close ends everything, after a last attempt to tell what is pending.
func (a *Coordinator) Close() {
	a.mu.Lock()
	first := !a.closed
	a.closed = true
	started := a.started
	a.mu.Unlock()
	if first && started {
		a.flushOnClose()
	}
	a.localValid.Store(never)
	a.stop()
	a.wg.Wait()
	a.wakeAll()
}

// LocalValid reports whether the local tier may be used at a local time.
func (a *Coordinator) LocalValid(now int64) bool { return now < a.localValid.Load() }

// Subscribes reports whether there is something to hear by.
func (a *Coordinator) Subscribes() bool { return a.cfg.Transport != None }

// Connected reports whether a session hears at this time, so that what is known of the
// logical clock is up to date.
func (a *Coordinator) Connected(now int64) bool { return a.cfg.Transport != None && a.LocalValid(now) }

// Since returns the local time from which on a load must have begun to be shared by who
// comes now. While this process hears, that is any time: whatever happens to a key moves
// its fence. Else a load may have begun before others wrote, and is shared for no longer
// than the local tier would be trusted.
func (a *Coordinator) Since(now int64) int64 {
	if a.Connected(now) {
		return never
	}
	return now - int64(HeartbeatTimeout)
}

// Pending reports whether a key is to be read past the local tier: it has been
// written or invalidated, and Redis does not know yet.
func (a *Coordinator) Pending(redisKey string) bool {
	return a.queue.Has(redisKey) || a.pending.n.Load() > 0 && len(redisKey) >= len(a.cfg.Names.Data) && a.pending.matches(redisKey[len(a.cfg.Names.Data):])
}

// PendingTag reports whether a tag, or everything, has been invalidated, and Redis
// does not know yet.
func (a *Coordinator) PendingTag(tag string) bool { return a.queue.HasTag(aTag + tag) }

// AnyPending reports whether there are such keys.
func (a *Coordinator) AnyPending() bool { return a.queue.Len() > 0 }

// Sync waits until Redis has been told everything that it could not be told before
// the call. The error is ctx's; why is the reason that the last attempt has failed for, nil
// if there was none.
func (a *Coordinator) Sync(ctx context.Context) (why, err error) {
	a.wakeUp()
	if err = a.queue.Wait(ctx); err == nil {
		return nil, nil
	}
	if f := a.failure.Load(); f != nil {
		why = *f
	}
	return why, err
}

func (a *Coordinator) wakeUp() {
	select {
	case a.woken <- struct{}{}:
	default:
	}
}

// RedisUp is called when Redis answers again that had not: what is pending is told now,
// and not when the pause between attempts is over.
func (a *Coordinator) RedisUp() {
	select {
	case a.redisUp <- struct{}{}:
	default:
	}
}

// drop takes a key out of the local tier, because somebody else wrote or invalidated
// it, and wakes those who wait for it.
func (a *Coordinator) drop(encoded string) {
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
func (a *Coordinator) flush() {
	if a.cfg.Local != nil {
		a.cfg.Local.Flush()
	} else {
		a.cfg.Fences.MoveAll()
	}
	a.changedAny()
	a.wakeAll()
}

func (a *Coordinator) changedAny() {
	if a.cfg.ChangedAny != nil {
		a.cfg.ChangedAny()
	}
}

func (a *Coordinator) wakeAll() { a.wait.wakeAll() }

func now() int64 { return local.Now() }
