package expiring

import (
	"math"
	"strconv"
	"testing"
)

func TestEntriesEnd(t *testing.T) {
	for _, until := range []int64{math.MinInt64 + 1, -5, 0, 5, math.MaxInt64} {
		m := Map[string]{Max: 2}
		m.Put("k", "old", math.MaxInt64)
		m.Remove("k")
		m.Put("k", "v", until)
		if v, ok := m.Get("k", until-1); v != "v" || !ok || m.Empty(until-1) {
			t.Errorf("%d: ended too early: %q, %v", until, v, ok)
		}
		if !m.Empty(until) {
			t.Errorf("%d: not empty after the end", until)
		}
		m.Put("k", "v", until)
		m.Put("later", "v", math.MaxInt64)
		if v, ok := m.Get("k", until); v != "" || ok || len(m.entries) != 1 {
			t.Errorf("%d: %q, %v, and %d entries", until, v, ok, len(m.entries))
		}
		m.Clear()
		if !m.Empty(until - 1) {
			t.Errorf("%d: cleared, and not empty", until)
		}
	}
}

func TestAFullMapDropsOneForANewKey(t *testing.T) {
	m := Map[int]{Max: 3}
	for i := range 100 {
		key := strconv.Itoa(i)
		m.Put(key, -1, 1)
		m.Put(key, i, 2) // a key that is there takes no room
		if v, ok := m.Get(key, 1); v != i || !ok || len(m.entries) != min(i+1, m.Max) {
			t.Fatalf("%d: %d, %v, and %d entries", i, v, ok, len(m.entries))
		}
	}
}
