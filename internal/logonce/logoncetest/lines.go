// Package logoncetest checks logs whose kinds of lines are limited by [logonce].
package logoncetest

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/logonce"
)

// Lines is a [slog.Handler] that counts lines by level and message. Of a kind above
// [slog.LevelInfo], a second line within [logonce.Every] fails the test.
type Lines struct {
	t     *testing.T
	mu    sync.Mutex
	lines map[string]int
	last  map[string]time.Time
}

// New returns a handler of which the counts are zero.
func New(t *testing.T) *Lines {
	return &Lines{t: t, lines: map[string]int{}, last: map[string]time.Time{}}
}

// Enabled implements [slog.Handler]: all levels are.
func (l *Lines) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements [slog.Handler]: attributes do not matter.
func (l *Lines) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements [slog.Handler].
func (l *Lines) WithGroup(string) slog.Handler { return l }

// Handle implements [slog.Handler].
func (l *Lines) Handle(_ context.Context, r slog.Record) error {
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

// Count returns how many lines contain a text.
func (l *Lines) Count(text string) int {
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

// Kinds returns how many lines there are of each level and message.
func (l *Lines) Kinds() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.lines)
}
