package memory_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/logonce"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
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

// A Redis that refuses writes and answers reads is not unavailable, and what could not be
// told is not news at each request.
func TestAFullRedisDoesNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		log := &lineCount{t: t, lines: map[string]int{}, last: map[string]time.Time{}}
		w := &wire{Memory: storetest.NewMemory()}
		c := newCache(t, w, cache.Source[string, string]{}, cache.WithLogger(slog.New(log)), cache.WithStrategy(strategy.LRU(10), strategy.Jitter(0)))
		if err := c.Set(ctx, "k", "v"); err != nil {
			t.Fatal(err)
		}
		w.set(losing(serverError("OOM command not allowed"), []string{"set"}), nil)
		for range 1000 {
			if err := c.Set(ctx, "other", "v"); !errors.Is(err, cache.ErrUnavailable) {
				t.Fatal(err)
			}
			if v, err := c.Get(ctx, "k", cache.SkipLocal()); v != "v" || err != nil {
				t.Fatal(v, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		w.heal()
		for range 10 {
			if err := c.Set(ctx, "other", "v"); err != nil {
				t.Error(err)
			}
		}
		if log.count("refuses a kind") != 1 || log.count("accepts again") != 1 || log.count("unavailable") != 0 || log.count("invalidations delivered") != 1 {
			t.Errorf("%v", log.lines)
		}
	})
}
