package fence

import (
	"math"
	"testing"
)

// A load waits for no load that began too long ago, and for every write.
func TestALoadDoesNotWaitForOnesThatBeganTooEarly(t *testing.T) {
	tab := claims1()
	first, _ := tab.ClaimLoadSince(tab.Place("k"), 5, 100, math.MinInt64, false, nil)
	if c, others := tab.ClaimLoadSince(tab.Place("k"), 5, 110, 100, false, nil); c != nil || len(others) != 1 || others[0] != first {
		t.Errorf("one that began just in time: %v, %v", c, others)
	}
	second, others := tab.ClaimLoadSince(tab.Place("k"), 5, 111, 101, false, nil)
	if second == nil || others != nil || first.Lost() {
		t.Fatalf("one that began too early: %v, %v", second, others)
	}
	if !tab.Take(second) || !first.Lost() {
		t.Error("the earlier one would replace the later one's value")
	}
	second.End(nil)
	w := tab.ClaimWrite("k", false)
	if c, others := tab.ClaimLoadSince(tab.Place("k"), 5, 1000, 1000, false, nil); c != nil || len(others) != 1 || others[0] != w {
		t.Errorf("beside a write: %v, %v", c, others)
	}
}
