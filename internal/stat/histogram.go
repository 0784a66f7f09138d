package stat

import (
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/metrics"
)

// Histogram is a [metrics.Histogram] that any number of goroutines record in. It
// is not sharded: operations that are measured one by one last microseconds, and
// local hits are sampled. It must not be copied after its first use.
type Histogram struct {
	counts [metrics.Buckets]atomic.Uint64
	sum    atomic.Int64 // ns; wraps as metrics.Histogram.Sum does
}

// Record adds d. A negative d counts as 0.
func (h *Histogram) Record(d time.Duration) { h.RecordN(d, 1) }

// RecordN adds d n times: the weight of a sample that stands for n operations.
func (h *Histogram) RecordN(d time.Duration, n uint64) {
	d = max(d, 0)
	h.counts[metrics.BucketOf(d)].Add(n)
	h.sum.Add(int64(d) * int64(n))
}

// Snapshot returns what was recorded. While others record, its sum may belong to
// a few durations more or less than its count.
func (h *Histogram) Snapshot() metrics.Histogram {
	var s metrics.Histogram
	for i := range h.counts {
		n := h.counts[i].Load()
		s.Counts[i] = n
		s.Count += n
	}
	s.Sum = time.Duration(h.sum.Load())
	return s
}
