package metrictable

import (
	"time"

	"github.com/delqhi/cache/metrics"
)

// bounds are the upper bounds of the buckets that exporters show: powers of two of nanoseconds,
// where the buckets of a metrics.Histogram end, so that the conversion is exact. Below 100 µs,
// where only local hits are, there is one for each factor of four; up to ten seconds, one for
// each factor of two.
var bounds = []time.Duration{
	1 << 6, 1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16,
	1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 1 << 23, 1 << 24, 1 << 25,
	1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30, 1 << 31, 1 << 32, 1 << 33, 1 << 35,
}

// Bounds returns the upper bounds of [Buckets] in seconds. In Prometheus and OpenTelemetry a
// bucket includes its bound, and in a metrics.Histogram it does not: durations are whole
// nanoseconds, and the last one of the bucket is the bound.
func Bounds() []float64 {
	all := make([]float64, len(bounds))
	for i, b := range bounds {
		all[i] = (b - 1).Seconds()
	}
	return all
}

// Buckets returns how many durations are up to each of [Bounds], without those up to the one
// before, and last how many are above all of them; and their total, which during concurrent
// recording may differ from h.Count, that being of another moment.
func Buckets(h *metrics.Histogram) (counts []uint64, total uint64) {
	counts = make([]uint64, len(bounds)+1)
	bucket := 0
	for i, n := range h.Counts {
		counts[bucket] += n
		total += n
		if _, high := metrics.BucketBounds(i); bucket < len(bounds) && high == bounds[bucket] {
			bucket++
		}
	}
	return counts, total
}
