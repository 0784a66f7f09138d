package e2e_test

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
)

// BenchmarkPropagation measures how long it takes from the acknowledgement of a write
// until the last of three other nodes has dropped what it had.
func BenchmarkPropagation(b *testing.B) {
	redistest.Require(b)
	for _, transport := range []string{"broadcast", "tracking", "keys"} {
		for _, key := range []string{"set", "invalidate", "tag"} {
			b.Run(transport+"/"+key, func(b *testing.B) {
				s := redistest.Start(b)
				w := newWorld(b)
				writer := w.node(s.Client(b), transports[transport]...)
				var readers []*cache.Cache[string, int64]
				for range 3 {
					readers = append(readers, w.node(s.Client(b), transports[transport]...))
				}
				ctx := b.Context()
				var took []time.Duration
				for b.Loop() {
					for _, r := range readers { // into its local tier
						if _, err := r.Get(ctx, key); err != nil {
							b.Fatal(err)
						}
					}
					n, err := w.write(ctx, writer, key)
					if err != nil {
						b.Fatal(err)
					}
					acked := time.Now()
					for _, r := range readers {
						for {
							v, err := r.Get(ctx, key)
							if err != nil {
								b.Fatal(err)
							}
							if v == n {
								break
							}
							runtime.Gosched()
						}
					}
					took = append(took, time.Since(acked))
				}
				slices.Sort(took)
				at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000 }
				b.ReportMetric(at(0.5), "p50-ms")
				b.ReportMetric(at(0.99), "p99-ms")
			})
		}
	}
}
