package store

import (
	"testing"
	"time"
)

func TestRounds(t *testing.T) {
	const dead = time.Second
	base := time.Now()
	at := func(ms int) time.Time { return base.Add(time.Duration(ms) * time.Millisecond) }
	var r Rounds
	waits := func(now, want int) {
		t.Helper()
		if got := r.Wait(at(now), dead); got != time.Duration(want)*time.Millisecond {
			t.Errorf("at %d it waits %v, not %d ms", now, got, want)
		}
	}
	heard := func(number int64, slot, sent int) {
		t.Helper()
		got, ok := r.Returned(number, slot)
		if want := sent >= 0; ok != want || ok && !got.Equal(at(sent)) {
			t.Errorf("pulse %d of %d: %v, %v", slot, number, got.Sub(base), ok)
		}
	}
	waits(0, 1000)
	for ms := 0; ms < 500; ms += 100 { // 1 to 5
		r.Start(at(ms), 2)
	}
	waits(700, 300)
	heard(1, 0, -1)
	heard(1, 0, -1) // twice
	heard(1, 2, -1) // of none
	heard(1, -1, -1)
	heard(9, 0, -1)
	heard(1, 1, 0)
	heard(1, 1, -1) // too late
	waits(700, 400)
	heard(3, 1, -1)
	heard(4, 1, -1)
	heard(4, 0, 300) // 2 and 3 are done with too
	heard(3, 0, -1)
	waits(1400, 0)
	heard(5, 0, -1)
	heard(5, 1, 400)
	waits(9000, 1000)
	if n := r.Start(at(9000), 1); n != 6 {
		t.Errorf("the next is %d", n)
	}
	waits(11000, -1000)
}
