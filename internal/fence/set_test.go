package fence

import "testing"

// A Set leaves the claims that there are; when it takes effect, loads are lost, whenever they began,
// and of Sets those that began before it.
func TestAClaimOfASet(t *testing.T) {
	tab := claims1()
	w := tab.Wait("k")
	defer w.Close()
	before := load(t, tab, "k", 1)
	first := tab.ClaimSet("k")
	if before.Lost() {
		t.Error("the load before a Set is lost before that takes effect")
	}
	if c, others := tab.ClaimLoad("k", 2, false, nil); c != nil || len(others) != 2 {
		t.Errorf("a load beside a Set has %v, %v", c, others)
	}
	during, _ := tab.ClaimLoad("k", 2, true, nil)
	second := tab.ClaimSet("k")
	if !tab.Take(first) {
		t.Fatal("the Set does not take effect")
	}
	if !before.Lost() || !during.Lost() || second.Lost() {
		t.Errorf("lost: the load before %v, the load during %v, the later Set %v", before.Lost(), during.Lost(), second.Lost())
	}
	if !woken(w) {
		t.Error("what waits for the loads is not woken")
	}
	first.End(nil)
	if !tab.Take(second) {
		t.Error("the later Set does not take effect")
	}
	second.End(nil)
	if n := held(tab); n != 0 {
		t.Errorf("%d claims are left", n)
	}
}

// If the later Set is the first to take effect, the earlier one is lost: nothing older replaces it.
func TestAnEarlierSetIsLostToALaterOne(t *testing.T) {
	tab := claims1()
	first, second := tab.ClaimSet("k"), tab.ClaimSet("k")
	if !tab.Take(second) || tab.Take(first) || !first.Lost() {
		t.Error("the earlier Set takes effect after the later one")
	}
	third := tab.ClaimSet("k")
	tab.Move("k") // another process has written
	if tab.Take(third) {
		t.Error("a Set takes effect after a write of another process")
	}
	write := tab.ClaimWrite("k", false)
	fourth := tab.ClaimSet("k")
	if !tab.Take(write) || fourth.Lost() {
		t.Error("a Set is lost to an earlier write")
	}
}
