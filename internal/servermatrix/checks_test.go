package servermatrix_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// patience bounds the wait for an expected step.
const patience = 30 * time.Second

// A subject is what is tested: a server, or a front end before one.
type subject struct {
	t *testing.T
	// connect makes a client, as another process would.
	connect func() redis.UniversalClient
	// direct is a client of the server itself, which is another program.
	direct redis.UniversalClient
}

// An outcome is a cell of the table.
type outcome struct {
	works bool
	notes []string // what it does without, or why it does not work
}

// A check is a column of the table. It returns an error if the feature does not work.
type check struct {
	name string
	run  func(context.Context, *trial) error
}

var checks = []check{
	{"loads", checkLoads},
	{"writes", checkWrites},
	{"many keys", checkMany},
	{"tags, Clear", checkTags},
	{"patterns", checkPatterns},
	{"local tier", checkLocal},
	{"Tracking", checkTracking},
	{"write-behind", checkBehind},
	{"full memory", checkFull},
}

// trial is one run of a check.
type trial struct {
	*subject
	*log
	prefix string
}

// log collects what caches report, each line once.
type log struct {
	mu    sync.Mutex
	notes []string
}

func (l *log) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (l *log) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *log) WithGroup(string) slog.Handler                    { return l }

func (l *log) Handle(_ context.Context, r slog.Record) error {
	text := strings.TrimPrefix(r.Message, "cache: ")
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "problem" {
			text = a.Value.String()
		}
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.notes, text) {
		l.notes = append(l.notes, text)
	}
	return nil
}

func (l *log) list() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(slices.Values(l.notes))
}

func (l *log) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes = nil
}

func (l *log) has(text string) bool {
	return slices.ContainsFunc(l.list(), func(s string) bool { return strings.Contains(s, text) })
}

// moved is the part of an error that is another one each time.
var moved = regexp.MustCompile(`MOVED \d+ [\d.:]+\d`)

// run carries out a check.
func (s *subject) run(c check, prefix string) outcome {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	defer cancel()
	t := &trial{subject: s, log: &log{}, prefix: prefix}
	err := c.run(ctx, t)
	if ctx.Err() != nil {
		s.t.Errorf("%s: it did not end: %v", c.name, err)
	}
	var several *cache.BatchError[string]
	if errors.As(err, &several) {
		err = several.Unwrap()[0]
	}
	if err != nil {
		return outcome{notes: []string{moved.ReplaceAllString(err.Error(), "MOVED …")}}
	}
	return outcome{works: true, notes: t.list()}
}

// open makes a cache as a process of its own would. It is closed at the end of the test.
func (t *trial) open(src cache.Source[string, string], opts ...cache.Option) *cache.Cache[string, string] {
	t.t.Helper()
	all := append([]cache.Option{
		cache.WithPrefix(t.prefix), cache.WithLogger(slog.New(t.log)), cache.WithTimeout(patience / 3), cache.WithBreaker(1000, time.Millisecond),
	}, opts...)
	c, err := cache.NewFrom(t.connect(), "orders", src, all...)
	if err != nil {
		t.t.Fatal(err)
	}
	t.t.Cleanup(func() { c.Close() })
	return c
}

func expect[T comparable](what string, got, want T, err error) error {
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s: %v instead of %v", what, got, want)
	}
	return nil
}

// until calls f until it returns nil.
func until(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// One process loads, and another one finds what it has stored.
func checkLoads(ctx context.Context, t *trial) error {
	var loads atomic.Int64
	src := cache.Source[string, string]{Load: func(context.Context, string) (string, error) {
		return fmt.Sprint("v", loads.Add(1)), nil
	}}
	a, b := t.open(src), t.open(src)
	for _, c := range []*cache.Cache[string, string]{a, b, a} {
		v, err := c.Get(ctx, "k")
		if err != nil {
			return err
		}
		if v != "v1" {
			return cmp.Or(t.refusal(ctx, a), errors.New("what is loaded is not kept"))
		}
	}
	return nil
}

// refusal returns the error of a write.
func (t *trial) refusal(ctx context.Context, c *cache.Cache[string, string]) error {
	return c.Set(ctx, "refused", "v")
}

func checkWrites(ctx context.Context, t *trial) error {
	a, b := t.open(cache.Source[string, string]{}), t.open(cache.Source[string, string]{})
	if err := a.Set(ctx, "k", "v"); err != nil {
		return err
	}
	v, err := b.Get(ctx, "k")
	if err := expect("Get", v, "v", err); err != nil {
		return err
	}
	ok, err := b.SetIfAbsent(ctx, "k", "w")
	if err := expect("SetIfAbsent", ok, false, err); err != nil {
		return err
	}
	ok, err = b.SetIfAbsent(ctx, "l", "w")
	if err := expect("SetIfAbsent", ok, true, err); err != nil {
		return err
	}
	v, err = b.Update(ctx, "k", func(old string, _ bool) (string, error) { return old + "+", nil })
	if err := expect("Update", v, "v+", err); err != nil {
		return err
	}
	if err := a.Delete(ctx, "k"); err != nil {
		return err
	}
	_, err = b.Get(ctx, "k")
	return expect("Get after Delete", errors.Is(err, cache.ErrMiss), true, nil)
}

func checkMany(ctx context.Context, t *trial) error {
	a, b := t.open(cache.Source[string, string]{}), t.open(cache.Source[string, string]{})
	vals := map[string]string{}
	var keys []string
	for i := range 20 {
		k := fmt.Sprint("k", i)
		keys, vals[k] = append(keys, k), fmt.Sprint("v", i)
	}
	if err := a.SetMany(ctx, vals); err != nil {
		return err
	}
	got, err := b.GetMany(ctx, append(keys, "none"))
	if err != nil {
		return err
	}
	for k, v := range vals {
		if got[k] != v {
			return fmt.Errorf("GetMany: %q instead of %q", got[k], v)
		}
	}
	if err := a.Delete(ctx, keys[:10]...); err != nil {
		return err
	}
	if err := a.Invalidate(ctx, keys[10:]...); err != nil {
		return err
	}
	got, err = b.GetMany(ctx, keys)
	return expect("GetMany after Delete", len(got), 0, err)
}

func checkTags(ctx context.Context, t *trial) error {
	a, b := t.open(cache.Source[string, string]{}), t.open(cache.Source[string, string]{})
	for k, opts := range map[string][]cache.WriteOption{"red": {cache.Tags("red")}, "blue": {cache.Tags("blue")}, "plain": nil} {
		if err := a.Set(ctx, k, "v", opts...); err != nil {
			return err
		}
	}
	left := func() string {
		got, _ := b.GetMany(ctx, []string{"red", "blue", "plain"})
		var names []string
		for k := range got {
			names = append(names, k)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	if err := expect("before", left(), "blue plain red", nil); err != nil {
		return err
	}
	if err := expect("after InvalidateTags", "", "", a.InvalidateTags(ctx, "red")); err != nil {
		return err
	}
	if err := until(ctx, func() error { return expect("after InvalidateTags", left(), "blue plain", nil) }); err != nil {
		return err
	}
	if err := a.Clear(ctx); err != nil {
		return err
	}
	return until(ctx, func() error { return expect("after Clear", left(), "", nil) })
}

func checkPatterns(ctx context.Context, t *trial) error {
	a, b := t.open(cache.Source[string, string]{}), t.open(cache.Source[string, string]{})
	if err := a.SetMany(ctx, map[string]string{"a1": "v", "a2": "v", "b1": "v"}); err != nil {
		return err
	}
	n, err := a.InvalidatePattern(ctx, "a*")
	if err := expect("InvalidatePattern", n, 2, err); err != nil {
		return err
	}
	got, err := b.GetMany(ctx, []string{"a1", "a2", "b1"})
	return expect("GetMany", len(got), 1, err)
}

// noLocal are the reports after which a process does without its local tier.
const noLocal = "local tier bypassed"

// The local tier of one process answers, and does not once another process has written.
func checkLocal(ctx context.Context, t *trial) error {
	a, b := t.open(cache.Source[string, string]{}), t.openLocal(invalidate.Broadcast())
	for i := range 3 {
		v := fmt.Sprint("v", i)
		if err := a.Set(ctx, "k", v); err != nil {
			return err
		}
		if err := t.answers(ctx, b, v); err != nil {
			return err
		}
	}
	return nil
}

// What another program removes is noticed; where keys can't be tracked, what processes write is.
func checkTracking(ctx context.Context, t *trial) error {
	a, b := t.open(cache.Source[string, string]{}), t.openLocal(invalidate.Tracking())
	for i := range 3 {
		v := fmt.Sprint("v", i)
		if err := a.Set(ctx, "k", v); err != nil {
			return err
		}
		if err := t.answers(ctx, b, v); err != nil {
			return err
		}
	}
	if len(t.list()) > 0 {
		return nil
	}
	if err := t.direct.Del(ctx, b.RedisKey("k")).Err(); err != nil {
		return err
	}
	return until(ctx, func() error {
		_, err := b.Get(ctx, "k")
		return expect("Get after another program's DEL", errors.Is(err, cache.ErrMiss), true, nil)
	})
}

func (t *trial) openLocal(by invalidate.Transport) *cache.Cache[string, string] {
	return t.open(cache.Source[string, string]{}, cache.WithStrategy(strategy.LRU(100)), cache.WithTransport(by))
}

// answers waits until c answers want, and does so from its local tier, or reports that it does
// without that.
func (t *trial) answers(ctx context.Context, c *cache.Cache[string, string], want string) error {
	hits := c.Metrics().LocalHits
	return until(ctx, func() error {
		got, err := c.Get(ctx, "k")
		if err := expect("Get", got, want, err); err != nil {
			hits = c.Metrics().LocalHits
			return err
		}
		m := c.Metrics()
		if m.LocalHits > hits || t.has(noLocal) && m.Listener == metrics.Down {
			return nil
		}
		return errors.New("the local tier does not answer")
	})
}

func checkBehind(ctx context.Context, t *trial) error {
	var mu sync.Mutex
	stored := map[string]string{}
	src := cache.Source[string, string]{
		Store: func(_ context.Context, k, v string) error {
			mu.Lock()
			defer mu.Unlock()
			stored[k] = v
			return nil
		},
		Delete: func(context.Context, string) error { return nil },
	}
	a, b := t.open(src, cache.WithStrategy(strategy.WriteBehind())), t.open(src, cache.WithStrategy(strategy.WriteBehind()))
	if err := a.Set(ctx, "k", "v"); err != nil {
		return err
	}
	v, err := b.Get(ctx, "k")
	if err := expect("Get", v, "v", err); err != nil {
		return err
	}
	if err := a.Sync(ctx); err != nil {
		return err
	}
	return until(ctx, func() error {
		mu.Lock()
		defer mu.Unlock()
		return expect("the source", stored["k"], "v", nil)
	})
}

// Invalidations are carried out although memory is full and nothing is evicted.
func checkFull(ctx context.Context, t *trial) (err error) {
	c := t.open(cache.Source[string, string]{})
	if err := c.SetMany(ctx, map[string]string{"k": "v", "l": "v"}, cache.Tags("tag")); err != nil {
		return err
	}
	if err := t.limit(ctx, "1"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.limit(context.WithoutCancel(ctx), "0")) }()
	if err := until(ctx, func() error { // it may take a moment until the limit is noticed
		if c.Set(ctx, "m", "v") == nil {
			return errors.New("a write is accepted although memory is full")
		}
		return nil
	}); err != nil {
		return err
	}
	t.log.clear() // the refused write
	for _, f := range []func() error{
		func() error { return c.Delete(ctx, "l") },
		func() error { return c.InvalidateTags(ctx, "tag") },
		func() error { return c.Clear(ctx) },
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// limit sets the limit of memory, at which nothing is evicted.
func (t *trial) limit(ctx context.Context, bytes string) error {
	return errors.Join(t.direct.ConfigSet(ctx, "maxmemory-policy", "noeviction").Err(), t.direct.ConfigSet(ctx, "maxmemory", bytes).Err())
}
