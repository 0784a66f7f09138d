// Package report writes the log lines of a cache: each kind of line once a minute at most, with
// how many were left out, and the end of a condition only if its beginning was logged. A
// permanent condition is logged once. Nothing else in a cache logs.
//
// What concerns a call of the program is written during that call. What is found out on goroutines
// of the cache is written by a [Queue]: a logger that blocks must not hold up what keeps the cache
// coherent.
package report

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/logonce"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// Reports are the log lines of one cache. All methods are safe for concurrent use.
type Reports struct {
	cache string
	log   *slog.Logger
	aside *slog.Logger // writes by Aside

	// Aside calls the program's logger for goroutines that are not those of the program's own calls.
	Aside Queue

	// Outage is for how long the local tier goes on during an outage; 0: it is not used. It is set
	// before the first report.
	Outage time.Duration

	outage, down, disconnected, opened, unapplied        logonce.State
	outdated, ahead                                      logonce.Event
	unkept, unweighed, deadLettering, overflowed, redone logonce.Event
	panicked                                             logonce.Event
	refusals                                             refusals
	misfits                                              misfits
}

// New returns the reports of a cache, which write to a logger, slog.Default if it is nil.
func New(cache string, to *slog.Logger) *Reports {
	if to == nil {
		to = slog.Default()
	}
	h := handler{to.Handler()}
	r := &Reports{cache: cache, log: slog.New(h)}
	r.aside = slog.New(aside{h, &r.Aside})
	return r
}

// args are the attributes of a line.
func (r *Reports) args(leftOut int, more ...any) []any {
	args := append([]any{"cache", r.cache}, more...)
	if leftOut > 0 {
		args = append(args, "left_out", leftOut)
	}
	return args
}

// Failed is called for each remote operation that failed, other than by its caller's context.
// It reports whether the cause is permanent.
func (r *Reports) Failed(op string, m store.Misfit, err error) (misfit bool) {
	switch {
	case r.misfits.found(op, m, err):
		if m == store.Fits {
			m = store.Hangup
		}
		r.misfit(r.log, op, m, err)
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

// Succeeded is called for each remote operation that was answered.
func (r *Reports) Succeeded(op string) {
	if r.down.Leave() {
		r.log.Info("cache: Redis is available again", r.args(0)...)
	}
	if r.refusals.end(op) {
		r.log.Info("cache: Redis accepts again what it refused", r.args(0)...)
	}
	r.misfits.succeeded(op)
}

// Detour is called once for each feature that the server lacks, and in whose place another is
// used.
func (r *Reports) Detour(m store.Misfit) {
	r.log.Warn("cache: Redis lacks a feature, in whose place a slower one is used", r.args(0, "problem", m.Problem(), "remedy", m.Remedy())...)
}

// Misfit logs a permanent misconfiguration that a session has found, once.
func (r *Reports) Misfit(op string, m store.Misfit, err error) { r.misfit(r.aside, op, m, err) }

func (r *Reports) misfit(log *slog.Logger, op string, m store.Misfit, err error) {
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
	log.Error("cache: Redis can't be used as it is: a permanent misconfiguration", r.args(0, more...)...)
}

// Circuit is called when the circuit breaker of an endpoint of Redis opens, and when all of
// them are closed.
func (r *Reports) Circuit(endpoint string, open bool) {
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

// Connected is called repeatedly with whether notifications are received.
func (r *Reports) Connected(hearing bool, err error) {
	if hearing {
		if r.disconnected.Leave() {
			r.aside.Info("cache: notifications restored", r.args(0)...)
		}
	} else if n, log := r.disconnected.Enter(); log {
		if r.Outage > 0 {
			r.aside.Warn("cache: notifications lost, local tier may be out of date", r.args(n, "longest", r.Outage, "error", err)...)
			return
		}
		r.aside.Warn("cache: notifications lost, local tier bypassed", r.args(n, "error", err)...)
	}
}

// OutageTier is called when the local tier begins to be used as during an outage, and when that is over.
func (r *Reports) OutageTier(used bool) {
	if used {
		if n, log := r.outage.Enter(); log {
			r.aside.Warn("cache: outage: the local tier goes on without Redis", r.args(n, "longest", r.Outage)...)
		}
	} else if r.outage.Leave() {
		r.aside.Info("cache: outage over: the local tier is coherent again", r.args(0)...)
	}
}

// Downgraded is called once at most.
func (r *Reports) Downgraded(err error) {
	r.aside.Warn("cache: keys can't be tracked, or not by this user: Broadcast is used instead, without changes by other programs", r.args(0, "error", err)...)
}

func (r *Reports) Overflowed() {
	if n, log := r.overflowed.Add(1); log {
		r.aside.Warn("cache: too many pending invalidations: all entries will be invalidated instead", r.args(n-1)...)
	}
}

func (r *Reports) DeliveredLater(keys int) {
	if n, log := r.redone.Add(keys); log {
		r.aside.Info("cache: pending invalidations delivered", r.args(0, "keys", n)...)
	}
}

func (r *Reports) NotKept(err error) {
	if n, log := r.unkept.Add(1); log {
		r.log.Warn("cache: a loaded value can't be kept: every read of it will load", r.args(n-1, "error", err)...)
	}
}

// StaleBeyond is called for each local hit that was found to be stale for longer than the bound.
func (r *Reports) StaleBeyond(since time.Duration, cause string) {
	if n, log := r.outdated.Add(1); log {
		r.log.Error("cache: a local entry is older than the bound allows", r.args(n-1, "for", since, "cause", cause)...)
	}
}

// SourceAhead is called for each local hit with another value than the source has had for a while.
func (r *Reports) SourceAhead(since time.Duration, cause string) {
	if n, log := r.ahead.Add(1); log {
		r.log.Warn("cache: the source has another value than the cache", r.args(n-1, "for", since, "cause", cause)...)
	}
}

func (r *Reports) NotWeighed(err error) {
	if n, log := r.unweighed.Add(1); log {
		r.log.Warn("cache: Source.Weigh failed: the size of the value is estimated", r.args(n-1, "error", err)...)
	}
}

// Panicked is called for a function of the program that has panicked, and whose failure no caller
// is told.
func (r *Reports) Panicked(function string, err error) {
	if n, log := r.panicked.Add(1); log {
		r.log.Error("cache: a function of the source has panicked", r.args(n-1, "function", function, "error", err)...)
	}
}

// Applied is called with the outcome of queued writes to the source.
func (r *Reports) Applied(dead int, failed bool, err error) {
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

// refuses reports whether an error is the reply of a working server that does not accept
// this operation.
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
// reads, so that the success of one kind implies nothing for another.
type refusals struct {
	state logonce.State
	mu    sync.Mutex // guards ops
	ops   map[string]time.Time
}

// refusedFor is how long a refused kind of operation counts as refused if it is not tried again.
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
