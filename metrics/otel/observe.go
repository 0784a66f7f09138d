package otel

import (
	"context"
	"errors"
	"fmt"

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
	var instruments []metric.Observable
	var errs []error
	for _, f := range families(new(metrics.Snapshot)) {
		in, err := instrument(meter, f)
		instruments, errs = append(instruments, in), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
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
