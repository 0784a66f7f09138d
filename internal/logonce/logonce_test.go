package logonce

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

func TestAStateIsLoggedOnceAtItsBeginningAndOnceAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s State
		if s.Leave() {
			t.Error("an end without a beginning")
		}
		for i := range 1000 {
			if n, log := s.Enter(); log != (i == 0) || n != 0 {
				t.Fatalf("%d: %d, %v", i, n, log)
			}
			time.Sleep(time.Second)
		}
		if !s.On() || !s.Leave() || s.On() || s.Leave() {
			t.Error("it did not end once")
		}
	})
}

// What begins within a minute of the last line is not logged, nor is its end; the next
// line says how often that was.
func TestAStateThatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s State
		s.Enter()
		s.Leave()
		for range 7 {
			if _, log := s.Enter(); log {
				t.Error("logged again")
			}
			if s.Leave() {
				t.Error("an end whose beginning was not logged")
			}
			time.Sleep(time.Second)
		}
		time.Sleep(Every)
		if n, log := s.Enter(); n != 7 || !log {
			t.Errorf("%d, %v", n, log)
		}
		for range 5 { // it goes on to flap
			if s.Leave() {
				t.Error("over, and comes back within a second")
			}
			time.Sleep(time.Second)
			if _, log := s.Enter(); log {
				t.Error("logged again")
			}
		}
		time.Sleep(calm)
		if !s.Leave() {
			t.Error("its end is not logged")
		}
	})
}

// A state that began too soon after the last line is logged if it lasts.
func TestAStateThatLastsIsLoggedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s State
		s.Enter()
		s.Leave()
		lines := 0
		for range 2 * int(Every/time.Second) {
			if n, log := s.Enter(); log {
				lines++
				if n != 0 {
					t.Errorf("%d were left out", n)
				}
			}
			time.Sleep(time.Second)
		}
		if lines != 1 || !s.Leave() {
			t.Errorf("%d lines", lines)
		}
	})
}

// Whatever happens, there is one beginning a minute at most, beginnings and ends take
// turns, and what is left out is counted.
func TestNoSequenceFloods(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			var s State
			var lines []time.Time // of beginnings
			begun, entered, said := false, 0, 0
			for range 2000 {
				if rnd.IntN(2) == 0 {
					if !s.On() {
						entered++
					}
					n, log := s.Enter()
					if log {
						if begun {
							t.Fatal("two beginnings")
						}
						begun, said, lines = true, said+n+1, append(lines, time.Now())
					}
				} else if s.Leave() {
					if !begun {
						t.Fatal("two ends")
					}
					begun = false
				}
				time.Sleep(time.Duration(rnd.Int64N(int64(3 * time.Second))))
			}
			if said > entered || entered-said > int(Every/time.Second) {
				t.Errorf("seed %d: entered %d times, and %d of them are accounted for", seed, entered, said)
			}
			for i := 1; i < len(lines); i++ {
				if d := lines[i].Sub(lines[i-1]); d < Every {
					t.Fatalf("seed %d: two beginnings within %v", seed, d)
				}
			}
		})
	}
}

func TestAnEventIsLoggedWithWhatWasLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Event
		if n, log := e.Add(2); n != 2 || !log {
			t.Error(n, log)
		}
		for range 4 {
			if _, log := e.Add(2); log {
				t.Error("logged again")
			}
		}
		time.Sleep(Every)
		if n, log := e.Add(2); n != 10 || !log {
			t.Error(n, log)
		}
	})
}

func TestAllocLeave(t *testing.T) {
	var s State
	if n := testing.AllocsPerRun(100, func() { s.Leave() }); n != 0 {
		t.Error(n)
	}
}
