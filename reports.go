package cache

import (
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/logonce"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// reports writes what an operator must know of a cache, and nothing else does: each kind
// of line once a minute at most, with how many were left out, and the end of something
// only if its beginning was logged. What does not pass by itself is logged once.
type reports struct {
	cache string
	log   *slog.Logger

	down, disconnected, opened, unapplied     logonce.State
	unkept, deadLettering, overflowed, redone logonce.Event
	refusals                                  refusals
	misfits                                   misfits
}

// newReports returns reports of a cache that write to a logger, slog.Default if it is nil.
func newReports(cache string, to *slog.Logger) *reports {
	if to == nil {
		to = slog.Default()
	}
	return &reports{cache: cache, log: slog.New(logHandler{to.Handler()})}
}

// args are the attributes of a line.
func (r *reports) args(leftOut int, more ...any) []any {
	args := append([]any{"cache", r.cache}, more...)
	if leftOut > 0 {
		args = append(args, "left_out", leftOut)
	}
	return args
}

// failed is told of each remote operation that failed, other than by its caller's context.
// It reports whether that is for a reason that does not pass by itself.
func (r *reports) failed(op string, m store.Misfit, err error) (misfit bool) {
	switch {
	case r.misfits.found(op, m, err):
		if m == store.Fits {
			m = store.Hangup
		}
		r.misfit(op, m, err)
		return true
	case refuses(err):
		if n, log := r.refusals.begin(op); log {
			r.log.Warn("cache: Redis refuses a kind of operation", r.args(n, "operation", op, "error", err)...)
		}
	default:
		if n, log := r.down.Enter(); log {
			r.log.Warn("cache: Redis is unavailable: reads load from the source, writes fail", r.args(n, "operation", op, "error", err)...)
		}
	}
	return false
}

// succeeded is told of each remote operation that was answered.
func (r *reports) succeeded(op string) {
	if r.down.Leave() {
		r.log.Info("cache: Redis is available again", r.args(0)...)
	}
	if r.refusals.end(op) {
		r.log.Info("cache: Redis accepts again what it refused", r.args(0)...)
	}
	r.misfits.succeeded(op)
}

// misfit logs what does not pass by itself, once.
func (r *reports) misfit(op string, m store.Misfit, err error) {
	if r.misfits.said[m].Swap(true) {
		return
	}
	more := []any{"problem", m.Problem(), "remedy", m.Remedy()}
	if op != "" {
		more = append(more, "operation", op)
	}
	if err != nil {
		more = append(more, "error", err)
	}
	r.log.Error("cache: Redis can't be used as it is: a permanent misconfiguration", r.args(0, more...)...)
}

// circuit is told of the circuits to the endpoints of Redis: that one is open now, or that
// all are closed.
func (r *reports) circuit(endpoint string, open bool) {
	var more []any
	if endpoint != "" {
		more = []any{"endpoint", endpoint}
	}
	if open {
		if n, log := r.opened.Enter(); log {
			r.log.Warn("cache: circuit breaker opened", r.args(n, more...)...)
		}
	} else if r.opened.Leave() {
		r.log.Info("cache: circuit breaker closed", r.args(0, more...)...)
	}
}

// loadedElsewhere is told whether notifications are heard, again and again.
func (r *reports) heard(hearing bool, err error) {
	if hearing {
		if r.disconnected.Leave() {
			r.log.Info("cache: notifications restored", r.args(0)...)
		}
	} else if n, log := r.disconnected.Enter(); log {
		r.log.Warn("cache: notifications lost, local tier bypassed", r.args(n, "error", err)...)
	}
}

// downgraded is told once at most.
func (r *reports) downgraded(err error) {
	r.log.Warn("cache: the server can't track keys for this user: Broadcast is used instead, without changes by other programs", r.args(0, "error", err)...)
}

func (r *reports) overflow() {
	if n, log := r.overflowed.Add(1); log {
		r.log.Warn("cache: too many pending invalidations: all entries will be invalidated instead", r.args(n-1)...)
	}
}

func (r *reports) deliveredLater(keys int) {
	if n, log := r.redone.Add(keys); log {
		r.log.Info("cache: pending invalidations delivered", r.args(0, "keys", n)...)
	}
}

func (r *reports) notKept(err error) {
	if n, log := r.unkept.Add(1); log {
		r.log.Warn("cache: a loaded value can't be kept: every read of it will load", r.args(n-1, "error", err)...)
	}
}

// applied is told how the source takes queued writes.
func (r *reports) applied(dead int, failed bool, err error) {
	switch {
	case dead > 0:
		if n, log := r.deadLettering.Add(dead); log {
			r.log.Error("cache: the source has rejected writes: they are dead letters now", r.args(0, "writes", n, "error", err)...)
		}
	case failed:
		if n, log := r.unapplied.Enter(); log {
			r.log.Warn("cache: the source does not take queued writes: they are tried again", r.args(n, "error", err)...)
		}
	default:
		if r.unapplied.Leave() {
			r.log.Info("cache: the source takes queued writes again", r.args(0)...)
		}
	}
}

// refuses reports whether an error is the answer of a server that works, and does not
// carry out this operation.
func refuses(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	for _, state := range []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN"} {
		if redis.HasErrorPrefix(err, state) {
			return false
		}
	}
	return true
}

// refusals are the kinds of operation that Redis refuses: a server that is full answers
// reads, so that a success of one kind says nothing of another.
type refusals struct {
	state logonce.State
	mu    sync.Mutex // guards ops
	ops   map[string]time.Time
}

// refusedFor is how long a kind of operation counts as refused that is not tried again.
const refusedFor = 10 * time.Second

func (r *refusals) begin(op string) (leftOut int, log bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ops == nil {
		r.ops = map[string]time.Time{}
	}
	r.ops[op] = time.Now()
	return r.state.Enter()
}

func (r *refusals) end(op string) (log bool) {
	if !r.state.On() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.ops, op)
	for other, at := range r.ops {
		if time.Since(at) < refusedFor {
			return false
		}
		delete(r.ops, other)
	}
	return r.state.Leave()
}

// misfits finds out which errors are for a reason that does not pass by itself, where one
// error does not tell, and remembers what is logged.
type misfits struct {
	said  [store.Misfits]atomic.Bool
	wrote atomic.Bool // a change was acknowledged

	open     atomic.Bool // the rest says something
	mu       sync.Mutex  // guards what follows
	readOnly time.Time   // of the first READONLY since a change was acknowledged
	hangups  map[string]*hangup
}

// hangup are the times that an operation ended with its connection, one after the other.
type hangup struct {
	first  time.Time
	n      int
	others int // successes of others meanwhile
}

const (
	// A server that refuses writes as a replica does may be one that is about to become
	// a master, but not for so long; nor where it has never been one to this process.
	replicaAfter, replicaAtFirst = 30 * time.Second, time.Second

	// hangupsLeast are as many as no broken network brings about for one kind of operation
	// while others succeed, within hangupsAfter.
	hangupsLeast = 5
	hangupsAfter = 10 * time.Second
)

func (f *misfits) found(op string, m store.Misfit, err error) bool {
	switch {
	case m == store.Replica:
		f.mu.Lock()
		defer f.mu.Unlock()
		now := time.Now()
		if f.readOnly.IsZero() {
			f.readOnly = now
			f.open.Store(true)
		}
		least := replicaAfter
		if !f.wrote.Load() {
			least = replicaAtFirst
		}
		return now.Sub(f.readOnly) >= least
	case m != store.Fits:
		return true
	case errors.Is(err, io.EOF):
		f.mu.Lock()
		defer f.mu.Unlock()
		h := f.hangups[op]
		if h == nil {
			if f.hangups == nil {
				f.hangups = map[string]*hangup{}
			}
			h = &hangup{first: time.Now()}
			f.hangups[op] = h
			f.open.Store(true)
		}
		h.n++
		return h.n >= hangupsLeast && h.others >= hangupsLeast && time.Since(h.first) >= hangupsAfter
	}
	return false
}

func (f *misfits) succeeded(op string) {
	changes := false
	switch op {
	case "set", "add", "swap", "delete", "marks", "mark", "append":
		changes = true
		if !f.wrote.Load() {
			f.wrote.Store(true)
		}
	}
	if !f.open.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if changes {
		f.readOnly = time.Time{}
	}
	delete(f.hangups, op)
	for _, h := range f.hangups {
		h.others++
	}
	f.open.Store(!f.readOnly.IsZero() || len(f.hangups) > 0)
}
