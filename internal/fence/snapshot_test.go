package fence

import (
	"fmt"
	"testing"
)

// A token of a snapshot is valid exactly as long as one that was taken at that moment.
func TestATokenOfASnapshotIsThatOfItsMoment(t *testing.T) {
	table := NewTable()
	for i := range 1000 {
		table.Move(fmt.Sprint("k", i))
	}
	s := table.Snapshot()
	defer s.Release()
	taken := map[string]Token{}
	for i := range 2000 {
		k := fmt.Sprint("k", i)
		taken[k] = table.Token(k)
	}
	check := func(when string) {
		t.Helper()
		valid := 0
		for k, tok := range taken {
			if s.Token(table, k) != tok {
				t.Fatalf("%s: %s has %v, and had %v", when, k, s.Token(table, k), tok)
			}
			if table.Valid(k, tok) {
				valid++
			}
		}
		t.Logf("%s: %d of %d are valid", when, valid, len(taken))
	}
	check("at once")
	for i := range 100 {
		table.Move(fmt.Sprint("k", i))
	}
	check("after 100 moves")
	if table.Valid("k5", s.Token(table, "k5")) {
		t.Error("a key that has moved is valid")
	}
	table.MoveAll()
	check("after a move of all")
	for k := range taken {
		if table.Valid(k, s.Token(table, k)) {
			t.Fatalf("%s is valid after all have moved", k)
		}
	}
}
