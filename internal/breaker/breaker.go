// Package breaker keeps operations from an endpoint that does not answer: one circuit breaker
// for each endpoint, on github.com/sony/gobreaker.
//
// A circuit is closed at first. It opens after a number of consecutive failures, and refuses
// all operations for a while. Then one probe, which this package sends by itself, finds out
// whether the endpoint answers again: no caller's operation is used as the probe, so that none
// waits for an endpoint that is known to be unavailable. If the probe succeeds the circuit
// closes, otherwise it stays open for the same time again.
package breaker

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// ErrOpen says that an operation was refused, and nothing was sent. The returned errors wrap
// it, with the text of the last failure.
var ErrOpen = errors.New("circuit breaker is open")

// ErrUnknown is the result of an operation that says nothing about its endpoint.
var ErrUnknown = errors.New("not known")

// State is the state of a circuit. A greater one is worse.
type State uint8

const (
	Closed   State = iota // operations go through
	HalfOpen              // the probe is in flight; operations are refused
	Open                  // operations are refused
)

// Config says when circuits open. All fields are required except Changed.
type Config struct {
	Failures int           // consecutive failures that open a circuit; positive
	Open     time.Duration // how long it stays open before the next probe; positive

	// Probe sends a harmless request about key to an endpoint; key is that of an operation that
	// was refused or failed. It returns an error if there was no answer in time.
	Probe func(endpoint, key string) error

	// Changed is called for each change, one at a time and in order. It may be called by an
	// operation that ends, must not block, and must not use the Set.
	Changed func(Change)
}

// Change is a change of one circuit, with the resulting worst state of all circuits.
type Change struct {
	Endpoint string
	State    State
	Worst    State // of all circuits
}

// Set has a circuit for each endpoint that was ever used.
//
// All methods are safe for concurrent use.
type Set struct {
	cfg Config

	mu       sync.RWMutex // guards the fields below, and the timers of circuits
	circuits map[string]*circuit
	closed   bool

	reporting sync.Mutex // held while Changed is called; acquired before noting

	noting  sync.Mutex // guards the fields below
	changes []Change   // not reported yet
	states  map[string]State
}

// New returns a Set without circuits.
func New(cfg Config) *Set {
	return &Set{cfg: cfg, circuits: map[string]*circuit{}, states: map[string]State{}}
}

// circuit is the circuit breaker of one endpoint.
type circuit struct {
	set      *Set
	endpoint string
	key      string // for the probe
	breaker  *gobreaker.TwoStepCircuitBreaker[struct{}]
	away     atomic.Bool           // not closed
	refusal  atomic.Pointer[error] // of the last failure
	timer    *time.Timer           // of the next probe; guarded by the Set's mu
}

// Enter begins an operation on an endpoint; done is to be called once, with the failure, nil or
// ErrUnknown. If the circuit is not closed the error wraps [ErrOpen], and done is nil.
func (s *Set) Enter(endpoint, key string) (done func(failure error), err error) {
	c := s.of(endpoint, key)
	if c.away.Load() {
		return nil, c.refuse()
	}
	end, err := c.breaker.Allow()
	if err != nil {
		return nil, c.refuse()
	}
	if c.away.Load() {
		// It was opened since, and may be about to close: the only request admitted is the
		// probe.
		end(ErrUnknown)
		return nil, c.refuse()
	}
	return func(failure error) {
		c.end(end, failure)
		if failure != nil {
			s.report()
		}
	}, nil
}

func (c *circuit) end(end func(error), failure error) {
	if failure != nil && failure != ErrUnknown {
		refusal := fmt.Errorf("%w: %v", ErrOpen, failure)
		c.refusal.Store(&refusal)
	}
	end(failure)
}

func (c *circuit) refuse() error {
	if r := c.refusal.Load(); r != nil {
		return *r
	}
	return ErrOpen
}

// Close cancels all future probes. It does not wait for a probe in flight.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.circuits {
		if c.timer != nil {
			c.timer.Stop()
		}
	}
}

func (s *Set) of(endpoint, key string) *circuit {
	s.mu.RLock()
	c := s.circuits[endpoint]
	s.mu.RUnlock()
	if c != nil {
		return c
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c = s.circuits[endpoint]; c != nil {
		return c
	}
	// gobreaker counts in 32 bits, which is more failures than there will be.
	failures := uint32(min(uint64(s.cfg.Failures), math.MaxUint32))
	c = &circuit{set: s, endpoint: endpoint, key: key}
	c.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: endpoint, MaxRequests: 1, Timeout: s.cfg.Open,
		ReadyToTrip:   func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= failures },
		IsExcluded:    func(err error) bool { return err == ErrUnknown },
		OnStateChange: func(_ string, _, to gobreaker.State) { c.changed(to) },
	})
	s.circuits[endpoint] = c
	return c
}

// changed is called with gobreaker's lock held.
func (c *circuit) changed(to gobreaker.State) {
	state := Closed
	switch to {
	case gobreaker.StateOpen:
		state = Open
	case gobreaker.StateHalfOpen:
		state = HalfOpen
	}
	c.away.Store(state != Closed)
	c.set.note(c.endpoint, state)
	if state == Open {
		c.probeIn(c.set.cfg.Open)
	}
}

// tick is added to the time until a probe: gobreaker considers the open time over only after
// its end.
const tick = time.Millisecond

// later returns d plus a tick, saturating at the maximum duration.
func later(d time.Duration) time.Duration {
	if d > math.MaxInt64-tick {
		return math.MaxInt64
	}
	return d + tick
}

func (c *circuit) probeIn(d time.Duration) {
	s := c.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		c.timer = time.AfterFunc(later(d), c.probe)
	}
}

// probe finds out whether the endpoint answers again.
func (c *circuit) probe() {
	end, err := c.breaker.Allow()
	if err != nil {
		c.probeIn(tick) // slightly too early
		return
	}
	c.set.report()
	c.end(end, c.set.cfg.Probe(c.endpoint, c.key))
	c.set.report()
}

// note records a change. It is called with a gobreaker lock held.
func (s *Set) note(endpoint string, state State) {
	s.noting.Lock()
	defer s.noting.Unlock()
	s.states[endpoint] = state
	worst := Closed
	for _, other := range s.states {
		worst = max(worst, other)
	}
	s.changes = append(s.changes, Change{endpoint, state, worst})
}

// report reports the recorded changes.
func (s *Set) report() {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	s.noting.Lock()
	changes := s.changes
	s.changes = nil
	s.noting.Unlock()
	if s.cfg.Changed == nil {
		return
	}
	for _, ch := range changes {
		s.cfg.Changed(ch)
	}
}
