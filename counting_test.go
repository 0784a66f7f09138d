package cache

import (
	"context"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/strategy"
)

// hitUncounted is Cache.hit without the counting.
func (c *Cache[K, V]) hitUncounted(key K) (v V, ok bool) {
	if c.local == nil {
		return v, false
	}
	start := local.Now()
	if c.coherence != nil && (!c.coherence.LocalValid(start) || c.coherence.AnyPending()) {
		return v, false
	}
	e, ok := c.local.Get(key, start)
	if !ok || e.Meta != nil && (e.Meta.Absent || e.Meta.Fresh != 0 || !c.lives(e.Meta, start)) || c.slidesLocally {
		return v, false
	}
	v = e.Value
	if c.src.Clone != nil {
		v = c.src.Clone(v)
	}
	return v, true
}

func hitCache(t testing.TB) *Cache[string, int] {
	t.Helper()
	c, err := New[string, int](nil, "n", LocalOnly(), WithStrategy(strategy.LRU(1000), strategy.TTL(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Set(t.Context(), "key", 1); err != nil {
		t.Fatal(err)
	}
	return c
}

// What a local hit takes, what it would take if nobody counted, and the counting alone.
func BenchmarkRecording(b *testing.B) {
	c := hitCache(b)
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
		b.Run(name+", parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					f()
				}
			})
		})
	}
	run("counted", func() {
		if _, _, ok := c.hit("key"); !ok {
			b.Fatal("no hit")
		}
	})
	run("uncounted", func() {
		if _, ok := c.hitUncounted("key"); !ok {
			b.Fatal("no hit")
		}
	})
	b.Run("counting alone", func(b *testing.B) {
		b.ReportAllocs()
		start := local.Now()
		for b.Loop() {
			start++ // the clock is looked at anyway, for the entry's end
			c.stats.localHit(start)
		}
	})
}

func TestRecordingAllocatesNothing(t *testing.T) {
	c := hitCache(t)
	for name, f := range map[string]func(){
		"a local hit": func() { c.stats.localHit(local.Now()) },
		"a miss":      func() { c.stats.miss(notFound) },
		"a write":     func() { c.stats.wrote(&c.stats.sets, nil) },
		"a duration":  func() { c.stats.getHist.Record(time.Millisecond) },
		"a remote operation": func() {
			c.stats.remoteOp(context.Background(), "n", "get", 1, time.Millisecond, nil)
		},
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("counting %s makes %v allocations", name, n)
		}
	}
	before := c.Totals()
	if v, ok := c.hitUncounted("key"); !ok || v != 1 || c.Totals().Requests() != before.Requests() {
		t.Error("what the benchmark compares with is no hit, or counts")
	}
}
