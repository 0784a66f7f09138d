package dashboard

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/metrics"
)

func TestHistoryIsTheDifferenceOfSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{name: "a"}
		f.count(func(s *metrics.Snapshot) { s.LocalHits = 1000 })
		h := New().Add(f)
		ctx := t.Context()
		h.sample(ctx)
		for i := range 2 * maxPoints {
			time.Sleep(time.Second)
			f.count(func(s *metrics.Snapshot) {
				s.LocalHits += uint64(i)
				s.MissAbsent++
				s.StaleCovers++
				s.LocalEntries = uint64(i)
				s.Get.Record(time.Millisecond, 5)
			})
			h.sample(ctx)
		}
		p := h.data(false, true).Caches[0]
		if len(p.Points) != maxPoints {
			t.Fatalf("%d points", len(p.Points))
		}
		for i, pt := range p.Points {
			n := uint64(i + maxPoints)
			if pt.Local != n || pt.Miss != 1 || pt.Stale != 1 || pt.Entries != n || pt.Seconds != 1 {
				t.Fatalf("point %d: %+v", i, pt)
			}
			if q := pt.Latency["get"]; q == nil || q[2] < 900 || q[2] > 1100 || pt.Latency["load"] != nil {
				t.Fatalf("point %d: latencies %v", i, pt.Latency)
			}
		}
		if p.Since.LocalHits != 1000+2*maxPoints*(2*maxPoints-1)/2 {
			t.Errorf("in all %d", p.Since.LocalHits)
		}
		if p.Seconds < 60 || p.Seconds > 70 || p.Window.MissAbsent != uint64(p.Seconds) {
			t.Errorf("a window of %v s has %d misses", p.Seconds, p.Window.MissAbsent)
		}
		if n := len(h.caches[0].starts); n != windows+1 {
			t.Errorf("%d snapshots are kept", n)
		}
		if last := h.data(false, false).Caches[0].Points; len(last) != 1 || last[0].Local != 2*maxPoints-1 {
			t.Errorf("the last point is %+v", last)
		}
	})
}

func TestAPauseIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{name: "a"}
		h := New().Add(f)
		h.sample(t.Context())
		time.Sleep(time.Hour)
		f.count(func(s *metrics.Snapshot) { s.Loads = 1e6 })
		h.sample(t.Context())
		p := h.data(false, true).Caches[0]
		if len(p.Points) != 2 || p.Seconds != 0 || p.Points[1].Seconds != 0 || p.Points[1].Loads != 0 || p.Window.Loads != 0 || p.Since.Loads != 1e6 {
			t.Errorf("after a pause: %+v", p.Points)
		}
	})
}

func TestAShortPauseKeepsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{name: "a"}
		h := New().Add(f)
		h.sample(t.Context())
		time.Sleep(30 * time.Second)
		f.count(func(s *metrics.Snapshot) { s.Loads = 5 })
		h.sample(t.Context())
		if p := h.data(false, true).Caches[0]; p.Seconds != 30 || p.Window.Loads != 5 {
			t.Errorf("in %v s: %d loads", p.Seconds, p.Window.Loads)
		}
	})
}

func TestLatenciesAreThoseOfTheLastTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{name: "a"}
		h := New().Add(f)
		ctx := t.Context()
		for i := range 60 {
			f.count(func(s *metrics.Snapshot) {
				d := time.Millisecond
				if i == 30 {
					d = time.Second
				}
				s.Set.Record(d, 1)
			})
			h.sample(ctx)
			time.Sleep(time.Second)
		}
		var slow int
		for i, pt := range h.data(false, true).Caches[0].Points {
			q := pt.Latency["set"]
			if i > 0 && q == nil {
				t.Fatalf("no latency at %d s", i)
			}
			if q != nil && q[2] > 1e5 {
				slow++
				if i < 30 || i >= 50 {
					t.Errorf("what happened at 30 s is shown at %d s", i)
				}
			}
		}
		if slow < 10 {
			t.Errorf("a slow call is shown for %d s", slow)
		}
	})
}

func TestManyWatchersTakeOneSample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{name: "a"}
		h := New().Add(f)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { h.Watch(ctx) })
		}
		time.Sleep(10*time.Second + time.Millisecond)
		late := &fake{name: "late"}
		h.Add(late)
		h.sample(ctx)
		if len(h.data(false, true).Caches) != 2 {
			t.Error("a cache that was added a moment ago is not shown")
		}
		cancel()
		all.Wait()
		if f.asked != 11 || late.asked != 1 {
			t.Errorf("the cache was asked %d times in 10 s, the late one %d times", f.asked, late.asked)
		}
		h.Close()
		h.Close()
		h.Watch(t.Context()) // returns
	})
}
