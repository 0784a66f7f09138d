// Package writebehind is the durable queue behind a write-behind cache: a write that was
// acknowledged to a caller reaches the source, even if the process is killed.
//
// Writes go into a [store.Queue] in Redis and are acknowledged when they are stored there. Keys
// are spread over a fixed number of partitions. Each partition has one consumer at a time, over
// all processes: the holder of its lease. It takes batches, in which each key is once, with its
// newest write, hands them to Apply, and removes the applied writes only after that. So a write
// is applied at least once, and a key's writes in order:
//
//   - A process that dies leaves its writes in Redis, and its leases run out; other processes take
//     its partitions over within about two and a half seconds.
//   - A write that fails is retried, with increasing delays. The key's own later writes take its
//     place; other keys do not wait for it. A write that has failed too often becomes a dead
//     letter, which can be listed and replayed.
//   - A consumer that has lost its lease stops: it checks the remaining time of the lease before
//     each call of Apply, and the call's context ends before the lease does.
//
// The remaining window is a process that is frozen inside of Apply, after it has last checked
// its context, and continues when another process has applied something newer:
//
//  1. A's Apply of k = 1 has sent its statement, or is about to; A is frozen
//  2. A's lease runs out; B takes the partition, applies k = 1, then k = 2
//  3. A continues, and the source carries out k = 1
//
// No queue can close this window: a source can, by refusing a write whose [Entry].ID is less
// than that of the last one (see [store.CompareIDs]).
//
// An acknowledged write is as durable as Redis is: with appendfsync everysec a crash of the
// server may lose a second, and a failover the writes that the replica did not have yet. An
// eviction policy of the kind allkeys-… may evict the queue itself. And a Redis that is killed
// while it writes its append-only file may leave half a transaction in it, which after one more
// restart drops the next transaction as well, unless redis-check-aof --fix has been run; see
// the function repair in the tests.
package writebehind

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
)

const (
	// Partitions is the number of partitions. It is the same for all versions of this package:
	// a process with another number would break the order of a key's writes.
	Partitions = 8

	// MaxBacklog is the maximum number of pending writes, and of dead letters, over all
	// partitions.
	MaxBacklog = 100_000

	// partitionBacklog is the limit of one partition: an equal part, and a sixteenth more. A
	// hash leaves the fullest of them about one percent above the mean, and without that margin
	// it would refuse writes before there are MaxBacklog.
	partitionBacklog = MaxBacklog / Partitions * 17 / 16

	// A lease is renewed after each poll. Its holder stops leaseMargin before it ends, by a
	// clock that was read before Redis's.
	lease       = 2 * time.Second
	leaseMargin = 200 * time.Millisecond

	// poll is how often consumers look for writes of which they received no notification.
	poll = 500 * time.Millisecond

	// rescanEvery is how often a consumer whose partition is not empty starts from its
	// beginning, to find entries that it has lost track of.
	rescanEvery = 10 * time.Second

	// drainTime bounds how long Close continues to apply, and how long it then waits for Redis.
	// Close abandons a call of Apply that has not returned closeGrace after its context ended.
	drainTime  = 5 * time.Second
	closeGrace = 500 * time.Millisecond

	// fetchBytes bounds the total size of the values of a batch.
	fetchBytes = 8 << 20
)

var (
	// ErrFull is the error of a write for which there is no room in the queue. The write was
	// not queued.
	ErrFull = errors.New("writebehind: too many writes are on their way to the source")

	// ErrClosed is the error of every operation after Close.
	ErrClosed = errors.New("writebehind: closed")

	// ErrBadID is the error of a string that is not the ID of a dead letter.
	ErrBadID = errors.New("writebehind: not the ID of a dead letter")

	// ErrDiscardOnly is the error of replaying a dead letter when it is not known whether a
	// later write of its key has been applied.
	ErrDiscardOnly = errors.New("writebehind: a later write of the key may have been applied: the dead letter can only be discarded")

	// ErrPermanent in the error of a write says that a retry is of no use: the write becomes a
	// dead letter at once.
	ErrPermanent = errors.New("writebehind: not to be tried again")

	// ErrAbandoned is reported for writes whose Apply was still running when Close stopped
	// waiting for it. Other processes apply them again.
	ErrAbandoned = errors.New("writebehind: the source has not returned after the end of its context, and was left alone")

	errLost = errors.New("writebehind: the partition's lease has run out")
)

type (
	// Write is a pending write to the source.
	Write = store.Write
	// Entry is a Write with its place in the queue.
	Entry = store.Entry
)

// Config configures a Queue. All fields are required except those that say otherwise.
type Config struct {
	Queue  store.Queue
	Prefix string // as for store.NewNames
	Name   string

	// Apply brings a batch, in which each key is once, to the source. It returns an error for
	// each entry, or nil if all were applied. It is called concurrently, for different keys,
	// and each time on a goroutine of its own. It must not begin a write once ctx is done, and
	// should give up writes that it has begun. If it panics or ends the goroutine, all entries
	// have failed.
	Apply func(ctx context.Context, batch []Entry) []error

	BatchSize   int           // positive
	BatchDelay  time.Duration // how long the first write of a batch waits for more; may be 0
	MaxAttempts int           // positive
	Timeout     time.Duration // of one call of Apply; 0: none

	// Report, if not nil, is called for each batch. It is called concurrently and must not
	// block.
	Report func(Report)

	// Hide, if not nil, transforms the text of an error before it is stored in a dead letter.
	Hide func(key, text string) string

	// Rand returns the random numbers for jitter, in [0, 1); nil: rand.Float64.
	Rand func() float64
}

// Report is the result of a batch.
type Report struct {
	Applied int
	Failed  int // to be retried
	Dead    int
	Err     error         // of the last write that failed, or that there is no room for dead letters, or that of Redis
	Took    time.Duration // the call of Apply
}

func (c *Config) check() error {
	switch {
	case c.Queue == nil || c.Apply == nil || c.Name == "":
		return errors.New("writebehind: a Config without Queue, Apply or Name")
	case c.BatchSize <= 0 || c.BatchDelay < 0 || c.MaxAttempts <= 0 || c.Timeout < 0:
		return fmt.Errorf("writebehind: batches of %d after %v, %d attempts of %v", c.BatchSize, c.BatchDelay, c.MaxAttempts, c.Timeout)
	}
	return nil
}

// Queue queues writes and consumes this process's share of the writes that all processes have
// queued.
//
// All methods are safe for concurrent use.
type Queue struct {
	cfg        Config
	store      store.Queue
	sender     string // unique to this Queue
	workers    [Partitions]*worker
	appenders  [Partitions]appender
	assignment assignment

	syncing atomic.Int64 // calls of Sync in progress: batches are not delayed until they fill

	ctx      context.Context // of requests to Redis; ends when Close is done
	stop     context.CancelFunc
	applying context.Context // of Apply; ends when Close stops waiting
	abort    context.CancelFunc

	closing chan struct{} // closed when no more writes are accepted and consumers are to finish
	alone   chan struct{} // closed when Close no longer waits for Apply
	over    chan struct{} // closed when Close is done

	mu      sync.Mutex
	closed  bool
	settled chan struct{}  // closed and replaced when outcomes were recorded by this process
	calls   sync.WaitGroup // of Enqueue, and of appenders; Add under mu while not closed
	tasks   sync.WaitGroup // consumers
}

// New starts a Queue. It does no I/O itself.
func New(cfg Config) (*Queue, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	q := &Queue{
		cfg: cfg, store: cfg.Queue, sender: fmt.Sprintf("%016x", rand.Uint64()),
		closing: make(chan struct{}), alone: make(chan struct{}), over: make(chan struct{}), settled: make(chan struct{}),
	}
	q.ctx, q.stop = context.WithCancel(store.Background(context.Background()))
	q.applying, q.abort = context.WithCancel(store.Background(context.Background()))
	q.assignment.share = Partitions
	for i := range q.workers {
		q.workers[i] = newWorker(q, i)
		q.appenders[i].worker = q.workers[i]
	}
	q.tasks.Go(q.consume)
	return q, nil
}

// consume runs the consumers. It registers this process first, so that two processes which
// start together do not take partitions in turns.
func (q *Queue) consume() {
	q.attend(q.ctx, attendFor)
	var wg sync.WaitGroup
	for _, w := range q.workers {
		wg.Go(w.run)
	}
	consumed := make(chan struct{})
	go func() {
		wg.Wait()
		close(consumed)
	}()
	t := time.NewTicker(poll)
	defer t.Stop()
	for {
		select {
		case <-consumed:
			q.attend(q.ctx, 0)
			return
		case <-t.C:
			q.attend(q.ctx, attendFor)
		}
	}
}

// Close accepts no more writes, applies the due writes in the partitions that this process
// consumes for five seconds at most, leaves the rest to other processes, and waits for its
// goroutines. After that time the context of a running call of Apply ends. A call that has not
// returned half a second later is abandoned, and the lease of its partition is left to run out:
// until then no other process applies the same writes. Close may be called more than once.
func (q *Queue) Close() {
	q.mu.Lock()
	first := !q.closed
	q.closed = true
	q.mu.Unlock()
	if !first {
		<-q.over
		return
	}
	q.calls.Wait()
	close(q.closing)
	abort := time.AfterFunc(drainTime, q.abort)
	alone := time.AfterFunc(drainTime+closeGrace, func() { close(q.alone) })
	stop := time.AfterFunc(2*drainTime, q.stop)
	q.tasks.Wait()
	abort.Stop()
	alone.Stop()
	stop.Stop()
	q.abort()
	q.stop()
	close(q.over)
}

// begin counts a call that Close waits for, unless the queue is closed.
func (q *Queue) begin() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.calls.Add(1)
	}
	return !q.closed
}

func (q *Queue) isClosing() bool {
	select {
	case <-q.closing:
		return true
	default:
		return false
	}
}

// Partition returns the partition of a key's writes: the same for all processes and versions.
// The hash has to spread keys that differ in a few digits, as numbers do; FNV does not.
func Partition(key string) int { return int(xxhash.Sum64String(key) % Partitions) }

// noteSettled wakes calls of Sync.
func (q *Queue) noteSettled() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.settled)
	q.settled = make(chan struct{})
}

func (q *Queue) nextSettled() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.settled
}

func (q *Queue) report(r Report) {
	if q.cfg.Report != nil {
		// It writes logs, with a handler that the program may have supplied.
		_ = usercode.Contained(func() error { q.cfg.Report(r); return nil })
	}
}
