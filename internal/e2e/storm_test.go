package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
)

// Every trouble that a network and a server can have, one after the other, while all
// caches are in use: every read succeeds, none is wrong or too old, nobody waits for what
// does not answer once the circuit is open, and when it is over, all is as it was.
func TestStorms(t *testing.T) {
	redistest.Long(t)
	redistest.Require(t)
	where := names(sites)
	if underRace {
		// The detector makes callers so slow that few of them meet. One site, one after
		// the other, shows it what all of them do.
		where = []string{"single"}
	}
	sideBySide(t, where, func(t *testing.T, name string) {
		s := newStorm(t, name)
		stop := s.rage()
		defer func() { stop() }()
		s.recover()
		stop()
		s.calm()
		before, _ := s.goroutines()
		if before < 10 {
			t.Fatalf("%d goroutines: they are not seen", before)
		}
		for _, trouble := range names(troubles) {
			t.Log(trouble)
			stop = s.rage()
			s.endure(trouble)
			s.recover()
			stop()
			s.calm()
			s.flat(before)
			if t.Failed() {
				t.Fatalf("with the trouble %q", trouble)
			}
		}
	})
}

// endure lets one trouble come and go.
func (s *storm) endure(name string) {
	s.t.Helper()
	was := map[string]metrics.Snapshot{}
	for who, c := range s.far {
		was[who] = c.Metrics()
	}
	ctx, end := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- troubles[name].come(ctx, rand.New(rand.NewPCG(1, 2)), s.site) }()
	over := func() {
		end()
		err := <-done
		s.site.heal()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	if !troubles[name].silent {
		pause(s.t.Context(), 700*time.Millisecond)
		over()
		return
	}
	defer over()
	defer func() {
		if s.t.Failed() {
			_, all := s.goroutines()
			s.t.Log(all)
		}
	}()
	for who, c := range s.far {
		awaits(s.t, who+": many answers while Redis gives none", func() error {
			m := c.Metrics()
			if n := m.Fallbacks - was[who].Fallbacks; n < hardly || m.Breaker == metrics.Closed {
				return fmt.Errorf("%d are there, %d operations failed, the circuit is %v", n, m.RemoteErrors-was[who].RemoteErrors, m.Breaker)
			}
			return nil
		})
	}
}

// hardly is more answers than all callers of a cache could get in a test's patience if
// each of these took them the timeout.
const hardly = (stormCallers + 1) * uint64(patience/stormTimeout) * 3 / 2
