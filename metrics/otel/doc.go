// Package otel exports the metrics of caches to OpenTelemetry, and traces them.
//
// [Observe] registers instruments that read what caches have counted when a reader
// collects, so that they cost the hot paths nothing:
//
//	registration, err := otel.Observe(meterProvider, users, orders)
//
// [ObserveRelays] does so for relays of the module outbox.
//
// A [Recorder], which caches get by cache.WithRecorder, makes spans and measures what can be
// observed only as it happens. Its spans are
//
//	load users       internal: a call of a loader, a child of the span of the request that
//	                 began the load; the loader's own spans are its children
//	refresh users    internal: an entry loaded anew behind a reader's back. It outlives
//	                 the reader and therefore begins a trace of its own, which is linked to
//	                 the reader's span
//	evalsha set      client: an operation on Redis within a trace; without one it does
//	                 not begin a trace
//
// Histograms can't be observed in OpenTelemetry: those of a Snapshot are given to the
// reader itself, by package histogram.
//
// Metrics and spans have the attribute cache.name. The others have few values, and none
// contains a key, a tag or the text of an error. Durations are in seconds.
//
// There are no semantic conventions for caches. What concerns Redis follows those for databases,
// in version 1.43.0, in which spans and the metric db.client.operation.duration have
//
//	db.system.name            "redis"
//	db.operation.name         the command as go-redis sends it, such as "get", "mget" or
//	                          "evalsha"; of a pipeline "PIPELINE evalsha", or "PIPELINE" if its
//	                          commands differ; what is no command has the cache's name for it
//	db.stored_procedure.name  which script an "evalsha" runs, such as "compare_and_set"
//	db.operation.batch.size   how many commands a pipeline has, on spans; an MGET of many keys is
//	                          one command and has none
//	db.namespace              the number of the database that the client was configured with
//	server.address            the servers in the client's configuration, sorted and separated by
//	                          commas; none if the client has asked sentinels
//	server.port               their port, unless it is 6379; different ones are in the address
//	error.type                if it failed: the first word of the server's error, such as "OOM",
//	                          or the outcome: "failed", "timed-out" or "refused"
//	db.response.status_code   that word
//
// What the cache does by an operation, such as "set_nx", is in cache.operation, and how it ended
// in cache.outcome. What several callers ask for at the same time may share a pipeline: an
// operation is the part of one caller. A program that instruments go-redis as well sees each
// round trip a second time, from below.
package otel
