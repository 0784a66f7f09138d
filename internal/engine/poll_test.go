package engine

import (
	"testing"
	"time"
)

// polled returns how often a lease is polled that is held for so long, how late its end is seen,
// and how many of the polls came at once after the one before.
func polled(p polls, held, trip time.Duration) (n int, late time.Duration, atOnce int) {
	waited := time.Duration(0)
	for waited < held {
		pause := p.pause(waited, trip)
		if pause == 0 {
			atOnce++
		}
		waited += pause + trip
		n++
	}
	return n, waited - held, atOnce
}

func TestHowOftenALeaseIsPolled(t *testing.T) {
	const ms, trip = time.Millisecond, 100 * time.Microsecond
	for _, tt := range []struct {
		held, expected, trip time.Duration
		most                 int
		late                 time.Duration
	}{
		// Without an expectation, or with one that is wrong.
		{2 * ms, 0, trip, 2, ms},
		{100 * ms, 0, trip, 32, 100 * ms / 8},
		{5 * time.Second, 0, trip, 140, pollMost},
		{30 * time.Second, 0, trip, 640, pollMost},
		{100 * ms, 10 * ms, trip, 41, 100 * ms / 8},
		{5 * time.Second, 2 * ms, trip, 149, pollMost},
		{30 * time.Second, 100 * ms, trip, 649, pollMost},
		{2 * ms, time.Second, trip, 2, ms},
		// With one that is right.
		{300 * time.Microsecond, 300 * time.Microsecond, trip, 3, 0},
		{2 * ms, 2 * ms, trip, 6, 0},
		{2 * ms, 2200 * time.Microsecond, trip, 4, 0},
		{2500 * time.Microsecond, 2200 * time.Microsecond, trip, 9, 0},
		{100 * ms, 100 * ms, trip, 38, 100 * ms / 32},
		{5 * time.Second, 5 * time.Second, trip, 148, pollMost},
		// A store that takes long is asked less often.
		{2 * ms, 2 * ms, 5 * ms, 1, 5 * ms},
		{100 * ms, 100 * ms, 20 * ms, 5, 40 * ms},
		{400 * ms, 0, 20 * ms, 11, pollMost},
	} {
		n, late, atOnce := polled(polls{expected: tt.expected}, tt.held, tt.trip)
		if n > tt.most || late > tt.late+tt.trip || atOnce > pollsNear {
			t.Errorf("held for %v, expected for %v: polled %d times, %d at once, seen %v late; want %d, %v", tt.held, tt.expected, n, atOnce, late, tt.most, tt.late)
		}
	}
}

func TestLeaseTimesFollowTheLoads(t *testing.T) {
	var lt leaseTimes
	if d := lt.expected(); d != 0 {
		t.Fatal(d)
	}
	lt.note(2 * time.Millisecond)
	if d := lt.expected(); d != 2*time.Millisecond {
		t.Fatal(d)
	}
	lt.note(time.Minute) // one that was held up
	if d := lt.expected(); d > 2300*time.Microsecond {
		t.Error("after one long load:", d)
	}
	for range 100 {
		lt.note(100 * time.Millisecond)
	}
	if d := lt.expected(); d < 90*time.Millisecond || d > 100*time.Millisecond {
		t.Error("after many long loads:", d)
	}
	for range 100 {
		lt.note(0)
	}
	if d := lt.expected(); d == 0 || d > time.Millisecond {
		t.Error("after many loads that took no time:", d)
	}
}
