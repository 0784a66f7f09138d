package cachetest

import (
	"testing/synctest"
	"time"
)

// Advance lets d pass, for Redis, its clients, the caches and everything else in the bubble,
// and then waits until all that became due has been done, as synctest.Wait does. It is for
// the test's goroutine in a bubble of testing/synctest: without one the clock of the caches
// can't be moved, and the test fails.
func (e *Env) Advance(d time.Duration) {
	e.tb.Helper()
	switch {
	case d < 0:
		e.tb.Fatalf("cachetest: Advance(%v): time does not go back", d)
	case e.outside():
		e.tb.Fatalf("cachetest: %v", errOutside)
	case !quiesce():
		e.tb.Fatalf("cachetest: Advance needs the clock of a bubble: run the test in synctest.Test")
	default:
		time.Sleep(d)
		synctest.Wait()
	}
}

// outside reports whether this goroutine is in a bubble and New was not called in one: the
// clocks of bubbles begin in the past.
func (e *Env) outside() bool { return time.Now().Round(0).Before(e.began.Add(-time.Hour)) }

// quiesce is synctest.Wait, and reports whether this goroutine is in a bubble: there is no
// other way to find out.
func quiesce() (inBubble bool) {
	defer func() {
		if r := recover(); r != nil && r != "goroutine is not in a bubble" {
			panic(r)
		}
	}()
	synctest.Wait()
	return true
}
