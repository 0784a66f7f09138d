package percpu

import "testing"

func TestTicketsGoRound(t *testing.T) {
	var p pool
	seen := make(map[uint32]int)
	for range 3 * Count { // none is put back
		seen[p.get().Index]++
	}
	for s := range uint32(Count) {
		if seen[s] != 3 {
			t.Errorf("stripe %d was given out %d times of %d", s, seen[s], 3*Count)
		}
	}
}

func TestATicketIsOneOfThem(t *testing.T) {
	for range 100 {
		ticket := Take()
		if ticket.Index >= Count {
			t.Fatalf("stripe %d", ticket.Index)
		}
		Give(ticket)
	}
}
