package outbox

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// reporter logs conditions once, when they begin and when they end, and events once a
// minute at most. The log belongs to the program: it is called without a lock.
type reporter struct {
	log *slog.Logger // nil: slog.Default()

	mu     sync.Mutex // guards the fields below
	open   map[condition]bool
	events map[string]*event
}

// condition is a message about one cache, or about none.
type condition struct{ text, cache string }

type event struct {
	last    time.Time
	leftOut int
}

const eventEvery = time.Minute

func (r *reporter) write(level slog.Level, text string, attrs ...slog.Attr) {
	log := r.log
	if log == nil {
		log = slog.Default()
	}
	defer func() { _ = recover() }() // a handler that panics does not end the relay
	log.LogAttrs(context.Background(), level, text, attrs...)
}

// begin logs a condition, unless it has begun before.
func (r *reporter) begin(level slog.Level, text, cache string, attrs ...slog.Attr) {
	r.mu.Lock()
	c := condition{text, cache}
	known := r.open[c]
	if r.open == nil {
		r.open = map[condition]bool{}
	}
	r.open[c] = true
	r.mu.Unlock()
	if !known {
		r.write(level, text, attrs...)
	}
}

// end logs that a condition has ended, if it has begun.
func (r *reporter) end(text, cache, over string) {
	r.mu.Lock()
	c := condition{text, cache}
	known := r.open[c]
	delete(r.open, c)
	r.mu.Unlock()
	if !known {
		return
	}
	if cache == "" {
		r.write(slog.LevelInfo, over)
		return
	}
	r.write(slog.LevelInfo, over, slog.String("cache", cache))
}

// once logs an event, with the number of those of its text that were left out.
func (r *reporter) once(level slog.Level, text string, attrs ...slog.Attr) {
	r.mu.Lock()
	if r.events == nil {
		r.events = map[string]*event{}
	}
	e := r.events[text]
	if e == nil {
		e = &event{}
		r.events[text] = e
	}
	now := time.Now()
	if !e.last.IsZero() && now.Sub(e.last) < eventEvery {
		e.leftOut++
		r.mu.Unlock()
		return
	}
	if e.leftOut > 0 {
		attrs = append(attrs, slog.Int("left_out", e.leftOut))
	}
	e.last, e.leftOut = now, 0
	r.mu.Unlock()
	r.write(level, text, attrs...)
}
