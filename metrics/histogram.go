package metrics

import (
	"encoding/json"
	"log/slog"
	"math"
	"math/bits"
	"time"
)

// The buckets of a Histogram are linear within each power of two: eight equal ones. The first
// bucket is for durations below the resolution of clocks, the last for those that should not
// happen.
const (
	subBits   = 3
	minBits   = 4  // durations below 16 ns share the first bucket
	limitBits = 36 // durations from 68.7 s share the last

	// Buckets is the number of buckets of a [Histogram].
	Buckets = (limitBits-minBits)<<subBits + 2
)

// Histogram is a distribution of durations, from below 16 ns up to 68.7 s and
// more, exact to an eighth of a power of two: a [Histogram.Quantile] is off by at
// most 6.25 % within that range. The zero value is empty. It is a plain value of
// about 2 KiB, comparable with ==, and not safe for use by a goroutine that
// changes it and another.
type Histogram struct {
	Count  uint64          // the number of durations
	Sum    time.Duration   // of all of them, exact until it wraps after 292 years
	Counts [Buckets]uint64 // by bucket, see [BucketOf]; they add up to Count
}

var (
	_ slog.LogValuer = Histogram{}
	_ json.Marshaler = Histogram{}
)

// BucketOf returns the index of the bucket that counts d. Negative durations are
// in the first.
func BucketOf(d time.Duration) int {
	if d < 1<<minBits {
		return 0
	}
	if d >= 1<<limitBits {
		return Buckets - 1
	}
	exp := bits.Len64(uint64(d)) - 1
	sub := int(d>>(exp-subBits)) & (1<<subBits - 1)
	return 1 + (exp-minBits)<<subBits + sub
}

// BucketBounds returns the durations of bucket i: from low, up to but without
// high. The last bucket has no end; high is the greatest Duration then. Without
// such a bucket both are 0.
func BucketBounds(i int) (low, high time.Duration) {
	switch {
	case i < 0 || i >= Buckets:
		return 0, 0
	case i == 0:
		return 0, 1 << minBits
	case i == Buckets-1:
		return 1 << limitBits, math.MaxInt64
	}
	exp := minBits + (i-1)>>subBits
	sub := (i - 1) & (1<<subBits - 1)
	width := time.Duration(1) << (exp - subBits)
	low = time.Duration(1)<<exp + time.Duration(sub)*width
	return low, low + width
}

// Record adds d, n times. A negative d counts as 0.
func (h *Histogram) Record(d time.Duration, n uint64) {
	d = max(d, 0)
	h.Count += n
	h.Sum += d * time.Duration(n)
	h.Counts[BucketOf(d)] += n
}

// Mean returns the average, exact; 0 if it is empty.
func (h Histogram) Mean() time.Duration {
	if h.Count == 0 {
		return 0
	}
	return time.Duration(uint64(h.Sum) / h.Count)
}

// Quantile returns the duration that the fraction q of all durations does not exceed: 0.5 is
// the median, 0.99 the 99th percentile. It is the middle of its bucket, or the beginning of the
// last one, which has no end. q below 0 counts as 0, above 1 as 1. It is 0 if the histogram is
// empty, or q is NaN.
func (h Histogram) Quantile(q float64) time.Duration {
	if h.Count == 0 || math.IsNaN(q) {
		return 0
	}
	q = min(max(q, 0), 1)
	rank := max(uint64(math.Ceil(q*float64(h.Count))), 1)
	last := 0
	var seen uint64
	for i, n := range h.Counts {
		if n == 0 {
			continue
		}
		last = i
		if seen += n; seen >= rank {
			break
		}
	}
	low, high := BucketBounds(last)
	if last == Buckets-1 {
		return low
	}
	return low + (high-low)/2
}

// Sub returns what was recorded since earlier, a snapshot of the same histogram.
// If earlier has more in any bucket the histogram was reset in between, and all of
// h is newer.
func (h Histogram) Sub(earlier Histogram) Histogram {
	for i, n := range earlier.Counts {
		if n > h.Counts[i] {
			return h
		}
	}
	for i, n := range earlier.Counts {
		h.Counts[i] -= n
	}
	h.Count -= earlier.Count
	h.Sum -= earlier.Sum
	return h
}

// LogValue is the count, the mean and three quantiles.
func (h Histogram) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Uint64("count", h.Count),
		slog.Duration("mean", h.Mean()),
		slog.Duration("p50", h.Quantile(0.50)),
		slog.Duration("p95", h.Quantile(0.95)),
		slog.Duration("p99", h.Quantile(0.99)))
}

// MarshalJSON writes the count, and the sum, mean and three quantiles in nanoseconds, for
// readers and package expvar. It can't be unmarshaled.
func (h Histogram) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Count uint64        `json:"count"`
		Sum   time.Duration `json:"sum_ns"`
		Mean  time.Duration `json:"mean_ns"`
		P50   time.Duration `json:"p50_ns"`
		P95   time.Duration `json:"p95_ns"`
		P99   time.Duration `json:"p99_ns"`
	}{h.Count, h.Sum, h.Mean(), h.Quantile(0.50), h.Quantile(0.95), h.Quantile(0.99)})
}
