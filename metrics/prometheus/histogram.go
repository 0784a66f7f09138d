package prometheus

import (
	"math"
	"time"

	"github.com/delqhi/cache/metrics"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// bounds are the upper bounds of the classic buckets: powers of two of nanoseconds, where
// the buckets of a metrics.Histogram end, so that the conversion is exact. Below 100 µs,
// where only local hits are, there is one for each factor of four; up to ten seconds,
// one for each factor of two.
var bounds = []time.Duration{
	1 << 6, 1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16,
	1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 1 << 23, 1 << 24, 1 << 25,
	1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30, 1 << 31, 1 << 32, 1 << 33, 1 << 35,
}

// upTo is the bound in seconds. A bucket here includes its bound, and in a
// metrics.Histogram it does not: durations are whole nanoseconds, and the last one of
// the bucket is the bound.
func upTo(bound time.Duration) float64 { return (bound - 1).Seconds() }

func classicBounds() []float64 {
	all := make([]float64, len(bounds))
	for i, b := range bounds {
		all[i] = upTo(b)
	}
	return all
}

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
	sum := h.Sum.Seconds()
	classic := make(map[float64]uint64, len(bounds))
	native := make(map[int]int64)
	var below uint64
	next := 0
	for i, n := range h.Counts {
		if n > 0 {
			native[nativeIndex[i]] += int64(n)
		}
		below += n
		if _, high := metrics.BucketBounds(i); next < len(bounds) && high == bounds[next] {
			classic[upTo(high)] = below
			next++
		}
	}
	// The total is taken from the buckets: during concurrent recording, Count may be of another moment.
	m, err := prometheus.NewConstNativeHistogram(desc, below, sum, native, nil, 0, schema, prometheus.DefNativeHistogramZeroThreshold, time.Time{}, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return histogram{prometheus.MustNewConstHistogram(desc, below, sum, classic, labels...), m}
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
