package stat

import (
	"math"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/percpu"
	"github.com/delqhi/cache/metrics"
)

// ways are all ways to add: on one stripe, or on as many as there are processors.
func ways() map[string]func(*Counter, uint64) {
	crowded := &percpu.Slot{Index: 3} // everyone has the same stripe
	return map[string]func(*Counter, uint64){
		"add":     (*Counter).Add,
		"crowded": func(c *Counter, n uint64) { c.addBy(crowded, n) },
	}
}

func TestCounterIsExactUnderConcurrency(t *testing.T) {
	const goroutines, rounds = 32, 10_000
	for name, add := range ways() {
		var c Counter
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				for range rounds {
					add(&c, uint64(g))
				}
			})
		}
		wg.Wait()
		if got, want := c.Load(), uint64(rounds*goroutines*(goroutines-1)/2); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}

func TestCounterNeverGoesBack(t *testing.T) {
	for name, add := range ways() {
		var c Counter
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						add(&c, 1)
					}
				}
			})
		}
		last := uint64(0)
		for range 2000 {
			now := c.Load()
			if now < last {
				t.Errorf("%s: %d after %d", name, now, last)
				break
			}
			last = now
		}
		close(stop)
		wg.Wait()
	}
}

func TestCellsDoNotShareACacheLine(t *testing.T) {
	if size := reflect.TypeFor[cell]().Size(); size != 64 {
		t.Errorf("a cell has %d bytes", size)
	}
}

func TestHistogramIsExactUnderConcurrency(t *testing.T) {
	const goroutines, rounds = 16, 1000
	var h Histogram
	var want metrics.Histogram
	var mu sync.Mutex
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 0))
			var mine metrics.Histogram
			for i := range rounds {
				d, n := time.Duration(rnd.Int64N(int64(time.Minute))), rnd.Uint64N(3)
				if i%2 == 0 {
					n = 1
					h.Record(d)
				} else {
					h.RecordN(d, n)
				}
				mine.Record(d, n)
				if i%100 == 0 {
					h.Snapshot()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for i, n := range mine.Counts {
				want.Counts[i] += n
			}
			want.Count += mine.Count
			want.Sum += mine.Sum
		})
	}
	wg.Wait()
	if got := h.Snapshot(); got != want {
		t.Errorf("%d durations of %v, want %d of %v", got.Count, got.Sum, want.Count, want.Sum)
	}
}

func TestHistogramTakesAnyDuration(t *testing.T) {
	for _, d := range []time.Duration{math.MinInt64, -1, 0, 1, 50, time.Minute, math.MaxInt64} {
		var h Histogram
		var want metrics.Histogram
		h.Record(d)
		want.Record(d, 1)
		if got := h.Snapshot(); got != want {
			t.Errorf("%v: sum %v, want %v", d, got.Sum, want.Sum)
		}
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	var c Counter
	var h Histogram
	if n := testing.AllocsPerRun(1000, func() { h.Record(time.Millisecond) }); n != 0 {
		t.Errorf("Histogram.Record: %v allocations", n)
	}
	if n := testing.AllocsPerRun(1000, func() { h.RecordN(50, 64) }); n != 0 {
		t.Errorf("Histogram.RecordN: %v allocations", n)
	}
	if raceEnabled() {
		return // sync.Pool then drops what it is given, at random
	}
	if n := testing.AllocsPerRun(1000, func() { c.Add(1) }); n != 0 {
		t.Errorf("Counter.Add: %v allocations", n)
	}
}

// raceEnabled tells by what the detector does to a pool: it drops a quarter.
func raceEnabled() bool {
	var p sync.Pool
	for range 1000 {
		p.Put(new(int))
		if p.Get() == nil {
			return true
		}
	}
	return false
}

func BenchmarkCounter(b *testing.B) {
	for name, add := range ways() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var c Counter
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					add(&c, 1)
				}
			})
		})
	}
}

func BenchmarkHistogram(b *testing.B) {
	b.ReportAllocs()
	var h Histogram
	b.RunParallel(func(pb *testing.PB) {
		for d := time.Duration(0); pb.Next(); d++ {
			h.Record(d)
		}
	})
}
