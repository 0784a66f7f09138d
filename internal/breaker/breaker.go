// Package breaker keeps operations from an endpoint that does not answer: one circuit breaker
// for each endpoint.
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
	"sync"
	"time"
)

// ErrOpen says that an operation was refused, and nothing was sent. The returned errors wrap
// it, with the text of the last failure.
var ErrOpen = errors.New("circuit breaker is open")

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

	reporting sync.Mutex // held while Changed is called; acquired before mu

	mu       sync.Mutex // guards the fields below, and those of circuits
	circuits map[string]*circuit
	changes  []Change // not reported yet
	closed   bool
}

// New returns a Set without circuits.
func New(cfg Config) *Set {
	return &Set{cfg: cfg, circuits: map[string]*circuit{}}
}

// circuit is the circuit breaker of one endpoint.
type circuit struct {
	endpoint string
	key      string // for the probe
	state    State
	failures int         // consecutive ones
	opened   int         // how often it has opened
	refusal  error       // of the last failure
	timer    *time.Timer // of the next probe
}

// Pass is the admission of one operation. The zero Pass counts nothing.
type Pass struct {
	set     *Set
	circuit *circuit
	opened  int // how often the circuit had opened when the operation began
}

// Enter begins an operation on an endpoint, which ends with [Pass.End], or without it if its
// result says nothing about the endpoint. If the circuit is not closed the error wraps
// [ErrOpen].
func (s *Set) Enter(endpoint, key string) (Pass, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.circuits[endpoint]
	if c == nil {
		c = &circuit{endpoint: endpoint, key: key}
		s.circuits[endpoint] = c
	}
	if c.state != Closed {
		return Pass{}, c.refusal
	}
	return Pass{s, c, c.opened}, nil
}

// End counts the failure of the operation, nil if it succeeded. It is to be called once.
func (p Pass) End(failure error) {
	if p.set == nil {
		return
	}
	p.set.end(p.circuit, p.opened, failure)
	if failure != nil {
		p.set.report()
	}
}

// end counts the result of an operation, or of a probe, unless the circuit has opened since it
// began.
func (s *Set) end(c *circuit, opened int, failure error) {
	var refusal error
	if failure != nil {
		refusal = fmt.Errorf("%w: %v", ErrOpen, failure)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if refusal != nil {
		c.refusal = refusal
	}
	switch {
	case c.opened != opened:
	case failure != nil:
		c.failures++
		if c.state == HalfOpen || c.failures >= s.cfg.Failures {
			s.change(c, Open)
		}
	default:
		c.failures = 0
		if c.state == HalfOpen {
			s.change(c, Closed)
		}
	}
}

// change takes a circuit to another state. It is called with mu held.
func (s *Set) change(c *circuit, state State) {
	c.state = state
	if state == Open {
		c.opened++
		if !s.closed {
			c.timer = time.AfterFunc(s.cfg.Open, func() { s.probe(c) })
		}
	}
	worst := Closed
	for _, other := range s.circuits {
		worst = max(worst, other.state)
	}
	s.changes = append(s.changes, Change{c.endpoint, state, worst})
}

// probe finds out whether the endpoint answers again.
func (s *Set) probe(c *circuit) {
	s.mu.Lock()
	s.change(c, HalfOpen)
	opened := c.opened
	s.mu.Unlock()
	s.report()
	s.end(c, opened, s.cfg.Probe(c.endpoint, c.key))
	s.report()
}

// report reports the changes that were not reported yet.
func (s *Set) report() {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	s.mu.Lock()
	changes := s.changes
	s.changes = nil
	s.mu.Unlock()
	if s.cfg.Changed == nil {
		return
	}
	for _, ch := range changes {
		s.cfg.Changed(ch)
	}
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
