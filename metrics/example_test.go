package metrics_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/metrics"
)

// slowLoads counts loads of more than a second.
type slowLoads struct {
	metrics.Discard // for what it does not care about
	n               atomic.Int64
}

func (s *slowLoads) StartLoad(ctx context.Context, e metrics.LoadEvent) (context.Context, func(metrics.LoadResult)) {
	return ctx, func(r metrics.LoadResult) {
		if r.Duration > time.Second {
			s.n.Add(1)
		}
	}
}

func ExampleRecorder() {
	var slow slowLoads
	var r metrics.Recorder = &slow // given to cache.WithRecorder
	for _, d := range []time.Duration{time.Millisecond, 2 * time.Second} {
		_, end := r.StartLoad(context.Background(), metrics.LoadEvent{Cache: "users", Keys: 1})
		end(metrics.LoadResult{Duration: d, Found: 1})
	}
	fmt.Println(slow.n.Load())
	// Output: 1
}

// What happened in the last interval.
func ExampleSnapshot_Sub() {
	before := metrics.Snapshot{LocalHits: 900, MissAbsent: 100} // cache.Metrics()
	after := metrics.Snapshot{LocalHits: 950, MissAbsent: 150}  // a minute later
	last := after.Sub(before)
	fmt.Printf("%.0f %% of %d, over all %.0f %%\n", 100*last.HitRate(), last.Requests(), 100*after.HitRate())
	// Output: 50 % of 100, over all 86 %
}

func ExampleHistogram() {
	var h metrics.Histogram
	h.Record(50*time.Nanosecond, 90) // ninety local hits
	h.Record(400*time.Microsecond, 10)
	fmt.Println(h.Count, h.Mean(), h.Quantile(0.5), h.Quantile(0.99))
	// Output: 100 40.045µs 50ns 409.6µs
}
