package otel

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/delqhi/cache/metrics"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"
	"go.opentelemetry.io/otel/trace"
)

// scope is the name of the instrumentation scope.
const scope = "github.com/delqhi/cache/metrics/otel"

// Recorder makes spans and records what happens. One is enough for any number of caches.
type Recorder struct {
	tracer  trace.Tracer
	loads   metric.Float64Histogram
	active  metric.Int64UpDownCounter
	remote  dbconv.ClientOperationDuration
	changes metric.Int64Counter
}

var _ metrics.RefreshRecorder = (*Recorder)(nil)

// NewRecorder returns a Recorder that traces and measures with these providers. nil stands for
// the global one. The error is that of an instrument that could not be created.
func NewRecorder(tracers trace.TracerProvider, meters metric.MeterProvider) (*Recorder, error) {
	if tracers == nil {
		tracers = otel.GetTracerProvider()
	}
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	meter := meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	r := &Recorder{tracer: tracers.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))}
	var errs [4]error
	seconds, bounds := metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(bounds...)
	r.loads, errs[0] = meter.Float64Histogram("cache.load.call.duration", seconds, bounds,
		metric.WithDescription("How long calls of loaders take, by what they are for and their outcome."))
	r.active, errs[1] = meter.Int64UpDownCounter("cache.load.active", metric.WithUnit("{call}"),
		metric.WithDescription("Calls of loaders under way."))
	r.remote, errs[2] = dbconv.NewClientOperationDuration(meter, metric.WithExplicitBucketBoundaries(durationBounds...))
	r.changes, errs[3] = meter.Int64Counter("cache.state.changes", metric.WithUnit("{change}"),
		metric.WithDescription("Changes of state of a part of the cache, by the new state."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return r, nil
}

// bounds are those of the duration of loads, in seconds: from microseconds, in memory, to a
// minute.
var bounds = []float64{
	1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
}

// text makes a valid attribute value of any text.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func named(cache string) attribute.KeyValue { return attribute.String("cache.name", text(cache)) }

func ended(o metrics.Outcome) attribute.KeyValue {
	return attribute.String("cache.outcome", o.String())
}

// failed reports whether work has failed. What was canceled, because no caller waited for it any
// more, has not.
func failed(o metrics.Outcome) bool { return o != metrics.Succeeded && o != metrics.Canceled }

// fail marks the span of a load or a refresh that has failed.
func fail(span trace.Span, o metrics.Outcome) {
	if failed(o) {
		span.SetStatus(codes.Error, o.String())
		span.SetAttributes(semconv.ErrorTypeKey.String(o.String()))
	}
}

// StartLoad implements [metrics.Recorder].
func (r *Recorder) StartLoad(ctx context.Context, load metrics.LoadEvent) (context.Context, func(metrics.LoadResult)) {
	purpose := "request"
	if load.Refresh {
		purpose = "refresh"
	}
	name, what := named(load.Cache), attribute.String("cache.load.purpose", purpose)
	began := ctx
	r.active.Add(ctx, 1, metric.WithAttributes(name))
	ctx, span := r.tracer.Start(ctx, "load "+text(load.Cache),
		trace.WithAttributes(name, what, attribute.Int("cache.load.keys", load.Keys)))
	return ctx, func(res metrics.LoadResult) {
		r.active.Add(began, -1, metric.WithAttributes(name))
		r.loads.Record(ctx, res.Duration.Seconds(), metric.WithAttributes(name, what, ended(res.Outcome)))
		span.SetAttributes(ended(res.Outcome), attribute.Int("cache.load.found", res.Found), attribute.Int("cache.load.not_found", res.NotFound))
		fail(span, res.Outcome)
		span.End()
	}
}

// StartRefresh implements [metrics.RefreshRecorder].
func (r *Recorder) StartRefresh(ctx, caller context.Context, refresh metrics.RefreshEvent) (context.Context, func(metrics.Outcome)) {
	options := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithAttributes(named(refresh.Cache))}
	if reader := trace.SpanContextFromContext(caller); reader.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: reader}))
	}
	ctx, span := r.tracer.Start(ctx, "refresh "+text(refresh.Cache), options...)
	return ctx, func(o metrics.Outcome) {
		span.SetAttributes(ended(o))
		if o != metrics.Refused { // another process is refreshing it, which is no failure
			fail(span, o)
		}
		span.End()
	}
}

// RemoteOperation implements [metrics.Recorder].
func (r *Recorder) RemoteOperation(ctx context.Context, op metrics.RemoteEvent) {
	attributes := database(op)
	r.remote.RecordSet(ctx, op.Duration.Seconds(), attribute.NewSet(attributes...))
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	if op.Commands > 1 {
		attributes = append(attributes, semconv.DBOperationBatchSize(op.Commands))
	}
	end := time.Now()
	_, span := r.tracer.Start(ctx, spanName(op), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithTimestamp(end.Add(-op.Duration)), trace.WithAttributes(attributes...))
	if failed(op.Outcome) {
		span.SetStatus(codes.Error, op.Outcome.String())
	}
	span.End(trace.WithTimestamp(end))
}

// StateChange implements [metrics.Recorder].
func (r *Recorder) StateChange(change metrics.StateEvent) {
	r.changes.Add(context.Background(), 1, metric.WithAttributes(named(change.Cache),
		attribute.String("cache.part", change.Part.String()), attribute.String("cache.state", change.State.String())))
}
