package fence

import (
	"errors"
	"testing"
)

// A load that goes on alone is waited for no more, and still stores what it brings unless
// something happens to the key.
func TestALoadThatIsLeftIsNotWaitedFor(t *testing.T) {
	(*Claim)(nil).Leave(errors.New("none"))
	tab := claims1()
	slow := errors.New("the load is slow")
	c := load(t, tab, "k", 1)
	w := tab.Wait("k")
	defer w.Close()
	c.Leave(slow)
	if !woken(w) || c.Failed() != slow || c.Lost() {
		t.Errorf("left: failed with %v, lost %v", c.Failed(), c.Lost())
	}
	c.Leave(nil)
	if woken(w) || c.Failed() != slow {
		t.Errorf("left twice: failed with %v", c.Failed())
	}
	next := load(t, tab, "k", 1) // it does not wait
	if !tab.Take(c) || next.Lost() {
		t.Error("what is left can't be taken, or takes a later load away")
	}
	next.End(nil)

	lost := load(t, tab, "k", 2)
	tab.Move("k")
	woken(w)
	if lost.Leave(slow); woken(w) || lost.Failed() != nil {
		t.Errorf("lost, and left: failed with %v", lost.Failed())
	}

	ended := load(t, tab, "k", 3)
	ended.End(nil)
	woken(w)
	if ended.Leave(slow); woken(w) || ended.Failed() != nil {
		t.Errorf("ended, and left: failed with %v", ended.Failed())
	}
}
