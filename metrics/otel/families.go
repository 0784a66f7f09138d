package otel

import (
	"slices"
	"time"

	"github.com/delqhi/cache/internal/metrictable"
	"github.com/delqhi/cache/metrics"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// families are all counters and gauges of s; package histogram has the rest.
func families(s *metrics.Snapshot) []metrictable.Metric {
	return slices.DeleteFunc(metrictable.Of(s), func(m metrictable.Metric) bool { return m.Kind == metrictable.Histogram })
}

func instrument(meter metric.Meter, f metrictable.Metric) (metric.Observable, error) {
	unit, help := metric.WithUnit(f.Unit), metric.WithDescription(f.Help)
	switch f.Kind {
	case metrictable.Counter:
		return meter.Int64ObservableCounter(f.OTel, unit, help)
	case metrictable.UpDownCounter:
		return meter.Int64ObservableUpDownCounter(f.OTel, unit, help)
	case metrictable.Seconds:
		return meter.Float64ObservableGauge(f.OTel, unit, help)
	case metrictable.SecondsCounter:
		return meter.Float64ObservableCounter(f.OTel, unit, help)
	default:
		return meter.Int64ObservableGauge(f.OTel, unit, help)
	}
}

// observe passes on the series of f, by the instrument that was made for it.
func observe(o metric.Observer, by metric.Observable, f metrictable.Metric, cache attribute.Set) {
	for _, series := range f.Series {
		attributes := make([]attribute.KeyValue, len(series.Labels))
		for i, value := range series.Labels {
			attributes[i] = attribute.String(f.Labels[i], value)
		}
		options := []metric.ObserveOption{metric.WithAttributeSet(cache), metric.WithAttributes(attributes...)}
		switch by := by.(type) {
		case metric.Int64Observable:
			o.ObserveInt64(by, int64(series.Value), options...)
		case metric.Float64Observable: // a duration
			o.ObserveFloat64(by, time.Duration(series.Value).Seconds(), options...)
		}
	}
}
