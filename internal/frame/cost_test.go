package frame

import (
	"math"
	"math/rand/v2"
	"testing"
)

// When a value began is exact, or too early by a millisecond at most: an invalidation that is
// sent later never spares what it concerns.
func TestWhenAValueBeganIsNeverTooLate(t *testing.T) {
	const stored = int64(1) << 62
	check := func(micros int64, cost uint32, older bool, exact int64) {
		t.Helper()
		h := Header{Stored: stored, Cost: cost}
		at, ok := h.Began()
		switch past := stored - at; {
		case h.Older() != older:
			t.Errorf("%d µs: of an older value: %v", micros, !older)
		case !ok && micros < 12*24*3600e6:
			t.Errorf("%d µs are not known any more", micros)
		case ok && (past < micros || past > micros+1000 || micros < exact && past != micros):
			t.Errorf("%d µs became %d", micros, past)
		}
	}
	times := []int64{0, 1, inMillis - 1, inMillis, madeOfOlder - 1, madeOfOlder, math.MaxUint32, math.MaxUint32 * 250, (inMillis - 2) * 1000, (inMillis-2)*1000 - 1, inMillis * 1000, math.MaxInt64}
	for range 1000 {
		times = append(times, rand.Int64N(1<<rand.IntN(62)+1))
	}
	for _, micros := range times {
		check(micros, CostOf(micros), micros >= madeOfOlder, madeOfOlder)
		check(micros, CostOfOlder(micros), true, inMillis)
	}
	if CostOf(-1) != 0 || CostOfOlder(-1) != CostOfOlder(0) {
		t.Error("a value that began later than it was stored")
	}
	h := Header{Stored: stored, Cost: OfOlder}
	if at, ok := h.Began(); ok || !h.Older() {
		t.Errorf("it began at %d", at)
	}
}
