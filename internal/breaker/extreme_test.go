package breaker

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever numbers a circuit is made with, it opens after so many failures, not before, and
// stays open for so long.
func TestExtremeNumbers(t *testing.T) {
	for _, failures := range []int{math.MaxInt, math.MaxInt - 1, math.MaxInt32} {
		e := &endpoint{}
		s := New(Config{Failures: failures, Open: time.Hour, Probe: e.ask, Changed: e.changed})
		for range 10 {
			if !use(t, s, "a", errAway) {
				t.Errorf("a circuit of %d failures is open after 10", failures)
				break
			}
		}
		s.Close()
	}
	for _, open := range []time.Duration{math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64 - time.Millisecond, math.MaxInt64 - time.Second, 1 << 62} {
		synctest.Test(t, func(t *testing.T) {
			e := &endpoint{}
			e.set("a", true)
			s := New(Config{Failures: 1, Open: open, Probe: e.ask, Changed: e.changed})
			defer s.Close()
			use(t, s, "a", errAway)
			time.Sleep(30 * 24 * time.Hour)
			if probes, _ := e.take(); len(probes) > 0 || use(t, s, "a", nil) {
				t.Errorf("open for %v: %d probes within a month", open, len(probes))
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{}
		s := New(Config{Failures: 1, Open: 1, Probe: e.ask, Changed: e.changed})
		defer s.Close()
		use(t, s, "a", errAway)
		time.Sleep(10 * time.Millisecond)
		if probes, _ := e.take(); len(probes) != 1 || !use(t, s, "a", nil) {
			t.Errorf("open for a nanosecond: %d probes", len(probes))
		}
	})
}
