// Package histogram gives the latencies of caches to a reader of OpenTelemetry's SDK:
//
//	reader := metric.NewPeriodicReader(exporter, metric.WithProducer(histogram.NewProducer(users, orders)))
//
// It is apart from package otel because it needs the SDK, which programs have and
// libraries should not.
package histogram

import (
	"context"
	"strings"
	"time"

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

// bounds are the upper bounds of the buckets: powers of two of nanoseconds, where the
// buckets of a metrics.Histogram end, so that the conversion is exact. Below 100 µs, where
// only local hits are, there is one for each factor of four; up to ten seconds, one for
// each factor of two.
var bounds = []time.Duration{
	1 << 6, 1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16,
	1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 1 << 23, 1 << 24, 1 << 25,
	1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30, 1 << 31, 1 << 32, 1 << 33, 1 << 35,
}

// upTo is a bound in seconds. A bucket in OpenTelemetry includes its bound, and in a
// metrics.Histogram it does not: durations are whole nanoseconds, and the last one of the
// bucket is the bound.
func upTo(bound time.Duration) float64 { return (bound - 1).Seconds() }

type family struct {
	name, help string
	samples    []sample
}

type sample struct {
	operation string // "": no such attribute
	value     func(*metrics.Snapshot) *metrics.Histogram
}

var families = []family{
	{"cache.operation.duration", "How long calls of the cache take; of local hits, a sample that stands for all.", []sample{
		{"get", func(s *metrics.Snapshot) *metrics.Histogram { return &s.Get }},
		{"get_many", func(s *metrics.Snapshot) *metrics.Histogram { return &s.GetMany }},
		{"set", func(s *metrics.Snapshot) *metrics.Histogram { return &s.Set }},
		{"delete", func(s *metrics.Snapshot) *metrics.Histogram { return &s.Delete }},
	}},
	{"cache.load.duration", "How long calls of loaders take.", []sample{
		{"", func(s *metrics.Snapshot) *metrics.Histogram { return &s.Load }},
	}},
	{"cache.remote.duration", "How long operations on Redis take, a batch being one.", []sample{
		{"", func(s *metrics.Snapshot) *metrics.Histogram { return &s.Remote }},
	}},
}

// Produce implements [metric.Producer]. The error is always nil.
func (p *Producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	now := time.Now()
	points := make([][]metricdata.HistogramDataPoint[float64], len(families))
	for _, c := range p.caches {
		s := c.Totals()
		name := attribute.String("cache.name", strings.ToValidUTF8(c.Name(), "\uFFFD"))
		for i, f := range families {
			for _, sample := range f.samples {
				attributes := []attribute.KeyValue{name}
				if sample.operation != "" {
					attributes = append(attributes, attribute.String("cache.operation", sample.operation))
				}
				point := convert(sample.value(&s))
				point.Attributes, point.StartTime, point.Time = attribute.NewSet(attributes...), p.began, now
				points[i] = append(points[i], point)
			}
		}
	}
	all := make([]metricdata.Metrics, len(families))
	for i, f := range families {
		all[i] = metricdata.Metrics{Name: f.name, Description: f.help, Unit: "s", Data: metricdata.Histogram[float64]{
			DataPoints: points[i], Temporality: metricdata.CumulativeTemporality,
		}}
	}
	return []metricdata.ScopeMetrics{{
		Scope: instrumentation.Scope{Name: "github.com/delqhi/cache/metrics/otel/histogram"}, Metrics: all,
	}}, nil
}

func convert(h *metrics.Histogram) metricdata.HistogramDataPoint[float64] {
	p := metricdata.HistogramDataPoint[float64]{
		Bounds: make([]float64, len(bounds)), BucketCounts: make([]uint64, len(bounds)+1), Sum: h.Sum.Seconds(),
	}
	for i, b := range bounds {
		p.Bounds[i] = upTo(b)
	}
	bucket := 0
	for i, n := range h.Counts {
		p.BucketCounts[bucket] += n
		p.Count += n // during concurrent recording, h.Count may be of another moment
		if _, high := metrics.BucketBounds(i); bucket < len(bounds) && high == bounds[bucket] {
			bucket++
		}
	}
	return p
}
