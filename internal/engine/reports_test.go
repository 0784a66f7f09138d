package engine

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/breaker"
	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/logonce"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// serverError is an answer of Redis.
type serverError string

func (e serverError) Error() string { return string(e) }
func (serverError) RedisError()     {}

// lineCount counts the lines of a log by level and message, and checks that of one kind there
// is one a minute at most.
type lineCount struct {
	t     *testing.T
	mu    sync.Mutex
	lines map[string]int
	last  map[string]time.Time
}

func (l *lineCount) Enabled(context.Context, slog.Level) bool { return true }
func (l *lineCount) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lineCount) WithGroup(string) slog.Handler            { return l }

func (l *lineCount) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	kind, now := r.Level.String()+" "+r.Message, time.Now()
	if last, ok := l.last[kind]; ok && r.Level > slog.LevelInfo && now.Sub(last) < logonce.Every {
		l.t.Errorf("%q again after %v", kind, now.Sub(last))
	}
	l.lines[kind]++
	l.last[kind] = now
	return nil
}

// count is how many lines have a text.
func (l *lineCount) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for kind, lines := range l.lines {
		if strings.Contains(kind, text) {
			n += lines
		}
	}
	return n
}

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
			c.observe(t.Context(), client.Observation{Op: "set", Keys: 1, Err: []error{serverError("LOADING Redis is loading"), nil, nil}[i%3]})
		}, "Redis is unavailable", "available again"},
		"a full server": {func(c *remote, i int) {
			if i%2 == 0 {
				c.observe(t.Context(), client.Observation{Op: "set", Keys: 1, Err: serverError("OOM command not allowed when used memory > 'maxmemory'.")})
			} else {
				c.observe(t.Context(), client.Observation{Op: "get", Keys: 1, Err: nil})
			}
		}, "refuses a kind of operation", "accepts again"},
		"a server that can't always save": {func(c *remote, i int) {
			c.observe(t.Context(), client.Observation{Op: "set", Keys: 1, Err: []error{serverError("MISCONF Redis is configured to save"), nil}[i%2]})
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
			log := &lineCount{t: t, lines: map[string]int{}, last: map[string]time.Time{}}
			c := testCache[string](t, storetest.NewMemory(), func(cfg *Config) { cfg.Log = slog.New(log) })
			const minutes = 10
			for i := range minutes * 600 {
				tt.event(c.backend.(*remote), i)
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(time.Minute)
			begun := 0
			if tt.begin != "" {
				begun = log.count(tt.begin)
				if begun == 0 || begun > minutes {
					t.Errorf("%s: %d beginnings: %v", name, begun, log.lines)
				}
			} else if len(log.lines) > 0 {
				t.Errorf("%s: %v", name, log.lines)
			}
			if tt.end != "" && log.count(tt.end) > begun {
				t.Errorf("%s: %v", name, log.lines)
			}
			if len(log.lines) > 2 {
				t.Errorf("%s: %v", name, log.lines)
			}
		})
	}
}
