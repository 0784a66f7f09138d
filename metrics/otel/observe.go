package otel

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/delqhi/cache/internal/metrictable"
	"github.com/delqhi/cache/metrics"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// Observe registers the counters and gauges of caches with a provider of meters; nil stands for
// the global one. The names of the caches must differ, also from those of earlier calls,
// because they distinguish the series. Unregister of the result removes them again; a cache
// that is closed may stay, its counters no longer change. The counters do not go back when a
// program calls ResetMetrics.
func Observe(meters metric.MeterProvider, caches ...metrics.Cache) (metric.Registration, error) {
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	attributes := make([]attribute.Set, len(caches))
	seen := make(map[string]bool, len(caches))
	for i, c := range caches {
		if c == nil {
			return nil, errors.New("cache: metrics for OpenTelemetry: a cache is nil")
		}
		if name := c.Name(); seen[name] {
			return nil, fmt.Errorf("cache: metrics for OpenTelemetry: there are two caches of the name %q", name)
		}
		seen[c.Name()] = true
		attributes[i] = attribute.NewSet(named(c.Name()))
	}
	meter := meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	instruments, err := instrumentsOf(meter, families(new(metrics.Snapshot)))
	if err != nil {
		return nil, err
	}
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for i, c := range caches {
			s := c.Totals()
			for n, f := range families(&s) {
				observe(o, instruments[n], f, attributes[i])
			}
		}
		return nil
	}, instruments...)
}

// ObserveRelays registers the counters and gauges of relays of the module outbox, as [Observe] those
// of caches. What several relays of a process have counted of one cache is added up.
func ObserveRelays(meters metric.MeterProvider, relays ...metrics.Relay) (metric.Registration, error) {
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	if slices.Contains(relays, nil) {
		return nil, errors.New("cache: metrics for OpenTelemetry: a relay is nil")
	}
	meter := meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	instruments, err := instrumentsOf(meter, metrictable.OfOutbox(new(metrics.Outbox)))
	if err != nil {
		return nil, err
	}
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, outbox := range metrictable.Outboxes(relays) {
			attributes := attribute.NewSet(named(outbox.Cache))
			for n, f := range metrictable.OfOutbox(&outbox) {
				observe(o, instruments[n], f, attributes)
			}
		}
		return nil
	}, instruments...)
}

func instrumentsOf(meter metric.Meter, table []metrictable.Metric) (instruments []metric.Observable, err error) {
	var errs []error
	for _, f := range table {
		in, err := instrument(meter, f)
		instruments, errs = append(instruments, in), append(errs, err)
	}
	return instruments, errors.Join(errs...)
}
