// Package logonce keeps logs short: a recurring condition is logged at most once a minute, with
// the number of lines left out, whatever its rate.
package logonce

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Every is how often a line of a kind is logged at most.
	Every = time.Minute

	// calm is how long a state must not have been entered before it is left, if it was left
	// and entered again within Every before.
	calm = 10 * time.Second
)

// State is a condition that lasts, such as that Redis does not answer: its beginning is logged,
// and its end if its beginning was. The zero value is ready for use; all methods are safe for
// concurrent use.
type State struct {
	on atomic.Bool // entered, and not left since

	mu      sync.Mutex // guards the fields below
	said    bool       // the beginning was logged, and the end was not
	flaps   bool       // it had been left shortly before that
	last    time.Time  // when a beginning was logged
	entered time.Time  // when it was last entered
	leftOut int        // beginnings that were not logged since
}

// Enter is called each time that the condition is observed. It reports whether to log that, and
// how many beginnings were not logged since the last line.
func (s *State) Enter() (leftOut int, log bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	first := !s.on.Swap(true)
	s.entered = now
	if s.said {
		return 0, false
	}
	if !s.last.IsZero() && now.Sub(s.last) < Every {
		if first {
			s.leftOut++
		}
		return 0, false
	}
	// A state that was entered long ago, and could not be logged then, counts too.
	leftOut = s.leftOut
	if !first && leftOut > 0 {
		leftOut--
	}
	s.said, s.flaps, s.last, s.leftOut = true, leftOut > 0, now, 0
	return leftOut, true
}

// On reports whether the state was entered and not left. It costs one atomic load.
func (s *State) On() bool { return s.on.Load() }

// Leave is called each time that an observation shows that the state has ended. It reports
// whether to log that. A state that comes and goes has ended once it has not been observed for
// a while. Where it is not on, Leave costs one atomic load.
func (s *State) Leave() (log bool) {
	if !s.on.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.on.Load() || s.said && s.flaps && time.Since(s.entered) < calm {
		return false
	}
	s.on.Store(false)
	log, s.said = s.said, false
	return log
}

// Event is an event without duration. The zero value is ready for use; all methods are safe
// for concurrent use.
type Event struct {
	mu   sync.Mutex // guards the fields below
	last time.Time  // when it was logged
	n    int        // since then
}

// Add counts n, and reports whether to log the event now: if so, all is the sum of all n since
// the last line.
func (e *Event) Add(n int) (all int, log bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n += n
	now := time.Now()
	if !e.last.IsZero() && now.Sub(e.last) < Every {
		return 0, false
	}
	all, e.n, e.last = e.n, 0, now
	return all, true
}
