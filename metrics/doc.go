// Package metrics says what a cache counts and measures.
//
// A [Snapshot] is what cache.Metrics returns: counters since the start, a few
// gauges, and a latency [Histogram] for each kind of operation. Its counters add
// up; the equations stand on the type. The difference of two snapshots is what
// happened between them, see [Snapshot.Sub].
//
// To show caches elsewhere there are package expvar beside this one, and the modules
// metrics/prometheus and metrics/otel; all take any [Cache].
//
// Recording is cheap: a local hit adds to one counter, without allocating, and every
// 256th or so is measured. What that costs, BenchmarkRecording of package cache says.
//
// A [Recorder] is told of events as they happen, to hand them on to a monitoring
// system or to trace them: loads, remote operations and changes of state. It is
// never told of local hits, which cost less than telling would. No event contains
// a key, a value or the text of an error, so that nothing of them can end in a
// label.
package metrics
