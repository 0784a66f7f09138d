package engine

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/stat"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/metrics"
)

// stats holds the counters of a cache. metrics.Snapshot documents the meaning of each
// counter and how they add up; the names are the same here.
type stats struct {
	recorder  metrics.Recorder
	refreshes metrics.RefreshRecorder // the same, if it is one; else nil

	// Which local hits are looked at more closely, by a hash that all have: those up to
	// sampledMost, of these those up to auditedMost for the auditor.
	sampledMost, auditedMost uint64

	// The counters of local hits are sharded by processor. The others are incremented with
	// a round trip or a load, and a single word is enough for each.
	localHits, remoteHits, absentHits, staleHits                     stat.Counter
	missAbsent, missExpired, missUndecodable                         atomic.Uint64
	missForeign, missIncompatible, missUnavailable                   atomic.Uint64
	coalesced, awaited, unloaded, fallbacks                          atomic.Uint64
	staleCovers, outageHits, outageFills                             atomic.Uint64
	loads, refreshed, loadErrors, loadPanics, notFound               atomic.Uint64
	outdated, notKept, sets, deletes, writeErrors, touched, defaults atomic.Uint64
	batches, batched, unasked                                        atomic.Uint64
	audited, auditedSource, auditsDropped                            atomic.Uint64
	staleWithin, staleBeyond, sourceAhead                            atomic.Uint64
	undecodable, remoteErrors, remoteRefused, misfits                atomic.Uint64
	applied, applyErrors, deadLetters                                atomic.Uint64
	sent, received, flushes                                          atomic.Uint64
	getHist, getManyHist, setHist, deleteHist, loadHist, remoteHist  stat.Histogram

	breaker                   atomic.Uint32 // a metrics.State
	connected                 atomic.Bool   // as last reported to the recorder
	backlog, backlogAge, dead atomic.Int64  // as last read; see lookAtQueue

	mu   sync.Mutex
	base metrics.Snapshot // at the last reset
}

func newStats(r metrics.Recorder) *stats {
	if r == nil {
		r = metrics.Discard{}
	}
	s := &stats{recorder: protectRecorder(r), sampledMost: measuredMost}
	s.refreshes, _ = s.recorder.(metrics.RefreshRecorder)
	return s
}

// sampleOf is the number of local hits per measured one: reading the clock twice
// would cost more than the hit itself.
const sampleOf = 256

// SampleOf is the number of local hits that one that is Measured stands for.
const SampleOf = sampleOf

// measuredMost is the largest of the hashes, of 64 bits, of one hit in sampleOf.
const measuredMost = 1<<64/sampleOf - 1

// Sampled is what a local hit is to be looked at for, by chance.
type Sampled uint8

const (
	Measured Sampled = 1 << iota // it stands for SampleOf of them
	Audited                      // it is to be audited; see strategy.Audit
)

// audit makes p the fraction of the local hits that are audited. It is called before any.
func (s *stats) audit(p float64) {
	if s.auditedMost = math.MaxUint64; p < 1 {
		s.auditedMost = uint64(p * (1 << 64))
	}
	s.sampledMost = max(measuredMost, s.auditedMost)
}

// sampled reports what a hit is to be looked at for. The clock was read at start: for this hit, or for
// several, of which it is the nth.
func (s *stats) sampled(start int64, nth int) Sampled {
	// The hash of a nanosecond clock selects the sample: there is no shared counter, and
	// no pattern of calls that is measured always or never.
	x := uint64(start) + uint64(nth)
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	if x > s.sampledMost {
		return 0
	}
	return s.sample(start, nth, x)
}

// sample looks more closely at a hit with that hash. It has taken as long as each of those before.
func (s *stats) sample(start int64, nth int, x uint64) (as Sampled) {
	if x <= measuredMost {
		s.getHist.RecordN(since(start)/time.Duration(max(nth, 1)), sampleOf)
		as = Measured
	}
	if s.auditedMost > 0 && x <= s.auditedMost {
		as |= Audited
	}
	return as
}

// miss counts a request that no tier answered, by the status of the record in Redis.
func (s *stats) miss(o status) {
	switch o {
	case notFound, leased, failed:
		s.missAbsent.Add(1)
	case usable, stale, expired:
		s.missExpired.Add(1)
	case corrupt:
		s.missUndecodable.Add(1)
	case foreign:
		s.missForeign.Add(1)
	case unavailable:
		s.missUnavailable.Add(1)
	case typeMismatch, newer:
		s.missIncompatible.Add(1)
	}
}

func (s *stats) hit(c *stat.Counter, info *Info) {
	c.Add(1)
	if info.Absent {
		s.absentHits.Add(1)
	}
	if info.Stale {
		s.staleHits.Add(1)
	}
}

// wrote counts the outcome of a write of one key.
func (s *stats) wrote(c *atomic.Uint64, err error) {
	if err != nil {
		c = &s.writeErrors
	}
	c.Add(1)
}

// startRefresh is called before a background refresh; the function that it returns is
// called with the error of the refresh.
func (s *stats) startRefresh(ctx, caller context.Context, cache string) (context.Context, func(error)) {
	if s.refreshes == nil {
		return ctx, func(error) {}
	}
	inner, end := s.refreshes.StartRefresh(ctx, caller, metrics.RefreshEvent{Cache: cache})
	if inner != nil {
		ctx = inner
	}
	return ctx, func(err error) {
		switch {
		case end == nil:
		case err == errBusy:
			end(metrics.Refused)
		default:
			end(outcomeOf(err))
		}
	}
}

// loadCall is one call of a loader.
type loadCall struct {
	stats   *stats
	keys    int
	refresh int                                      // how many of them for no caller's read
	start   int64                                    // local time
	end     atomic.Pointer[func(metrics.LoadResult)] // atomic: StartLoad may still run when done is called
}

// init begins the call, of these many keys, at the local time now.
func (l *loadCall) init(now int64, s *stats, keys int, refresh bool) {
	if l.stats, l.keys, l.start = s, keys, now; refresh {
		l.refresh = keys
	}
}

// begin is called right before a loader, in its goroutine, and returns the loader's context.
func (l *loadCall) begin(ctx context.Context, cache string) context.Context {
	if !l.stats.recorded() {
		return ctx
	}
	inner, end := l.stats.recorder.StartLoad(ctx, metrics.LoadEvent{Cache: cache, Keys: l.keys, Refresh: l.refresh == l.keys})
	if end != nil {
		kept := end // apart, so that it is on the heap only if there is one
		l.end.Store(&kept)
	}
	if inner != nil {
		ctx = inner
	}
	return ctx
}

// done is called once, with the error of the call and the numbers of keys that were found and
// not found.
func (l *loadCall) done(err error, found, notFound int) time.Duration {
	d := since(l.start)
	s, failed := l.stats, uint64(l.keys-found-notFound)
	s.loads.Add(uint64(l.keys))
	if found < l.keys {
		s.loadErrors.Add(failed)
		s.notFound.Add(uint64(notFound))
	}
	if l.refresh > 0 {
		s.refreshed.Add(uint64(l.refresh))
	}
	s.loadHist.Record(d)
	res := metrics.LoadResult{Duration: d, Found: found, NotFound: notFound}
	if failed > 0 {
		res.Outcome = outcomeOf(err)
		if res.Outcome == metrics.Panicked {
			s.loadPanics.Add(failed)
		}
	}
	if end := l.end.Load(); end != nil {
		(*end)(res)
	}
	return d
}

// remoteOp counts an operation on Redis, and reports whether there is a recorder to tell.
func (s *stats) remoteOp(ctx context.Context, d time.Duration, err error) bool {
	switch {
	case errors.Is(err, client.ErrOpen):
		s.remoteRefused.Add(1)
	case err != nil && !endedByCaller(ctx):
		s.remoteErrors.Add(1)
		fallthrough
	default:
		s.remoteHist.Record(d)
	}
	return s.recorded()
}

// recorded reports whether there is a recorder.
func (s *stats) recorded() bool { return s.recorder != metrics.Recorder(metrics.Discard{}) }

func endedByCaller(ctx context.Context) bool { return ctx.Err() != nil }

func outcomeOf(err error) metrics.Outcome {
	switch {
	case err == nil:
		return metrics.Succeeded
	case usercode.Panicked(err):
		return metrics.Panicked
	case usercode.Is(err, client.ErrOpen):
		return metrics.Refused
	case usercode.Is(err, context.DeadlineExceeded), usercode.Is(err, errHardTimeout), isTimeout(err):
		return metrics.TimedOut
	case usercode.Is(err, context.Canceled), usercode.Is(err, errs.ErrClosed):
		return metrics.Canceled
	}
	return metrics.Failed
}

func isTimeout(err error) (is bool) {
	_ = usercode.Do(func() {
		var timeout interface{ Timeout() bool }
		is = errors.As(err, &timeout) && timeout.Timeout()
	})
	return is
}

// raw returns the counts since the cache was made.
func (s *stats) raw() metrics.Snapshot {
	return metrics.Snapshot{
		LocalHits: s.localHits.Load(), RemoteHits: s.remoteHits.Load(), AbsentHits: s.absentHits.Load(),
		MissAbsent: s.missAbsent.Load(), MissExpired: s.missExpired.Load(), MissUndecodable: s.missUndecodable.Load(),
		MissForeign: s.missForeign.Load(), MissIncompatible: s.missIncompatible.Load(), MissUnavailable: s.missUnavailable.Load(),
		StaleHits: s.staleHits.Load(), StaleCovers: s.staleCovers.Load(), OutageHits: s.outageHits.Load(), OutageFills: s.outageFills.Load(), Defaults: s.defaults.Load(),
		Coalesced: s.coalesced.Load(), Awaited: s.awaited.Load(), Unloaded: s.unloaded.Load(), Fallbacks: s.fallbacks.Load(),
		Loads: s.loads.Load(), Refreshes: s.refreshed.Load(), LoadErrors: s.loadErrors.Load(), LoadPanics: s.loadPanics.Load(),
		Batches: s.batches.Load(), Batched: s.batched.Load(), Unasked: s.unasked.Load(),
		Audited: s.audited.Load(), AuditedSource: s.auditedSource.Load(), AuditsDropped: s.auditsDropped.Load(),
		StaleWithin: s.staleWithin.Load(), StaleBeyond: s.staleBeyond.Load(), SourceAhead: s.sourceAhead.Load(),
		NotFound: s.notFound.Load(), Outdated: s.outdated.Load(), NotKept: s.notKept.Load(),
		Sets: s.sets.Load(), Deletes: s.deletes.Load(), Touched: s.touched.Load(), WriteErrors: s.writeErrors.Load(),
		InvalidationsSent: s.sent.Load(), InvalidationsReceived: s.received.Load(), Flushes: s.flushes.Load(),
		Applied: s.applied.Load(), ApplyErrors: s.applyErrors.Load(), Buried: s.deadLetters.Load(),
		Undecodable: s.undecodable.Load(), RemoteErrors: s.remoteErrors.Load(), RemoteRefused: s.remoteRefused.Load(), Misfits: s.misfits.Load(),
		Get: s.getHist.Snapshot(), GetMany: s.getManyHist.Snapshot(), Set: s.setHist.Snapshot(),
		Delete: s.deleteHist.Snapshot(), Load: s.loadHist.Snapshot(), Remote: s.remoteHist.Snapshot(),
	}
}

// Metrics returns the metrics since the cache was made, or since ResetMetrics.
func (c *Cache) Metrics() metrics.Snapshot {
	s := c.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.Totals().Sub(s.base)
}

// ResetMetrics begins the metrics anew; Totals are not affected.
func (c *Cache) ResetMetrics() {
	s := c.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base = c.Totals()
}

// Totals returns the metrics since the cache was made.
func (c *Cache) Totals() metrics.Snapshot {
	snap := c.stats.raw()
	c.lookAtQueue()
	snap.Breaker = metrics.State(c.stats.breaker.Load())
	snap.Backlog, snap.DeadLetters = uint64(c.stats.backlog.Load()), uint64(c.stats.dead.Load())
	snap.BacklogAge = time.Duration(c.stats.backlogAge.Load())
	if c.local != nil {
		snap.Evictions, snap.LocalEntries, snap.LocalBytes = c.local.Evictions(), uint64(c.local.Len()), uint64(c.local.Bytes())
	}
	snap.Listener = c.backend.listener()
	return snap
}
