package metrics

import (
	"log/slog"
	"time"
)

// Snapshot is what a cache has counted since it was made or its metrics were
// reset. It is a plain value, comparable with ==, of about 13 KiB.
//
// A request is one key that Get, GetOrLoad, GetMany, GetOrLoadMany or Peek was called for; a
// key named twice in one call is one request. Each request is counted once, after the tiers
// have been read and before anything is loaded: as a hit, of the tier that had the value, or as
// a miss, for the reason that Redis gave (without Redis, that the local tier gave):
//
//	Requests = Hits + Misses
//	Hits     = LocalHits + RemoteHits
//	Misses   = MissAbsent + MissExpired + MissUndecodable + MissForeign
//	           + MissIncompatible + MissUnavailable
//
// Each miss then ends in one way: in a load that it began, in one that it shared
// with others of this process, in one of another process, or in none:
//
//	Misses   = (Loads - Refreshes) + Coalesced + Awaited + Unloaded
//
// Loads are counted by key, however many keys one call of a loader takes; the
// calls are the Count of the histogram Load. A load that found a value is neither
// an error nor not found:
//
//	Loads    = values + NotFound + LoadErrors
//
// Operations in flight are counted at different times, so the last two equations hold only when
// none is.
type Snapshot struct {
	LocalHits  uint64 // requests answered by the local tier
	RemoteHits uint64 // requests answered by Redis
	StaleHits  uint64 // of the hits: by a value past its fresh life, at once
	AbsentHits uint64 // of the hits: by a remembered absence
	OutageHits uint64 // of the local hits: while Redis could not be reached or heard (strategy.LocalDuringOutage)

	MissAbsent       uint64 // no record, or a lease of another caller's load, or Redis was not to be asked (SkipRemote)
	MissExpired      uint64 // a record, but ended, invalidated, or older than the caller's MaxAge
	MissUndecodable  uint64 // a record, but damaged or not decodable
	MissForeign      uint64 // a value that was not written by this library
	MissIncompatible uint64 // a record, but of another version, type or codec
	MissUnavailable  uint64 // Redis did not answer, or refused

	Coalesced   uint64 // misses that shared a load of this process
	Awaited     uint64 // misses that were answered by another process's load
	Unloaded    uint64 // misses that ended without a load: no loader, Peek, overload, a remembered error, an ended context
	StaleCovers uint64 // misses answered by a stale value because the load failed or was slow
	Defaults    uint64 // requests answered by the source's default value because the load failed
	Fallbacks   uint64 // of MissUnavailable: requests that were answered by a load

	Loads       uint64 // keys that a loader was called for, counted when it has returned
	Refreshes   uint64 // of the loads: without a waiting request: ahead, behind a stale value, by Refresh or Update
	LoadErrors  uint64 // of the loads: ended with an error, a panic, a timeout or because no caller waited any more
	LoadPanics  uint64 // of the load errors: panics
	NotFound    uint64 // of the loads: the source does not have the value
	Batches     uint64 // calls of LoadMany for keys that several requests have missed (strategy.BatchLoads)
	Batched     uint64 // of the loads: the keys of these calls
	Unasked     uint64 // values that a LoadMany returned without being asked, and that the local tier has stored (strategy.BatchLoads)
	Outdated    uint64 // loaded results that were not stored because a write or an invalidation came first
	OutageFills uint64 // loaded results that only the local tier has kept, since Redis could not be reached or heard
	NotKept     uint64 // loaded results that were not stored for another reason: too large, not encodable, refused by Redis

	Sets        uint64 // keys stored by Set, SetMany, SetIfAbsent and Update
	Deletes     uint64 // keys removed by Delete
	Touched     uint64 // keys whose life Touch has renewed
	WriteErrors uint64 // keys that a write of any kind returned an error for

	InvalidationsSent     uint64 // keys, patterns and tags that were published to other processes
	InvalidationsReceived uint64 // keys, patterns and tags that this process received; with TrackingKeys, reported changes of keys
	Flushes               uint64 // times the local tier, or on a cluster a part of it, was dropped because messages may have been lost

	Applied     uint64 // queued writes that this process applied to the source (strategy.WriteBehind)
	ApplyErrors uint64 // attempts to apply that failed, and will be repeated
	Buried      uint64 // queued writes that failed too often and became dead letters

	Audited       uint64 // local hits that were compared with Redis, or without it with the source (strategy.Audit)
	StaleWithin   uint64 // of these: Redis had another value already; the entry was dropped or replaced within the bound of 2 s
	StaleBeyond   uint64 // of these: Redis had another value for longer than that: the log has it
	AuditedSource uint64 // of these: compared with the source as well
	SourceAhead   uint64 // of these: the source had another value for longer than the bound, and nothing was invalidated
	AuditsDropped uint64 // local hits that were to be compared and could not be: too many at once, no answer

	Evictions    uint64 // entries that left the local tier for want of room
	Undecodable  uint64 // records read from Redis, by any operation, that were damaged or not decodable
	RemoteErrors uint64 // remote operations that failed, except those ended by the caller's context

	RemoteRefused uint64 // remote operations that were not begun, since the breaker was open
	Misfits       uint64 // remote operations, and subscriptions, that failed by a permanent misconfiguration: the log has it

	LocalEntries uint64        // gauge: entries in the local tier, ended ones that were not yet removed included
	LocalBytes   uint64        // gauge: what they take, about, where strategy.LocalBytes bounds it
	Backlog      uint64        // gauge: queued writes of all processes, as last seen
	DeadLetters  uint64        // gauge: dead letters of all processes, as last seen
	BacklogAge   time.Duration // gauge: how long ago the oldest of the backlog was queued
	Breaker      State         // gauge: Closed, HalfOpen or Open
	Listener     State         // gauge: Up or Down; Closed without a transport

	Get     Histogram // calls of Get, GetOrLoad and Peek; local hits are sampled, and weighted
	GetMany Histogram // calls of GetMany and GetOrLoadMany
	Set     Histogram // calls of Set, SetMany, SetIfAbsent and Update
	Delete  Histogram // calls of Delete and Invalidate
	Load    Histogram // calls of loaders
	Remote  Histogram // operations on Redis, one for a batch
}

var _ slog.LogValuer = Snapshot{}

// Hits returns the requests that a tier answered.
func (s Snapshot) Hits() uint64 { return s.LocalHits + s.RemoteHits }

// Misses returns the requests that no tier could answer.
func (s Snapshot) Misses() uint64 {
	return s.MissAbsent + s.MissExpired + s.MissUndecodable + s.MissForeign + s.MissIncompatible + s.MissUnavailable
}

// Requests returns the number of requests.
func (s Snapshot) Requests() uint64 { return s.Hits() + s.Misses() }

// HitRate returns the fraction of the requests that were hits, 0 without any.
func (s Snapshot) HitRate() float64 {
	if s.Requests() == 0 {
		return 0
	}
	return float64(s.Hits()) / float64(s.Requests())
}

// Cache is what exporters need of a cache, whatever the types of its keys and values. Every
// *cache.Cache is one.
type Cache interface {
	// Name is the name that distinguishes the cache from others.
	Name() string

	// Totals is what the cache has counted since it was made, whatever was reset since:
	// its counters only grow.
	Totals() Snapshot
}

// Sub returns what happened since earlier, a snapshot of the same cache: counters
// and histograms subtract, gauges stay as they are in s. A counter that earlier is
// greater was reset in between, and all of it is newer; likewise a histogram.
func (s Snapshot) Sub(earlier Snapshot) Snapshot {
	before := earlier.counters()
	for i, c := range s.counters() {
		if n := *before[i].value; n <= *c.value {
			*c.value -= n
		}
	}
	past := earlier.histograms()
	for i, h := range s.histograms() {
		*h.value = h.value.Sub(*past[i].value)
	}
	return s
}

type counter struct {
	name  string
	value *uint64
}

// counters are all fields that only grow.
func (s *Snapshot) counters() []counter {
	return []counter{
		{"local_hits", &s.LocalHits}, {"remote_hits", &s.RemoteHits},
		{"stale_hits", &s.StaleHits}, {"absent_hits", &s.AbsentHits}, {"outage_hits", &s.OutageHits},
		{"miss_absent", &s.MissAbsent}, {"miss_expired", &s.MissExpired},
		{"miss_undecodable", &s.MissUndecodable}, {"miss_foreign", &s.MissForeign},
		{"miss_incompatible", &s.MissIncompatible}, {"miss_unavailable", &s.MissUnavailable},
		{"coalesced", &s.Coalesced}, {"awaited", &s.Awaited}, {"unloaded", &s.Unloaded},
		{"stale_covers", &s.StaleCovers}, {"defaults", &s.Defaults}, {"fallbacks", &s.Fallbacks},
		{"loads", &s.Loads}, {"refreshes", &s.Refreshes}, {"load_errors", &s.LoadErrors},
		{"load_panics", &s.LoadPanics}, {"not_found", &s.NotFound},
		{"batches", &s.Batches}, {"batched", &s.Batched}, {"unasked", &s.Unasked},
		{"outage_fills", &s.OutageFills}, {"outdated", &s.Outdated}, {"not_kept", &s.NotKept},
		{"sets", &s.Sets}, {"deletes", &s.Deletes}, {"touched", &s.Touched}, {"write_errors", &s.WriteErrors},
		{"invalidations_sent", &s.InvalidationsSent},
		{"invalidations_received", &s.InvalidationsReceived}, {"flushes", &s.Flushes},
		{"applied", &s.Applied}, {"apply_errors", &s.ApplyErrors}, {"buried", &s.Buried},
		{"audited", &s.Audited}, {"stale_within", &s.StaleWithin}, {"stale_beyond", &s.StaleBeyond},
		{"audited_source", &s.AuditedSource}, {"source_ahead", &s.SourceAhead}, {"audits_dropped", &s.AuditsDropped},
		{"evictions", &s.Evictions}, {"undecodable", &s.Undecodable},
		{"remote_errors", &s.RemoteErrors}, {"remote_refused", &s.RemoteRefused}, {"misfits", &s.Misfits},
	}
}

type histogram struct {
	name  string
	value *Histogram
}

func (s *Snapshot) histograms() []histogram {
	return []histogram{
		{"get", &s.Get}, {"get_many", &s.GetMany}, {"set", &s.Set},
		{"delete", &s.Delete}, {"load", &s.Load}, {"remote", &s.Remote},
	}
}

// LogValue is a group of the hit rate, the gauges, and those counters and
// histograms that are not zero.
func (s Snapshot) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.Uint64("requests", s.Requests()),
		slog.Float64("hit_rate", s.HitRate()),
		slog.Uint64("local_entries", s.LocalEntries),
		slog.String("breaker", s.Breaker.String()),
	}
	if s.Listener != Closed {
		attrs = append(attrs, slog.String("listener", s.Listener.String()))
	}
	if s.Backlog > 0 || s.DeadLetters > 0 {
		attrs = append(attrs, slog.Uint64("backlog", s.Backlog), slog.Duration("backlog_age", s.BacklogAge), slog.Uint64("dead_letters", s.DeadLetters))
	}
	for _, c := range s.counters() {
		if *c.value != 0 {
			attrs = append(attrs, slog.Uint64(c.name, *c.value))
		}
	}
	for _, h := range s.histograms() {
		if h.value.Count != 0 {
			attrs = append(attrs, slog.Attr{Key: h.name, Value: h.value.LogValue()})
		}
	}
	return slog.GroupValue(attrs...)
}
