package coherence

import "testing"

// Those that wait for a key are woken together, and leave in any order.
func TestWaitersOfAKeyAreWokenTogetherAndLeaveInAnyOrder(t *testing.T) {
	orders := [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0, 3, 1}}
	for _, order := range orders {
		var a Coordinator
		a.wait.init()
		ws := []*Waiter{a.Wait("k"), a.Wait("k", "other"), a.Wait("other", "k", "k"), a.Wait("k")}
		away := a.Wait("away")
		open := map[int]bool{0: true, 1: true, 2: true, 3: true}
		for _, leaves := range order {
			ws[leaves].Close()
			ws[leaves].Close()
			delete(open, leaves)
			a.Wake("k")
			for i, w := range ws {
				if got := len(w.C) == 1; got != open[i] {
					t.Errorf("%v: when %d has left, %d is woken: %v", order, leaves, i, got)
				}
				select {
				case <-w.C:
				default:
				}
			}
			if len(away.C) != 0 {
				t.Errorf("%v: one that waits for another key is woken", order)
			}
		}
		if a.wait.wakeAll(); len(away.C) != 1 {
			t.Errorf("%v: the last one is not woken", order)
		}
		if away.Close(); len(a.wait.byKey) != 0 {
			t.Errorf("%v: %d keys are left", order, len(a.wait.byKey))
		}
	}
}
