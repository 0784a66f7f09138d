package logicalclock

import "testing"

// A tag's mark is complete only if it was learned at the greatest clock that was known when
// the session began, or later: a server that has fallen back may answer with less.
func TestASessionBeginsAtTheGreatestClockKnown(t *testing.T) {
	tab := NewTable()
	tab.Subscribed()
	learn(t, tab, at(60, hard(0)), "t")
	hear(t, tab, at(100), nil...)
	tab.Subscribed() // marks between 60 and 100 may have been missed
	learn(t, tab, at(50))
	want(t, tab, Unknown, 55, "t")
}
