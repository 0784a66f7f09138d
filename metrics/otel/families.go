package otel

import (
	"github.com/delqhi/cache/metrics"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// family is a metric of one name.
type family struct {
	name, unit, help string
	kind             kind
	samples          []sample
}

type kind uint8

const (
	counts kind = iota // only grows
	sums               // goes up and down, and may be added up over processes
	gauges             // may not
)

// sample is a series of a family, for each cache.
type sample struct {
	attributes []attribute.KeyValue // without the cache's
	value      func(snap) uint64
	absent     func(snap) bool // nil: never
}

type snap = *metrics.Snapshot

func (f *family) instrument(m metric.Meter) (metric.Int64Observable, error) {
	unit, help := metric.WithUnit(f.unit), metric.WithDescription(f.help)
	switch f.kind {
	case counts:
		return m.Int64ObservableCounter(f.name, unit, help)
	case sums:
		return m.Int64ObservableUpDownCounter(f.name, unit, help)
	default:
		return m.Int64ObservableGauge(f.name, unit, help)
	}
}

func only(value func(snap) uint64) []sample { return []sample{{value: value}} }

func of(key, val string, value func(snap) uint64) sample {
	return sample{attributes: []attribute.KeyValue{attribute.String(key, val)}, value: value}
}

// families are all counters and gauges of a Snapshot. No series is the difference of two
// counters, which would go back for a moment while one has moved and the other has not.
var families = []family{
	{"cache.requests", "{request}", "Keys that were asked for, by the tier that answered; a miss has the tier none.", counts, []sample{
		request("local", "hit", func(s snap) uint64 { return s.LocalHits }),
		request("remote", "hit", func(s snap) uint64 { return s.RemoteHits }),
		request("none", "miss", func(s snap) uint64 { return s.Misses() }),
	}},
	{"cache.hits.stale", "{request}", "Hits by a value past its fresh life.", counts, only(func(s snap) uint64 { return s.StaleHits })},
	{"cache.hits.absent", "{request}", "Hits by the remembered fact that there is nothing.", counts, only(func(s snap) uint64 { return s.AbsentHits })},
	{"cache.misses", "{request}", "Requests that no tier answered, by the reason.", counts, []sample{
		of("cache.miss.reason", "absent", func(s snap) uint64 { return s.MissAbsent }),
		of("cache.miss.reason", "expired", func(s snap) uint64 { return s.MissExpired }),
		of("cache.miss.reason", "undecodable", func(s snap) uint64 { return s.MissUndecodable }),
		of("cache.miss.reason", "foreign", func(s snap) uint64 { return s.MissForeign }),
		of("cache.miss.reason", "incompatible", func(s snap) uint64 { return s.MissIncompatible }),
		of("cache.miss.reason", "unavailable", func(s snap) uint64 { return s.MissUnavailable }),
	}},
	{"cache.shared_loads", "{request}", "Misses that were answered by a load that another request of the process, or another process, had begun.", counts, []sample{
		of("cache.scope", "process", func(s snap) uint64 { return s.Coalesced }),
		of("cache.scope", "fleet", func(s snap) uint64 { return s.Awaited }),
	}},
	{"cache.unloaded_misses", "{request}", "Misses that ended without a load: no loader, overload, a remembered error, an ended context.", counts, only(func(s snap) uint64 { return s.Unloaded })},
	{"cache.stale_covers", "{request}", "Misses answered by a stale value because the load failed or was slow.", counts, only(func(s snap) uint64 { return s.StaleCovers })},
	{"cache.fallbacks", "{request}", "Requests that a load answered although Redis could not be asked.", counts, only(func(s snap) uint64 { return s.Fallbacks })},

	{"cache.loads", "{key}", "Keys that the source was asked for, and has answered.", counts, only(func(s snap) uint64 { return s.Loads })},
	{"cache.refreshes", "{key}", "Of the loads: for no request that waits.", counts, only(func(s snap) uint64 { return s.Refreshes })},
	{"cache.load.errors", "{key}", "Of the loads: failed.", counts, only(func(s snap) uint64 { return s.LoadErrors })},
	{"cache.load.panics", "{key}", "Of the load errors: panics.", counts, only(func(s snap) uint64 { return s.LoadPanics })},
	{"cache.load.not_found", "{key}", "Of the loads: the source has no such thing.", counts, only(func(s snap) uint64 { return s.NotFound })},
	{"cache.unstored_loads", "{key}", "Loaded answers that were not stored: outdated by a write, or not_kept for another reason.", counts, []sample{
		of("cache.unstored.reason", "outdated", func(s snap) uint64 { return s.Outdated }),
		of("cache.unstored.reason", "not_kept", func(s snap) uint64 { return s.NotKept }),
	}},

	{"cache.writes", "{key}", "Keys that were written.", counts, []sample{
		of("cache.operation", "set", func(s snap) uint64 { return s.Sets }),
		of("cache.operation", "delete", func(s snap) uint64 { return s.Deletes }),
	}},
	{"cache.write.errors", "{key}", "Keys that a write returned an error for.", counts, only(func(s snap) uint64 { return s.WriteErrors })},

	{"cache.invalidations", "{invalidation}", "Keys, patterns and tags that other processes were told of, or that this one heard of.", counts, []sample{
		of("cache.direction", "sent", func(s snap) uint64 { return s.InvalidationsSent }),
		of("cache.direction", "received", func(s snap) uint64 { return s.InvalidationsReceived }),
	}},
	{"cache.local.flushes", "{flush}", "Times the whole local tier was dropped because messages may have been lost.", counts, only(func(s snap) uint64 { return s.Flushes })},
	{"cache.local.evictions", "{entry}", "Entries that left the local tier for want of room.", counts, only(func(s snap) uint64 { return s.Evictions })},
	{"cache.local.entries", "{entry}", "Entries in the local tier.", sums, only(func(s snap) uint64 { return s.LocalEntries })},
	{"cache.local.size", "By", "About what the entries of the local tier take, where that is bounded; else 0.", sums, only(func(s snap) uint64 { return s.LocalBytes })},

	{"cache.remote.errors", "{operation}", "Operations on Redis that failed.", counts, only(func(s snap) uint64 { return s.RemoteErrors })},
	{"cache.remote.refused", "{operation}", "Operations on Redis that were not begun, since the circuit to it is open.", counts, only(func(s snap) uint64 { return s.RemoteRefused })},
	{"cache.misfits", "{operation}", "Operations on Redis that failed for a reason that does not pass by itself, such as permissions.", counts, only(func(s snap) uint64 { return s.Misfits })},
	{"cache.undecodable_records", "{record}", "Records met in Redis that were damaged or not to be decoded.", counts, only(func(s snap) uint64 { return s.Undecodable })},
	{"cache.breaker.state", "1", "1 for the state that the circuit to Redis is in, 0 for the others.", gauges, []sample{
		breaker(metrics.Closed), breaker(metrics.HalfOpen), breaker(metrics.Open),
	}},
	{"cache.listener.up", "1", "Whether other processes' writes are heard; absent where there is nothing to hear by.", gauges, []sample{{
		value:  func(s snap) uint64 { return one(s.Listener == metrics.Up) },
		absent: func(s snap) bool { return s.Listener == metrics.Closed },
	}}},

	{"cache.write_behind.applied", "{write}", "Queued writes that this process brought to the source.", counts, only(func(s snap) uint64 { return s.Applied })},
	{"cache.write_behind.errors", "{attempt}", "Attempts of that which failed, and will be repeated.", counts, only(func(s snap) uint64 { return s.ApplyErrors })},
	{"cache.write_behind.buried", "{write}", "Queued writes that became dead letters.", counts, only(func(s snap) uint64 { return s.Buried })},
	{"cache.write_behind.backlog", "{write}", "Writes of all processes on their way to the source.", gauges, only(func(s snap) uint64 { return s.Backlog })},
	{"cache.write_behind.dead_letters", "{write}", "Dead letters of all processes.", gauges, only(func(s snap) uint64 { return s.DeadLetters })},
}

func request(tier, result string, value func(snap) uint64) sample {
	return sample{[]attribute.KeyValue{attribute.String("cache.tier", tier), attribute.String("cache.result", result)}, value, nil}
}

func breaker(state metrics.State) sample {
	return of("cache.state", state.String(), func(s snap) uint64 { return one(s.Breaker == state) })
}

func one(is bool) uint64 {
	if is {
		return 1
	}
	return 0
}
