// Package metrics defines what a cache counts and measures.
//
// A [Snapshot] is what cache.Metrics returns: counters since the start, a few
// gauges, and a latency [Histogram] for each kind of operation. Its counters add
// up; the equations stand on the type. The difference of two snapshots is what
// happened between them, see [Snapshot.Sub].
//
// Exporters are package expvar beside this one, and the modules
// metrics/prometheus and metrics/otel; all take any [Cache].
//
// Recording is cheap: a local hit adds to one counter, without allocating, and about one in 256
// is timed. BenchmarkRecording of package cache measures the cost.
//
// A [Recorder] receives events as they happen, to pass them on to a monitoring system or to
// trace them: loads, remote operations and changes of state. It receives no local hits, which
// cost less than the call would. No event contains a key, a value or the text of an error (of
// a server's error, its first word, such as OOM), so that none of them can end up in a label.
package metrics
