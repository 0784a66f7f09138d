package cache

import (
	"testing"
	"time"

	"github.com/delqhi/cache/internal/engine"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/strategy"
)

// hitUncounted is Cache.hit without the counting.
func (c *Cache[K, V]) hitUncounted(key K) (v V, ok bool) {
	start := local.Now()
	if c.local == nil || !c.engine.LocalUsable(start) {
		return v, false
	}
	e, ok := c.local.Get(key, start)
	if !ok || !c.engine.Answers(&e.Head, start) || c.engine.Due(&e.Head, start) != engine.NotDue {
		return v, false
	}
	if v = e.Value; c.clone != nil {
		v, _ = c.clone(v)
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

// What a local hit takes, what it would take without counting, and the counting alone.
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
		if _, _, ok := c.hit("key", local.Now(), 0); !ok {
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
			c.engine.CountLocalHits(1)
			c.engine.Sample(start, 0)
		}
	})
}

func TestAHitThatIsNotCountedIsOne(t *testing.T) {
	c := hitCache(t)
	before := c.Totals()
	if v, ok := c.hitUncounted("key"); !ok || v != 1 || c.Totals().Requests() != before.Requests() {
		t.Error("what the benchmark compares with is no hit, or counts")
	}
}
