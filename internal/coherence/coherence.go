// Package coherence keeps one process's copy of a cache coherent with Redis and with the other
// processes.
//
// A [Coordinator] receives invalidations and removes entries from the local tier, maintains the
// deadline until which the local tier is valid, wakes readers that wait for a load of another
// process, keeps a copy of the logical clock, and retries invalidations that Redis has not
// acknowledged.
//
// # Validity
//
// Validity of the local tier is a deadline that moves on only when a heartbeat has come back by
// the whole path that messages take: [Coordinator.LocalValid]. It lapses without a timer or a
// goroutine, so that a process that was suspended for an hour does not serve a single value
// from before. The deadline is the time when the heartbeat was sent, plus [HeartbeatTimeout]:
// no process serves a value that another one replaced longer ago than that.
//
// On a cluster that is so for each [Part] of the keys by itself, with a session of its own.
//
//  1. A session is subscribed: from here on every message is received.
//  2. The logical clock is learned, and this process's recent writes are replayed, unless Redis
//     is known to be the server that acknowledged them.
//  3. A heartbeat that was sent after 1 comes back. Entries in the local tier may be older than
//     the subscription, so the tier is flushed; reads in flight may have been answered before,
//     so their fences are moved. Then the local tier is valid.
//  4. The session ends, for whatever reason: so does validity.
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
	// HeartbeatInterval is how often a session sends a heartbeat, and HeartbeatTimeout how long
	// one that has come back keeps the local tier valid.
	HeartbeatInterval = 500 * time.Millisecond
	HeartbeatTimeout  = 1500 * time.Millisecond

	// Backoff, at first and at most, before a failed session is started again.
	retryFirst = 20 * time.Millisecond
	retryMost  = 2 * time.Second

	// tick is how often maintain looks for work that is due.
	tick = 500 * time.Millisecond

	// clockAge is how long a copy of the logical clock that was learned from a reply may be
	// used to stamp a write while disconnected. A stamp that is too old makes an entry a miss,
	// never a wrong value.
	clockAge = time.Second
)

// never is a local time before all others, since local times may be negative.
const never = math.MinInt64

// Local is the part of the local tier that a coordinator needs.
type Local interface {
	// Remove moves the key's fence and removes the key's entry.
	Remove(encoded string) bool
	// RemoveMatching moves every fence and removes the keys whose encodings match.
	RemoveMatching(match func(encoded string) bool)
	// Flush moves every fence and removes everything.
	Flush()
}

// Transport is how a process receives invalidations. The transports have the numbers of the
// kinds of package invalidate.
type Transport uint8

const (
	None Transport = iota
	Broadcast
	Tracking
	// TrackingKeys is Tracking of the keys that this process may hold only; see [Coordinator.ReceiveAll].
	TrackingKeys
)

// tracks reports whether the server reports changes.
func (t Transport) tracks() bool { return t == Tracking || t == TrackingKeys }

// Config configures a coordinator.
type Config struct {
	Client    *client.Client
	Names     store.Names
	Local     Local // nil: there is none
	Fences    *fence.Table
	Quote     func(string) string // returns a pattern that matches only this text
	Transport Transport
	Policy    invalidation.Policy // of the cache's own invalidations
	// StartTimeout is how long the first operation waits for the first session, so that the
	// local tier can be used from the start.
	StartTimeout time.Duration
	NoRecords    bool // Redis holds no records: there are none to find by a pattern
	// RemoveTagged, if not nil, moves every fence and removes the entries of tags. It is for tiers
	// whose entries can't be read again from Redis, or not during an outage: others are flushed.
	RemoveTagged func(tags []string)
	Events       Events
	// Outage is how long an entry is served that is not known to be true any more, because nothing
	// is received; 0: not at all.
	Outage time.Duration
	// Changed, if not nil, is called with the encoding of a key that another process has
	// written or invalidated, and ChangedAny when the keys are not known. They must not block.
	Changed    func(encoded string)
	ChangedAny func()
}

// Events are an operator's notifications. The methods must not block.
type Events interface {
	Received(n int)                          // invalidations from other processes
	Flushed()                                // messages may have been lost
	ConnectionChanged(hearing bool, e error) // at each heartbeat that comes back, and at a session's end
	Downgraded(err error)                    // Tracking is not available: the session uses Broadcast
	Overflowed()                             // too much is pending: all entries will be invalidated instead
	Retried(n int)                           // pending invalidations were delivered
}

// Coordinator keeps one cache coherent. All methods are safe for concurrent use.
type Coordinator struct {
	Outbox *message.Outbox

	cfg         Config
	parts       []*Part                   // of the keys: one, or store.Parts
	invalidator *invalidation.Invalidator // for retries: removes entries, whatever Config.Policy is
	inbox       *message.Inbox
	queue       *retryqueue.Queue
	recent      *retryqueue.RecentWrites
	wait        waiters
	sweeper     sweeper
	waiter      string // its id on the leases that this process waits for
	selfWrites  selfWrites

	validMu    sync.Mutex   // serializes changes of the deadlines of parts; see Part.extend
	localValid atomic.Int64 // local time; the earliest of all parts

	pending      pendingTombstones
	deliveredAny atomic.Uint64         // grows with each delivery by retry
	failure      atomic.Pointer[error] // why the last retry failed; nil: it did not
	suspicions   atomic.Uint64         // of each part; see Suspect
	suspectMu    sync.Mutex            // serializes Part.suspect
	rollbacks    atomic.Uint64         // likewise
	patternsOf   atomic.Uint64         // up to so many suspicions, patterns were replayed
	failed       atomic.Int64          // local time when an operation last failed; never: none has
	serverID     serverID
	renewal      renewal
	dialed       atomic.Uint32          // the number of connections that Reconnected has seen
	downgraded   atomic.Bool            // Downgraded was called
	byKey        byKey                  // of TrackingKeys
	direct       atomic.Bool            // no message can be lost in the session: see store.DirectSubscriber
	disprove     atomic.Pointer[func()] // says that one was; see store.CheckingSubscriber

	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup
	woken chan struct{} // maintain has work to do

	notifying atomic.Int32  // calls of notify in progress
	redisUp   chan struct{} // Redis answers again: retry now

	mu       sync.Mutex // guards what follows, and the reconciling of each part
	started  bool
	closed   bool
	lookedUp *lookup // the last one, by lookFor; nil: none

	begun     atomic.Bool   // same as started
	first     chan struct{} // closed when the first session of each part is connected, or has failed
	firstLeft atomic.Int32  // how many of these are not yet
	firstEnds sync.Once     // closes first
	ready     atomic.Bool   // first is closed, or StartTimeout has passed
}

// New returns an idle coordinator: it starts with the first call of [Coordinator.Ready].
func New(cfg Config) *Coordinator {
	parts := cfg.Names.Parted(cfg.Client.Clustered())
	a := &Coordinator{
		cfg: cfg, Outbox: message.NewOutboxOf(message.NewSender(), len(parts)),
		waiter: store.NewWaiter(), inbox: message.NewInbox(), queue: retryqueue.NewQueue(maxPending), recent: retryqueue.NewRecentWrites(),
		woken: make(chan struct{}, 1), redisUp: make(chan struct{}, 1), first: make(chan struct{}),
	}
	a.ctx, a.stop = context.WithCancel(store.Background(context.Background()))
	for i, names := range parts {
		a.parts = append(a.parts, a.newPart(i, len(parts), names))
	}
	a.localValid.Store(never)
	a.firstLeft.Store(int32(len(a.parts)))
	a.wait.init()
	a.selfWrites.init()
	a.serverID.init()
	a.failed.Store(never)
	a.pending.init()
	a.byKey.init(len(a.parts))
	if cfg.Transport != TrackingKeys || cfg.NoRecords {
		a.byKey.giveUp()
		a.byKey.allReceive()
	}
	a.invalidator = &invalidation.Invalidator{Store: cfg.Client, Names: cfg.Names, Parts: parts, Outbox: a.Outbox, Known: a.Claim, NoRecords: cfg.NoRecords}
	if cfg.Transport == None {
		for _, p := range a.parts {
			p.extend(math.MaxInt64)
		}
		a.endFirst()
		a.ready.Store(true)
	}
	return a
}

// Ready starts the coordinator. Its first callers wait until a session is connected or has
// failed: for [Config.StartTimeout] at most, and no longer than ctx. It reports whether it has waited.
func (a *Coordinator) Ready(ctx context.Context) (waited bool) {
	if a.begun.Load() && a.ready.Load() {
		return false
	}
	a.start()
	if a.ready.Load() {
		return true
	}
	t := time.NewTimer(a.cfg.StartTimeout)
	defer t.Stop()
	select {
	case <-a.first:
	case <-t.C:
	case <-ctx.Done():
		return true
	case <-a.ctx.Done():
	}
	a.ready.Store(true)
	return true
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
		for _, p := range a.parts {
			a.wg.Go(p.listen)
		}
	}
	if a.cfg.Transport.tracks() {
		a.wg.Go(a.verify)
	}
}

// Close stops the coordinator, after a last attempt to deliver pending invalidations.
func (a *Coordinator) Close() {
	a.mu.Lock()
	first := !a.closed
	a.closed = true
	started := a.started
	a.mu.Unlock()
	if first && started {
		a.flushOnClose()
	}
	for _, p := range a.parts {
		p.extend(never)
	}
	a.stop()
	a.wg.Wait()
	a.wakeAll()
}

// LocalValid reports whether the local tier is valid at a local time, whatever the key is.
func (a *Coordinator) LocalValid(now int64) bool { return now < a.localValid.Load() }

// LocalValidFor is LocalValid for a Redis key.
func (a *Coordinator) LocalValidFor(redisKey string, now int64) bool {
	return a.LocalValid(now) || len(a.parts) > 1 && a.Of(redisKey).Valid(now)
}

// LastHeard returns the local time up to which everything is known to have been received about a
// Redis key: when the last heartbeat was sent by which the local tier was valid for it. ok is false if it never was.
func (a *Coordinator) LastHeard(redisKey string) (at int64, ok bool) {
	at = a.Of(redisKey).heard.Load()
	return at, at != never
}

// Subscribes reports whether this process has a transport for invalidations.
func (a *Coordinator) Subscribes() bool { return a.cfg.Transport != None }

// Connected reports whether sessions of all parts are connected at this time.
func (a *Coordinator) Connected(now int64) bool { return a.cfg.Transport != None && a.LocalValid(now) }

// Since returns the local time at or after which a load of a Redis key must have begun for a caller that
// arrives now to share it. While connected, that is any time: a change of a key moves its
// fence. While disconnected, a load may have begun before another process's write, and is
// shared for no longer than the local tier would be valid, or than what it stores would be served
// during an outage. So it is in a session by key: a load may have no lease that the server would report
// the end of, if it was refused one, or was granted one on another connection than those of the session.
func (a *Coordinator) Since(redisKey string, now int64) int64 {
	if p := a.Of(redisKey); p.Connected(now) && !p.byKey.Load() {
		return never
	}
	return now - int64(max(HeartbeatTimeout, a.cfg.Outage))
}

// Pending reports whether a key must be read past the local tier: it has been written or
// invalidated, and Redis has not acknowledged that.
func (a *Coordinator) Pending(redisKey string) bool {
	return a.queue.Has(redisKey) || a.pending.n.Load() > 0 && len(redisKey) >= len(a.cfg.Names.Data) && a.pendingSince(redisKey, nil) != never
}

// PendingTag reports whether a tag, or everything, has been invalidated, and Redis has not
// acknowledged that for the part of a key.
func (a *Coordinator) PendingTag(redisKey, tag string) bool {
	return a.queue.HasTag(a.Of(redisKey).tagSubject(tag))
}

// Claim is [Part.Claim] of the part of that number.
func (a *Coordinator) Claim(part uint8) logicalclock.Known { return a.parts[part].Claim() }

// AnyPending reports whether any invalidation is pending.
func (a *Coordinator) AnyPending() bool { return a.queue.Len() > 0 }

// Sync waits until all invalidations that were pending at the call have been delivered. The
// error is ctx's; why is the error of the last attempt, nil if there was none.
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

// RedisUp is called when Redis answers again after it had not: pending invalidations are
// retried now, without waiting for the backoff.
func (a *Coordinator) RedisUp() {
	select {
	case a.redisUp <- struct{}{}:
	default:
	}
}

// drop removes a key from the local tier, because another process wrote or invalidated it, and
// wakes the readers that wait for it.
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

// flush removes everything from the local tier.
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
