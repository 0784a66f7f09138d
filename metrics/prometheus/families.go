package prometheus

import (
	"github.com/delqhi/cache/metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// family is a metric of one name.
type family struct {
	desc    *prometheus.Desc
	kind    prometheus.ValueType
	samples []sample
}

// sample is a series of a family, for each cache.
type sample struct {
	labels []string // without the cache's
	value  func(*metrics.Snapshot) uint64
	absent func(*metrics.Snapshot) bool // nil: never
}

type snap = *metrics.Snapshot

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("cache_"+name, help, append([]string{"cache"}, labels...), nil)
}

func counter(name, help string, value func(snap) uint64) family {
	return family{describe(name, help), prometheus.CounterValue, []sample{{value: value}}}
}

func counters(name, help, label string, values ...sample) family {
	return family{describe(name, help, label), prometheus.CounterValue, values}
}

func gauge(name, help string, value func(snap) uint64) family {
	return family{describe(name, help), prometheus.GaugeValue, []sample{{value: value}}}
}

func of(label string, value func(snap) uint64) sample {
	return sample{labels: []string{label}, value: value}
}

// families are all counters and gauges of a Snapshot. No series is the difference of two
// counters, which would go back for a moment while one has moved and the other has not,
// and be taken for a restart.
var families = []family{
	{
		describe("requests_total", "Keys that were asked for, by the tier that answered; a miss has the tier none.", "tier", "result"),
		prometheus.CounterValue,
		[]sample{
			{labels: []string{"local", "hit"}, value: func(s snap) uint64 { return s.LocalHits }},
			{labels: []string{"remote", "hit"}, value: func(s snap) uint64 { return s.RemoteHits }},
			{labels: []string{"none", "miss"}, value: func(s snap) uint64 { return s.Misses() }},
		},
	},
	counter("stale_hits_total", "Hits by a value past its fresh life.", func(s snap) uint64 { return s.StaleHits }),
	counter("absent_hits_total", "Hits by the remembered fact that there is nothing.", func(s snap) uint64 { return s.AbsentHits }),
	counters("misses_total", "Requests that no tier answered, by the reason.", "reason",
		of("absent", func(s snap) uint64 { return s.MissAbsent }),
		of("expired", func(s snap) uint64 { return s.MissExpired }),
		of("undecodable", func(s snap) uint64 { return s.MissUndecodable }),
		of("foreign", func(s snap) uint64 { return s.MissForeign }),
		of("incompatible", func(s snap) uint64 { return s.MissIncompatible }),
		of("unavailable", func(s snap) uint64 { return s.MissUnavailable })),
	counters("shared_loads_total", "Misses that were answered by a load that another request of the process, or another process, had begun.", "scope",
		of("process", func(s snap) uint64 { return s.Coalesced }),
		of("fleet", func(s snap) uint64 { return s.Awaited })),
	counter("unloaded_misses_total", "Misses that ended without a load: no loader, overload, a remembered error, an ended context.", func(s snap) uint64 { return s.Unloaded }),
	counter("stale_covers_total", "Misses answered by a stale value because the load failed or was slow.", func(s snap) uint64 { return s.StaleCovers }),
	counter("fallbacks_total", "Requests that a load answered although Redis could not be asked.", func(s snap) uint64 { return s.Fallbacks }),

	counter("loads_total", "Keys that the source was asked for, and has answered.", func(s snap) uint64 { return s.Loads }),
	counter("refreshes_total", "Of the loads: for no request that waits.", func(s snap) uint64 { return s.Refreshes }),
	counter("load_errors_total", "Of the loads: failed.", func(s snap) uint64 { return s.LoadErrors }),
	counter("load_panics_total", "Of the load errors: panics.", func(s snap) uint64 { return s.LoadPanics }),
	counter("loads_not_found_total", "Of the loads: the source has no such thing.", func(s snap) uint64 { return s.NotFound }),
	counters("unstored_loads_total", "Loaded answers that were not stored: outdated by a write, or not_kept for another reason.", "reason",
		of("outdated", func(s snap) uint64 { return s.Outdated }),
		of("not_kept", func(s snap) uint64 { return s.NotKept })),

	counters("writes_total", "Keys that were written.", "operation",
		of("set", func(s snap) uint64 { return s.Sets }),
		of("delete", func(s snap) uint64 { return s.Deletes })),
	counter("write_errors_total", "Keys that a write returned an error for.", func(s snap) uint64 { return s.WriteErrors }),

	counters("invalidations_total", "Keys, patterns and tags that other processes were told of, or that this one heard of.", "direction",
		of("sent", func(s snap) uint64 { return s.InvalidationsSent }),
		of("received", func(s snap) uint64 { return s.InvalidationsReceived })),
	counter("local_flushes_total", "Times the whole local tier was dropped because messages may have been lost.", func(s snap) uint64 { return s.Flushes }),
	counter("local_evictions_total", "Entries that left the local tier for want of room.", func(s snap) uint64 { return s.Evictions }),
	gauge("local_entries", "Entries in the local tier.", func(s snap) uint64 { return s.LocalEntries }),
	gauge("local_bytes", "About what the entries of the local tier take, where that is bounded; else 0.", func(s snap) uint64 { return s.LocalBytes }),

	counter("remote_errors_total", "Operations on Redis that failed.", func(s snap) uint64 { return s.RemoteErrors }),
	counter("remote_refused_total", "Operations on Redis that were not begun, since the circuit to it is open.", func(s snap) uint64 { return s.RemoteRefused }),
	counter("misfits_total", "Operations on Redis that failed for a reason that does not pass by itself, such as permissions.", func(s snap) uint64 { return s.Misfits }),
	counter("undecodable_records_total", "Records met in Redis that were damaged or not to be decoded.", func(s snap) uint64 { return s.Undecodable }),
	{
		describe("breaker_state", "1 for the state that the circuit to Redis is in, 0 for the others.", "state"),
		prometheus.GaugeValue,
		[]sample{breaker(metrics.Closed), breaker(metrics.HalfOpen), breaker(metrics.Open)},
	},
	{
		describe("listener_up", "Whether other processes' writes are heard; absent where there is nothing to hear by."),
		prometheus.GaugeValue,
		[]sample{{
			value:  func(s snap) uint64 { return one(s.Listener == metrics.Up) },
			absent: func(s snap) bool { return s.Listener == metrics.Closed },
		}},
	},

	counter("write_behind_applied_total", "Queued writes that this process brought to the source.", func(s snap) uint64 { return s.Applied }),
	counter("write_behind_errors_total", "Attempts of that which failed, and will be repeated.", func(s snap) uint64 { return s.ApplyErrors }),
	counter("write_behind_buried_total", "Queued writes that became dead letters.", func(s snap) uint64 { return s.Buried }),
	gauge("write_behind_backlog", "Writes of all processes on their way to the source.", func(s snap) uint64 { return s.Backlog }),
	gauge("write_behind_dead_letters", "Dead letters of all processes.", func(s snap) uint64 { return s.DeadLetters }),
}

func breaker(state metrics.State) sample {
	return of(state.String(), func(s snap) uint64 { return one(s.Breaker == state) })
}

func one(is bool) uint64 {
	if is {
		return 1
	}
	return 0
}

func (f *family) collect(cache string, s snap, out chan<- prometheus.Metric) {
	for _, sample := range f.samples {
		if sample.absent != nil && sample.absent(s) {
			continue
		}
		labels := append([]string{cache}, sample.labels...)
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, float64(sample.value(s)), labels...)
	}
}

// latency is a metric of durations.
type latency struct {
	desc    *prometheus.Desc
	samples []timed
}

type timed struct {
	labels []string // without the cache's
	value  func(snap) *metrics.Histogram
	gauge  func(snap) float64 // instead
}

// latencies are all fields of a Snapshot in units of time.
var latencies = []latency{
	{
		describe("operation_duration_seconds", "How long calls of the cache take; of local hits, a sample that stands for all.", "operation"),
		[]timed{
			{labels: []string{"get"}, value: func(s snap) *metrics.Histogram { return &s.Get }},
			{labels: []string{"get_many"}, value: func(s snap) *metrics.Histogram { return &s.GetMany }},
			{labels: []string{"set"}, value: func(s snap) *metrics.Histogram { return &s.Set }},
			{labels: []string{"delete"}, value: func(s snap) *metrics.Histogram { return &s.Delete }},
		},
	},
	{
		describe("load_duration_seconds", "How long calls of loaders take."),
		[]timed{{value: func(s snap) *metrics.Histogram { return &s.Load }}},
	},
	{
		describe("remote_duration_seconds", "How long operations on Redis take, a batch being one."),
		[]timed{{value: func(s snap) *metrics.Histogram { return &s.Remote }}},
	},
	{
		describe("write_behind_backlog_age_seconds", "How long ago the oldest write that is on its way to the source was queued."),
		[]timed{{gauge: func(s snap) float64 { return s.BacklogAge.Seconds() }}},
	},
}

func (l *latency) collect(cache string, s snap, out chan<- prometheus.Metric) {
	for _, t := range l.samples {
		labels := append([]string{cache}, t.labels...)
		if t.gauge != nil {
			out <- prometheus.MustNewConstMetric(l.desc, prometheus.GaugeValue, t.gauge(s), labels...)
			continue
		}
		out <- newHistogram(l.desc, t.value(s), labels)
	}
}
