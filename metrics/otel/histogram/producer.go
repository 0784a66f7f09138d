// Package histogram gives the latencies of caches to a reader of OpenTelemetry's SDK:
//
//	reader := metric.NewPeriodicReader(exporter, metric.WithProducer(histogram.NewProducer(users, orders)))
//
// It is apart from package otel because it needs the SDK, which programs have and
// libraries should not.
package histogram

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/metrictable"
	"github.com/delqhi/cache/metrics"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Producer produces histograms in seconds, cumulative since they were made: of calls of
// the cache (cache.operation.duration, with cache.operation get, get_many, set and
// delete), of loaders (cache.load.duration) and of operations on Redis
// (cache.remote.duration). It is safe for concurrent use.
type Producer struct {
	caches []metrics.Cache
	began  time.Time
}

var _ metric.Producer = (*Producer)(nil)

// NewProducer returns a Producer of caches, which are distinguished by their names.
func NewProducer(caches ...metrics.Cache) *Producer { return &Producer{caches, time.Now()} }

// families are the histograms of s.
func families(s *metrics.Snapshot) []metrictable.Metric {
	return slices.DeleteFunc(metrictable.Of(s), func(m metrictable.Metric) bool { return m.Kind != metrictable.Histogram })
}

// Produce implements [metric.Producer]. The error is always nil.
func (p *Producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	now := time.Now()
	var all []metricdata.Metrics
	for _, f := range families(new(metrics.Snapshot)) {
		all = append(all, metricdata.Metrics{Name: f.OTel, Description: f.Help, Unit: f.Unit})
	}
	points := make([][]metricdata.HistogramDataPoint[float64], len(all))
	for _, c := range p.caches {
		s := c.Totals()
		name := attribute.String("cache.name", strings.ToValidUTF8(c.Name(), "\uFFFD"))
		for i, f := range families(&s) {
			for _, series := range f.Series {
				attributes := []attribute.KeyValue{name}
				for l, value := range series.Labels {
					attributes = append(attributes, attribute.String(f.Labels[l], value))
				}
				counts, total := metrictable.Buckets(series.Histogram)
				points[i] = append(points[i], metricdata.HistogramDataPoint[float64]{
					Attributes: attribute.NewSet(attributes...), StartTime: p.began, Time: now,
					Count: total, Sum: series.Histogram.Sum.Seconds(), Bounds: metrictable.Bounds(), BucketCounts: counts,
				})
			}
		}
	}
	for i := range all {
		all[i].Data = metricdata.Histogram[float64]{DataPoints: points[i], Temporality: metricdata.CumulativeTemporality}
	}
	return []metricdata.ScopeMetrics{{
		Scope: instrumentation.Scope{Name: "github.com/delqhi/cache/metrics/otel/histogram"}, Metrics: all,
	}}, nil
}
