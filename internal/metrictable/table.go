// Package metrictable is the table of the metrics that exporters make of a [metrics.Snapshot].
//
// The exporters are modules of their own, and a program may combine one of them with a later
// version of this module: what is exported here can be added to, but not changed.
package metrictable

import "github.com/delqhi/cache/metrics"

// Metric is a metric of one name.
type Metric struct {
	Prometheus string // its name there
	OTel       string // and in OpenTelemetry
	Unit       string // for OpenTelemetry; in Prometheus the name has it
	Kind       Kind
	Help       string
	Labels     []string // as OpenTelemetry names them, without the cache's name; Prometheus gets the last part
	Series     []Series // none if the cache has nothing that could be measured
}

// Series is one series of a metric, for each cache.
type Series struct {
	Labels    []string           // the values of Metric.Labels
	Value     uint64             // in nanoseconds if the kind is Seconds or SecondsCounter
	Histogram *metrics.Histogram // instead, if it is Histogram
}

// Kind is how the numbers of a metric behave.
type Kind uint8

const (
	Counter        Kind = iota // only grows
	UpDownCounter              // goes up and down, and may be added up over processes
	Gauge                      // may not
	Seconds                    // a Gauge that is a duration
	Histogram                  // of durations
	SecondsCounter             // a Counter of durations
)

// Of returns all metrics with the numbers of s, in the same order for every s. No series is the
// difference of two counters, which would go back for a moment while one has moved and the
// other has not, and be taken for a restart.
func Of(s *metrics.Snapshot) []Metric {
	return []Metric{
		{"cache_requests_total", "cache.requests", "{request}", Counter, "Keys that were asked for, by the tier that answered; a miss has the tier none.", []string{"cache.tier", "cache.result"}, []Series{
			of(s.LocalHits, "local", "hit"),
			of(s.RemoteHits, "remote", "hit"),
			of(s.Misses(), "none", "miss"),
		}},
		{"cache_stale_hits_total", "cache.stale_hits", "{request}", Counter, "Hits by a value past its fresh life.", nil, only(s.StaleHits)},
		{"cache_absent_hits_total", "cache.absent_hits", "{request}", Counter, "Hits by the remembered fact that there is nothing.", nil, only(s.AbsentHits)},
		{"cache_outage_hits_total", "cache.outage_hits", "{request}", Counter, "Hits of the local tier while Redis could not be reached or heard.", nil, only(s.OutageHits)},
		{"cache_misses_total", "cache.misses", "{request}", Counter, "Requests that no tier answered, by the reason.", []string{"cache.miss.reason"}, []Series{
			of(s.MissAbsent, "absent"),
			of(s.MissExpired, "expired"),
			of(s.MissUndecodable, "undecodable"),
			of(s.MissForeign, "foreign"),
			of(s.MissIncompatible, "incompatible"),
			of(s.MissUnavailable, "unavailable"),
		}},
		{"cache_shared_loads_total", "cache.shared_loads", "{request}", Counter, "Misses that were answered by a load that another request of the process, or another process, had begun.", []string{"cache.scope"}, []Series{
			of(s.Coalesced, "process"),
			of(s.Awaited, "fleet"),
		}},
		{"cache_unloaded_misses_total", "cache.unloaded_misses", "{request}", Counter, "Misses that ended without a load: no loader, overload, a remembered error, an ended context.", nil, only(s.Unloaded)},
		{"cache_stale_covers_total", "cache.stale_covers", "{request}", Counter, "Misses answered by a stale value because the load failed or was slow.", nil, only(s.StaleCovers)},
		{"cache_defaults_total", "cache.defaults", "{request}", Counter, "Requests answered by the source's default value because the load failed.", nil, only(s.Defaults)},
		{"cache_fallbacks_total", "cache.fallbacks", "{request}", Counter, "Requests that a load answered although Redis could not be asked.", nil, only(s.Fallbacks)},

		{"cache_loads_total", "cache.loads", "{key}", Counter, "Keys that the source was asked for, and has answered.", nil, only(s.Loads)},
		{"cache_refreshes_total", "cache.refreshes", "{key}", Counter, "Of the loads: for no request that waits.", nil, only(s.Refreshes)},
		{"cache_load_errors_total", "cache.load.errors", "{key}", Counter, "Of the loads: failed.", nil, only(s.LoadErrors)},
		{"cache_load_panics_total", "cache.load.panics", "{key}", Counter, "Of the load errors: panics.", nil, only(s.LoadPanics)},
		{"cache_loads_not_found_total", "cache.load.not_found", "{key}", Counter, "Of the loads: the source has no such thing.", nil, only(s.NotFound)},
		{"cache_load_batches_total", "cache.load.batches", "{call}", Counter, "Calls of LoadMany for keys that several requests have missed.", nil, only(s.Batches)},
		{"cache_batched_loads_total", "cache.load.batched", "{key}", Counter, "Of the loads: the keys of these calls.", nil, only(s.Batched)},
		{"cache_unasked_values_total", "cache.load.unasked", "{key}", Counter, "Values that a LoadMany returned without being asked, and that the local tier has stored.", nil, only(s.Unasked)},
		{"cache_outage_fills_total", "cache.outage_fills", "{key}", Counter, "Loaded answers that only the local tier has kept, since Redis could not be reached or heard.", nil, only(s.OutageFills)},
		{"cache_unstored_loads_total", "cache.unstored_loads", "{key}", Counter, "Loaded answers that were not stored: outdated by a write, or not_kept for another reason.", []string{"cache.unstored.reason"}, []Series{
			of(s.Outdated, "outdated"),
			of(s.NotKept, "not_kept"),
		}},

		{"cache_writes_total", "cache.writes", "{key}", Counter, "Keys that were written.", []string{"cache.operation"}, []Series{
			of(s.Sets, "set"),
			of(s.Deletes, "delete"),
			of(s.Touched, "touch"),
		}},
		{"cache_write_errors_total", "cache.write.errors", "{key}", Counter, "Keys that a write returned an error for.", nil, only(s.WriteErrors)},

		{"cache_invalidations_total", "cache.invalidations", "{invalidation}", Counter, "Keys, patterns and tags whose invalidation was sent to other processes, or received from them.", []string{"cache.direction"}, []Series{
			of(s.InvalidationsSent, "sent"),
			of(s.InvalidationsReceived, "received"),
		}},
		{"cache_local_flushes_total", "cache.local.flushes", "{flush}", Counter, "Times the local tier, or on a cluster a part of it, was dropped because messages may have been lost.", nil, only(s.Flushes)},
		{"cache_local_evictions_total", "cache.local.evictions", "{entry}", Counter, "Entries that left the local tier for want of room.", nil, only(s.Evictions)},
		{"cache_local_entries", "cache.local.entry.count", "{entry}", UpDownCounter, "Entries in the local tier.", nil, only(s.LocalEntries)},
		{"cache_local_bytes", "cache.local.size", "By", UpDownCounter, "About what the entries of the local tier take, where that is bounded; else 0.", nil, only(s.LocalBytes)},

		{"cache_audited_hits_total", "cache.audit.hits", "{request}", Counter, "Local hits that were compared, with what: of the fleet, Redis, or without it the source; of the source, as well.", []string{"cache.audit.with"}, []Series{
			of(s.Audited, "fleet"),
			of(s.AuditedSource, "source"),
		}},
		{"cache_audit_stale_hits_total", "cache.audit.stale_hits", "{request}", Counter, "Of these: the value had been replaced; for how long: within or beyond the bound, or in the source only.", []string{"cache.audit.extent"}, []Series{
			of(s.StaleWithin, "within"),
			of(s.StaleBeyond, "beyond"),
			of(s.SourceAhead, "source"),
		}},
		{"cache_audits_dropped_total", "cache.audit.dropped", "{request}", Counter, "Local hits that were to be compared and could not be.", nil, only(s.AuditsDropped)},
		{"cache_remote_errors_total", "cache.remote.errors", "{operation}", Counter, "Operations on Redis that failed.", nil, only(s.RemoteErrors)},
		{"cache_remote_refused_total", "cache.remote.refused", "{operation}", Counter, "Operations on Redis that were not begun, since the circuit to it is open.", nil, only(s.RemoteRefused)},
		{"cache_misfits_total", "cache.misfits", "{operation}", Counter, "Operations on Redis that failed for a reason that does not pass by itself, such as permissions.", nil, only(s.Misfits)},
		{"cache_undecodable_records_total", "cache.undecodable_records", "{record}", Counter, "Records met in Redis that were damaged or not to be decoded.", nil, only(s.Undecodable)},
		{"cache_breaker_state", "cache.breaker.state", "1", Gauge, "1 for the state that the circuit to Redis is in, 0 for the others.", []string{"cache.state"}, []Series{
			is(s.Breaker, metrics.Closed),
			is(s.Breaker, metrics.HalfOpen),
			is(s.Breaker, metrics.Open),
		}},
		{"cache_listener_up", "cache.listener.up", "1", Gauge, "Whether other processes' writes are heard; absent where there is nothing to hear by.", nil, up(s.Listener)},

		{"cache_write_behind_applied_total", "cache.write_behind.applied", "{write}", Counter, "Queued writes that this process brought to the source.", nil, only(s.Applied)},
		{"cache_write_behind_errors_total", "cache.write_behind.errors", "{attempt}", Counter, "Attempts of that which failed, and will be repeated.", nil, only(s.ApplyErrors)},
		{"cache_write_behind_buried_total", "cache.write_behind.buried", "{write}", Counter, "Queued writes that became dead letters.", nil, only(s.Buried)},
		{"cache_write_behind_backlog", "cache.write_behind.backlog", "{write}", Gauge, "Writes of all processes on their way to the source.", nil, only(s.Backlog)},
		{"cache_write_behind_dead_letters", "cache.write_behind.dead_letters", "{write}", Gauge, "Dead letters of all processes.", nil, only(s.DeadLetters)},
		{"cache_write_behind_backlog_age_seconds", "cache.write_behind.backlog_age", "s", Seconds, "How long ago the oldest write that is on its way to the source was queued.", nil, only(uint64(s.BacklogAge))},

		{"cache_operation_duration_seconds", "cache.operation.duration", "s", Histogram, "How long calls of the cache take; of local hits, a sample that stands for all.", []string{"cache.operation"}, []Series{
			timed(&s.Get, "get"),
			timed(&s.GetMany, "get_many"),
			timed(&s.Set, "set"),
			timed(&s.Delete, "delete"),
		}},
		{"cache_load_duration_seconds", "cache.load.duration", "s", Histogram, "How long calls of loaders take.", nil, []Series{timed(&s.Load)}},
		{"cache_remote_duration_seconds", "cache.remote.duration", "s", Histogram, "How long operations on Redis take, a batch being one.", nil, []Series{timed(&s.Remote)}},
	}
}

func only(n uint64) []Series { return []Series{of(n)} }

func of(n uint64, labels ...string) Series { return Series{Labels: labels, Value: n} }

func timed(h *metrics.Histogram, labels ...string) Series {
	return Series{Labels: labels, Histogram: h}
}

// is is 1 if the state is want.
func is(state, want metrics.State) Series {
	if state == want {
		return of(1, want.String())
	}
	return of(0, want.String())
}

// up is 1 for Up, and no series without a transport.
func up(listener metrics.State) []Series {
	switch listener {
	case metrics.Closed:
		return nil
	case metrics.Up:
		return only(1)
	}
	return only(0)
}
