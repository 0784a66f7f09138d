package histogram

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/metrictable"
	"github.com/delqhi/cache/metrics"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

type fixed struct{ s metrics.Snapshot }

func (fixed) Name() string               { return "users" }
func (f fixed) Totals() metrics.Snapshot { return f.s }

// Every duration is in the bucket that it belongs to, also at its bounds.
func TestEveryDurationIsInItsBucket(t *testing.T) {
	var durations []time.Duration
	for _, bound := range metrictable.Bounds() {
		b := time.Duration(math.Round(bound*1e9)) + 1
		durations = append(durations, b-1, b, b+b/3)
	}
	durations = append(durations, 0, time.Hour)
	var s metrics.Snapshot
	for _, d := range durations {
		s.Load.Record(d, 2)
	}
	reader := metric.NewManualReader(metric.WithProducer(NewProducer(fixed{s})))
	metric.NewMeterProvider(metric.WithReader(reader))
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	all := rm.ScopeMetrics[0].Metrics
	i := slices.IndexFunc(all, func(m metricdata.Metrics) bool { return m.Name == "cache.load.duration" })
	h := all[i].Data.(metricdata.Histogram[float64])
	p := h.DataPoints[0]
	if h.Temporality != metricdata.CumulativeTemporality || all[i].Unit != "s" || p.Count != uint64(2*len(durations)) || p.Sum != s.Load.Sum.Seconds() {
		t.Errorf("%v, unit %q, %d durations of %v s", h.Temporality, all[i].Unit, p.Count, p.Sum)
	}
	want := make([]uint64, len(p.Bounds)+1)
	for _, d := range durations {
		at, _ := slices.BinarySearch(p.Bounds, d.Seconds()) // a bound belongs to the bucket below it
		want[at] += 2
	}
	if !slices.Equal(p.BucketCounts, want) {
		t.Errorf("got  %v\nwant %v", p.BucketCounts, want)
	}
}
