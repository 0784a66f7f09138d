// Package otel exports the metrics of caches to OpenTelemetry, and traces them.
//
// [Observe] registers instruments that read what caches have counted when a reader
// collects, so that they cost the hot paths nothing:
//
//	registration, err := otel.Observe(meterProvider, users, orders)
//
// A [Recorder], which caches get by cache.WithRecorder, makes spans and measures what can be
// observed only as it happens. Its spans are
//
//	load users       internal: a call of a loader, a child of the span of the request that
//	                 began the load; the loader's own spans are its children
//	refresh users    internal: an entry loaded anew behind a reader's back. It outlives
//	                 the reader and therefore begins a trace of its own, which is linked to
//	                 the reader's span
//	redis get        client: an operation on Redis within a trace; without one it does
//	                 not begin a trace
//
// Histograms can't be observed in OpenTelemetry: those of a Snapshot are given to the
// reader itself, by package histogram.
//
// Metrics and spans have the attribute cache.name. The others have few values, and none
// contains a key, a tag or the text of an error. Durations are in seconds. There are no
// semantic conventions for caches; what concerns Redis follows those for databases.
package otel
