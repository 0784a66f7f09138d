package prometheus

import (
	"math"
	"time"

	"github.com/delqhi/cache/internal/metrictable"
	"github.com/delqhi/cache/metrics"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// schema is that of the native histograms: eight buckets for each factor of two, as many
// as a metrics.Histogram has. Since theirs are powers of 2^⅛ of a second, each of the
// latter's goes where its middle is: off by 6 % at most, and always to the same place, so
// that no bucket ever shrinks.
const schema = 3

// nativeIndex has the native bucket of each bucket of a metrics.Histogram.
var nativeIndex = func() (index [metrics.Buckets]int) {
	for i := range index {
		low, high := metrics.BucketBounds(i)
		if i == metrics.Buckets-1 {
			high = low // it has no end
		}
		index[i] = int(math.Ceil(math.Log2((low + (high-low)/2).Seconds()) * (1 << schema)))
	}
	return index
}()

// histogram is a metric that is a classic and a native histogram at once. A format that
// supports only one of them ignores the other.
type histogram struct {
	prometheus.Metric // the classic one
	native            prometheus.Metric
}

func newHistogram(desc *prometheus.Desc, h *metrics.Histogram, labels []string) prometheus.Metric {
	native := make(map[int]int64)
	for i, n := range h.Counts {
		if n > 0 {
			native[nativeIndex[i]] += int64(n)
		}
	}
	counts, total := metrictable.Buckets(h)
	classic := make(map[float64]uint64, len(counts))
	var below uint64
	for i, bound := range metrictable.Bounds() {
		below += counts[i]
		classic[bound] = below
	}
	sum := h.Sum.Seconds()
	m, err := prometheus.NewConstNativeHistogram(desc, total, sum, native, nil, 0, schema, prometheus.DefNativeHistogramZeroThreshold, time.Time{}, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return histogram{prometheus.MustNewConstHistogram(desc, total, sum, classic, labels...), m}
}

// Write implements [prometheus.Metric].
func (h histogram) Write(out *dto.Metric) error {
	if err := h.native.Write(out); err != nil {
		return err
	}
	var classic dto.Metric
	if err := h.Metric.Write(&classic); err != nil {
		return err
	}
	out.Histogram.Bucket = classic.Histogram.Bucket
	return nil
}
