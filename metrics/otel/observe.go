package otel

import (
	"context"
	"errors"
	"fmt"

	"github.com/delqhi/cache/metrics"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
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
	meter := meters.Meter(scope)
	var instruments []metric.Observable
	var observers []func(metric.Observer, *metrics.Snapshot, attribute.Set)
	var errs []error
	for _, f := range families {
		in, err := f.instrument(meter)
		errs = append(errs, err)
		instruments = append(instruments, in)
		observers = append(observers, func(o metric.Observer, s *metrics.Snapshot, cache attribute.Set) {
			for _, sample := range f.samples {
				if sample.absent == nil || !sample.absent(s) {
					o.ObserveInt64(in, int64(sample.value(s)), metric.WithAttributeSet(cache), metric.WithAttributes(sample.attributes...))
				}
			}
		})
	}
	age, err := meter.Float64ObservableGauge("cache.write_behind.backlog_age", metric.WithUnit("s"),
		metric.WithDescription("How long ago the oldest write that is on its way to the source was queued."))
	instruments = append(instruments, age)
	observers = append(observers, func(o metric.Observer, s *metrics.Snapshot, cache attribute.Set) {
		o.ObserveFloat64(age, s.BacklogAge.Seconds(), metric.WithAttributeSet(cache))
	})
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for i, c := range caches {
			s := c.Totals()
			for _, observe := range observers {
				observe(o, &s, attributes[i])
			}
		}
		return nil
	}, instruments...)
}
