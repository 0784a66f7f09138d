package fence

import (
	"errors"
	"fmt"
	"testing"
)

func claims1() *Table { return NewTable().WithClaims() }

// woken reports whether a waiter was woken since the last look.
func woken(w *Waiter) bool {
	select {
	case <-w.C:
		return true
	default:
		return false
	}
}

func load(t *testing.T, tab *Table, key string, order int64) *Claim {
	t.Helper()
	c, others := tab.ClaimLoad(key, order, false, nil)
	if c == nil || others != nil {
		t.Fatalf("a load of %q has to wait for %v", key, others)
	}
	return c
}

// held reports how many claims there are that are neither lost nor over.
func held(tab *Table) (n int64) {
	for i := range tab.claims {
		n += tab.claims[i].held.Load()
	}
	return n
}

func TestALoadWaitsForTheOnesThatItCouldShare(t *testing.T) {
	tab := claims1()
	first := load(t, tab, "k", 5)
	if c, others := tab.ClaimLoad("k", 5, false, nil); c != nil || len(others) != 1 || others[0] != first {
		t.Errorf("a load of the same order has %v, %v", c, others)
	}
	if c, others := tab.ClaimLoad("k", 4, false, nil); c != nil || len(others) != 1 {
		t.Errorf("a load of an earlier order has %v, %v", c, others)
	}
	second := load(t, tab, "k", 6) // the first may have begun too early for it
	if c, others := tab.ClaimLoad("k", 7, false, nil); c != nil || len(others) != 2 || others[0] != first || others[1] != second {
		t.Errorf("a third one has %v, %v", c, others)
	}
	third, others := tab.ClaimLoad("k", 1, true, nil)
	if third == nil || others != nil {
		t.Errorf("by force it has %v, %v", third, others)
	}
	load(t, tab, "other", 1)
	for _, c := range []*Claim{first, second, third} {
		c.End(nil)
	}
	load(t, tab, "k", 0).End(nil)
	tab.ClaimWrite("k", false)
	if c, others := tab.ClaimLoad("k", 100, false, nil); c != nil || len(others) != 1 {
		t.Errorf("beside a write a load has %v, %v", c, others)
	}
}

func TestAWriteTakesWhatElseIsClaimed(t *testing.T) {
	for name, write := range map[string]func(*Table) *Claim{
		"write": func(tab *Table) *Claim { return tab.ClaimWrite("k", false) },
		"alone": func(tab *Table) *Claim { return tab.ClaimWrite("k", true) },
		"by a load": func(tab *Table) *Claim {
			c, _ := tab.ClaimLoad("k", 9, true, nil)
			if !tab.ToWrite(c) {
				return nil
			}
			return c
		},
	} {
		tab := claims1()
		l, other := load(t, tab, "k", 1), load(t, tab, "other", 1)
		tok := tab.Token("k")
		w := write(tab)
		switch {
		case w == nil:
			t.Fatalf("%s: none", name)
		case tab.Valid("k", tok):
			t.Errorf("%s: the fence has not moved", name)
		case !l.Lost() || other.Lost() || w.Lost():
			t.Errorf("%s: load %v, other key %v, write %v are lost", name, l.Lost(), other.Lost(), w.Lost())
		case tab.Take(l):
			t.Errorf("%s: what is lost is stored", name)
		case !tab.Writing("k") || tab.Writing("other") || tab.Writing("none"):
			t.Errorf("%s: writing is not known", name)
		case tab.ClaimWrite("k", true) != nil:
			t.Errorf("%s: a second write is alone", name)
		case w.Lost():
			t.Errorf("%s: lost for one that was not given", name)
		}
		l.End(errors.New("no matter"))
		again := tab.ClaimWrite("k", false)
		if !w.Lost() || tab.Take(w) {
			t.Errorf("%s: of two writes the first is stored", name)
		}
		if !tab.Take(again) {
			t.Errorf("%s: the second is not", name)
		}
		again.End(nil)
		if tab.Writing("k") {
			t.Errorf("%s: still writing", name)
		}
		other.End(nil)
		if n := held(tab); n != 0 {
			t.Errorf("%s: %d claims are left", name, n)
		}
	}
}

func TestALoadBecomesAWriteOnlyIfNothingHasHappened(t *testing.T) {
	tab := claims1()
	lost := load(t, tab, "k", 1)
	tab.Move("k")
	if tab.ToWrite(lost) {
		t.Error("one that was lost")
	}
	over := load(t, tab, "k", 1)
	over.End(nil)
	if tab.ToWrite(over) {
		t.Error("one that is over")
	}
	tab.ClaimWrite("k", false)
	beside, _ := tab.ClaimLoad("k", 1, true, nil)
	if tab.ToWrite(beside) || beside.Lost() {
		t.Error("one beside a write")
	}
}

// Of two loads that are under way the second may store behind the first, and the first not
// behind the second.
func TestWhatBeganEarlierStoresNothingBehind(t *testing.T) {
	tab := claims1()
	first, second := load(t, tab, "k", 1), load(t, tab, "k", 2)
	tok := tab.Token("k")
	if !tab.Take(first) || tab.Valid("k", tok) {
		t.Error("the first does not store, or moves nothing")
	}
	if second.Lost() || !tab.Take(second) {
		t.Error("the second does not store behind the first")
	}

	tab = claims1()
	first, second = load(t, tab, "k", 1), load(t, tab, "k", 2)
	if !tab.Take(second) || !first.Lost() || tab.Take(first) {
		t.Error("the first stores behind the second")
	}
	third, _ := tab.ClaimLoad("k", 3, true, nil)
	if third.Lost() || !tab.Take(third) {
		t.Error("one that began later is lost")
	}

	tab = claims1()
	w := tab.ClaimWrite("k", false)
	later, _ := tab.ClaimLoad("k", 1, true, nil)
	if !tab.Take(w) || !later.Lost() || w.Lost() {
		t.Error("a load from within a write is stored behind it")
	}
}

func TestMovesTakeClaimsAway(t *testing.T) {
	for name, move := range map[string]func(*Table){
		"Move":     func(tab *Table) { tab.Move("k") },
		"MoveIf":   func(tab *Table) { tab.MoveIf("k", tab.Token("k")) },
		"MoveAll":  func(tab *Table) { tab.MoveAll() },
		"matching": func(tab *Table) { tab.LoseMatching(func(k string) bool { return k == "k" }) },
	} {
		tab := claims1()
		c, other := load(t, tab, "k", 1), load(t, tab, "other", 1)
		w, no := tab.Wait("k"), tab.Wait("other")
		tok := tab.Token("k")
		move(tab)
		if !c.Lost() || tab.Take(c) || !woken(w) || tab.Valid("k", tok) {
			t.Errorf("%s: it is not lost, or no waiter is woken, or the fence has not moved", name)
		}
		if all := name == "MoveAll"; other.Lost() != all || woken(no) != all {
			t.Errorf("%s: another key's claim is lost: %v", name, other.Lost())
		}
		w.Close()
		no.Close()
		c.End(nil)
		if woken(w) {
			t.Errorf("%s: what is closed is woken", name)
		}
	}
	for name, move := range map[string]func(*Table){
		"Bump":          func(tab *Table) { tab.Bump("k") },
		"Turn":          func(tab *Table) { tab.Turn() },
		"another key":   func(tab *Table) { tab.Move("other") },
		"a late MoveIf": func(tab *Table) { tab.MoveIf("k", Token{gen: 77}) },
	} {
		tab := claims1()
		c := load(t, tab, "k", 1)
		move(tab)
		if c.Lost() || !tab.Take(c) {
			t.Errorf("%s: the claim is lost", name)
		}
	}
	for name, move := range map[string]func(*Table){"Bump": func(tab *Table) { tab.Bump("k") }, "Turn": func(tab *Table) { tab.Turn() }} {
		tab := claims1()
		tok := tab.Token("k")
		if move(tab); tab.Valid("k", tok) {
			t.Errorf("%s does not move the fence", name)
		}
	}
}

func TestAClaimEndsOnce(t *testing.T) {
	(*Claim)(nil).End(errors.New("none"))
	tab := claims1()
	c := load(t, tab, "k", 1)
	w := tab.Wait("k")
	failed := errors.New("the source fails")
	c.End(failed)
	c.End(nil)
	if !woken(w) || !errors.Is(c.Failed(), failed) || c.Lost() || tab.Take(c) {
		t.Errorf("it has failed with %v", c.Failed())
	}
	w.Close()
	w.Close()
	c = load(t, tab, "k", 1)
	tab.Move("k")
	c.End(failed)
	if c.Failed() != nil {
		t.Error("the failure of what was lost counts")
	}
	if n := held(tab); n != 0 {
		t.Errorf("%d claims are left", n)
	}
	for i := range tab.claims {
		if tab.claims[i].keys.len > 0 {
			t.Error("a key is remembered of which nothing is claimed")
		}
	}
}

// Waiters and claims come and go in any order, and nothing is left of them.
func TestNothingIsLeftOfKeysWithoutAClaim(t *testing.T) {
	tab := claims1()
	var keys []string
	for i := range 200 {
		keys = append(keys, fmt.Sprint(i))
	}
	all := tab.Wait(keys...)
	some := tab.Wait(keys[0])
	some.Close()
	for _, k := range keys {
		c := load(t, tab, k, 1)
		if woken(all) {
			t.Fatal("a claim that begins wakes")
		}
		c.End(nil)
		if !woken(all) {
			t.Fatalf("the end of the claim of %s does not wake", k)
		}
	}
	c := load(t, tab, "0", 1)
	all.Close()
	c.End(nil)
	for i := range tab.claims {
		if tab.claims[i].keys.len > 0 || tab.claims[i].held.Load() != 0 {
			t.Fatal("something is left")
		}
	}
}
