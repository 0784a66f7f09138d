package writebehind_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/writebehind"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func noMaintenance() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		logging.Disable()
		runChild(text)
	}
	redistest.Main(m)
}

// source is what the queues of a test write to. It remembers everything.
type source struct {
	mu      sync.Mutex
	start   time.Time
	has     map[string]string
	calls   []call
	refuses func(e writebehind.Entry) error                      // nil: nothing
	before  func(ctx context.Context, batch []writebehind.Entry) // nil: nothing; not under mu
}

type call struct {
	at    time.Duration // since the start of the test
	batch []string      // "key=value", or "key" for a Delete
}

func newSource() *source { return &source{start: time.Now(), has: map[string]string{}} }

func (s *source) apply(ctx context.Context, batch []writebehind.Entry) []error {
	if s.before != nil {
		s.before(ctx, batch)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := call{at: time.Since(s.start)}
	errs := make([]error, len(batch))
	for i, e := range batch {
		w := e.Key
		if !e.Delete {
			w += "=" + string(e.Value)
		}
		c.batch = append(c.batch, w)
		if s.refuses != nil {
			errs[i] = s.refuses(e)
		}
		switch {
		case errs[i] != nil:
		case e.Delete:
			delete(s.has, e.Key)
		default:
			s.has[e.Key] = string(e.Value)
		}
	}
	s.calls = append(s.calls, c)
	return errs
}

func (s *source) value(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has[key]
}

// all returns what the source has.
func (s *source) all() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.has)
}

// refuse changes what the source refuses.
func (s *source) refuse(f func(writebehind.Entry) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses = f
}

// log returns the calls so far, as "at: batch", and forgets them.
func (s *source) log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, c := range s.calls {
		out = append(out, fmt.Sprintf("%v: %v", c.at, c.batch))
	}
	s.calls = nil
	return out
}

// process starts a queue as a process would have it. Tests change what they need.
func process(t *testing.T, st store.Queue, s *source, change ...func(*writebehind.Config)) *writebehind.Queue {
	t.Helper()
	cfg := writebehind.Config{
		Queue: st, Prefix: "p", Name: "users", Apply: s.apply,
		BatchSize: 100, BatchDelay: 100 * time.Millisecond, MaxAttempts: 10, Rand: func() float64 { return 0 },
	}
	for _, f := range change {
		f(&cfg)
	}
	q, err := writebehind.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return q
}

func set(key string, value any) writebehind.Write {
	return writebehind.Write{Key: key, Value: []byte(fmt.Sprint(value))}
}

func enqueue(t *testing.T, q *writebehind.Queue, writes ...writebehind.Write) {
	t.Helper()
	if err := errors.Join(q.Enqueue(t.Context(), writes)...); err != nil {
		t.Fatal(err)
	}
}

// keysOf returns n keys of one partition.
func keysOf(partition, n int) []string {
	var keys []string
	for i := 0; len(keys) < n; i++ {
		if k := fmt.Sprint("k", i); writebehind.Partition(k) == partition {
			keys = append(keys, k)
		}
	}
	return keys
}
