package engine

import (
	"fmt"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/breaker"
	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/logonce/logoncetest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// For ten minutes, each kind of event comes and goes ten times a second. No kind is logged
// more than once a minute, and nothing ends that is not said to have begun.
func TestNothingFloodsTheLog(t *testing.T) {
	for name, tt := range map[string]struct {
		event      func(c *remote, i int)
		begin, end string // what is logged of it; end is "" if it has none
	}{
		"a network that comes and goes": {func(c *remote, i int) {
			c.observe(t.Context(), client.Observation{Op: "get", Keys: 1, Err: []error{io.ErrUnexpectedEOF, nil}[i%2]})
		}, "Redis is unavailable", "available again"},
		"a server that is not ready": {func(c *remote, i int) {
			c.observe(t.Context(), client.Observation{Op: "set", Keys: 1, Err: []error{storetest.ServerError("LOADING Redis is loading"), nil, nil}[i%3]})
		}, "Redis is unavailable", "available again"},
		"a full server": {func(c *remote, i int) {
			if i%2 == 0 {
				c.observe(t.Context(), client.Observation{Op: "set", Keys: 1, Err: storetest.ServerError("OOM command not allowed when used memory > 'maxmemory'.")})
			} else {
				c.observe(t.Context(), client.Observation{Op: "get", Keys: 1, Err: nil})
			}
		}, "refuses a kind of operation", "accepts again"},
		"a server that can't always save": {func(c *remote, i int) {
			c.observe(t.Context(), client.Observation{Op: "set", Keys: 1, Err: []error{storetest.ServerError("MISCONF Redis is configured to save"), nil}[i%2]})
		}, "refuses a kind of operation", "accepts again"},
		"a circuit": {func(c *remote, i int) {
			state := []breaker.State{breaker.Open, breaker.HalfOpen, breaker.Closed}[i%3]
			c.circuitChanged(breaker.Change{Endpoint: fmt.Sprint("node", i%2), State: state, Worst: state})
		}, "breaker opened", "breaker closed"},
		"sessions": {func(c *remote, i int) {
			(&events{remote: c}).ConnectionChanged(i%2 == 1, errFlaky)
		}, "notifications lost", "notifications restored"},
		"a tier that goes on": {func(c *remote, i int) { c.reports.OutageTier(i%2 == 0) }, "outage: the local tier", "outage over"},
		"what is told later": {func(c *remote, i int) {
			e := &events{remote: c}
			e.Overflowed()
			e.Retried(3)
		}, "too many pending", ""},
		"loads that can't be kept": {func(c *remote, i int) { c.notKept(errs.ErrTooLarge) }, "can't be kept", ""},
		"a source that comes and goes": {func(c *remote, i int) {
			c.reports.Applied(0, i%2 == 0, errFlaky)
		}, "does not take queued writes", "takes queued writes again"},
		"dead letters": {func(c *remote, i int) { c.reports.Applied(2, true, errFlaky) }, "dead letters", ""},
		"a queue's own": {func(c *remote, i int) {
			c.observe(t.Context(), client.Observation{Op: "fetch", Keys: 1, Err: store.ErrNotOwner})
		}, "", ""},
		"closed": {func(c *remote, i int) {
			c.observe(t.Context(), client.Observation{Op: "get", Keys: 1, Err: client.ErrClosed})
		}, "", ""},
		"refused by the circuit": {func(c *remote, i int) {
			c.observe(t.Context(), client.Observation{Op: "get", Keys: 1, Err: client.ErrOpen})
		}, "", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			log := logoncetest.New(t)
			c := testCache[string](t, storetest.NewMemory(), func(cfg *Config) { cfg.Log = slog.New(log) })
			const minutes = 10
			for i := range minutes * 600 {
				tt.event(c.backend.(*remote), i)
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(time.Minute)
			begun := 0
			if tt.begin != "" {
				begun = log.Count(tt.begin)
				if begun == 0 || begun > minutes {
					t.Errorf("%s: %d beginnings: %v", name, begun, log.Kinds())
				}
			} else if len(log.Kinds()) > 0 {
				t.Errorf("%s: %v", name, log.Kinds())
			}
			if tt.end != "" && log.Count(tt.end) > begun {
				t.Errorf("%s: %v", name, log.Kinds())
			}
			if len(log.Kinds()) > 2 {
				t.Errorf("%s: %v", name, log.Kinds())
			}
		})
	}
}
