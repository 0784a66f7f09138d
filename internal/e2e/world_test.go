package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/redis/go-redis/v9"
)

// patience bounds what a test waits for that must come. It is far more than is needed,
// for machines that have other things to do.
const patience = 30 * time.Second

// staleness is how old a value may be at most that a read returns: the published bound.
const staleness = 2 * time.Second

// awaits calls f until it returns nil.
func awaits(t testing.TB, what string, f func() error) {
	t.Helper()
	for pause, end := time.Millisecond, time.Now().Add(patience); ; pause = min(2*pause, 20*time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
		time.Sleep(pause)
	}
}

// sideBySide runs f as subtests that all run at the same time: they wait most of theirs.
// How many run with t.Parallel depends on the machine.
func sideBySide(t *testing.T, names []string, f func(t *testing.T, name string)) {
	t.Helper()
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() { t.Run(name, func(t *testing.T) { f(t, name) }) })
	}
	all.Wait()
}

func names[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// world is a source of numbers, and remembers when which of them was written. A write
// counts in the source first, so what a reader may get is never more than the source
// has, and never less than what was acknowledged so long ago that everybody must know.
type world struct {
	t testing.TB

	mu     sync.Mutex
	latest map[string]int64     // in the source
	ids    map[string]int64     // of keys whose numbers say which key they are of
	acked  map[string][]written // oldest first
	wrong  int
}

type written struct {
	number int64
	at     time.Time // of the acknowledgement
}

func newWorld(t testing.TB) *world {
	return &world{t: t, latest: map[string]int64{}, ids: map[string]int64{}, acked: map[string][]written{}}
}

// node makes a cache in front of the world with a client of its own, as another process
// would have. Keys that contain "tag" have a tag.
func (w *world) node(rdb redis.UniversalClient, opts ...cache.Option) *cache.Cache[string, int64] {
	w.t.Helper()
	c, err := cache.NewFrom(rdb, "n", cache.Source[string, int64]{Load: w.load, Tags: tagsOf},
		append([]cache.Option{discard}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	// The first operation waits until the node hears.
	if _, err := c.Peek(context.Background(), "nothing"); !errors.Is(err, cache.ErrMiss) {
		w.t.Fatal(err)
	}
	return c
}

func tagsOf(key string, _ int64) []string {
	if strings.Contains(key, "tag") {
		return []string{"tag of " + key}
	}
	return nil
}

func (w *world) load(_ context.Context, key string) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latest[key], nil
}

// number has the numbers of a key begin with its id, so that it is seen if one is another key's.
func (w *world) number(key string, id int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids[key], w.latest[key] = id, id<<32
}

// count writes in the source only.
func (w *world) count(key string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.latest[key]++
	return w.latest[key]
}

// note notes that everybody can know of a number from now on. It forgets those that later ones
// stand for.
func (w *world) note(key string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := append(w.acked[key], written{n, time.Now()})
	for len(a) > 1 && time.Since(a[1].at) > 2*patience {
		a = a[1:]
	}
	w.acked[key] = a
}

// write writes the next number through a cache, in the way that the key's name says.
// A key has one writer at a time.
func (w *world) write(ctx context.Context, c *cache.Cache[string, int64], key string) (int64, error) {
	n := w.count(key)
	var err error
	switch {
	case strings.Contains(key, "tag"):
		err = c.InvalidateTags(ctx, tagsOf(key, 0)...)
	case strings.Contains(key, "set"):
		err = c.Set(ctx, key, n)
	case strings.Contains(key, "clear"):
		err = c.Clear(ctx)
	default:
		err = c.Invalidate(ctx, key)
	}
	return n, err
}

// check checks what a read returned that began at a time.
func (w *world) check(who, key string, got int64, err error, began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failLocked("%s: a read of %s failed: %v", who, key, err)
		return
	}
	if id, ok := w.ids[key]; ok && got>>32 != id {
		w.failLocked("%s: the value of %s is %d, which is another key's", who, key, got)
	}
	if got > w.latest[key] {
		w.failLocked("%s: %s is %d, and the source has %d", who, key, got, w.latest[key])
	}
	for _, a := range w.acked[key] {
		if age := began.Sub(a.at); a.number > got && age > staleness {
			w.failLocked("%s: %s is %d, %v after %d was acknowledged", who, key, got, age, a.number)
			return
		}
	}
}

func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(format, args...)
}

// failLocked reports the first of many.
func (w *world) failLocked(format string, args ...any) {
	if w.wrong++; w.wrong <= 5 {
		w.t.Errorf(format, args...)
	}
}

// usual are keys of every kind.
var usual = []string{"set 1", "set 2", "invalidate 1", "invalidate 2", "tag 1", "tag 2", "clear"}

// live has a node write and others read until it is told to stop. Every read must
// succeed and keep the bound. What the writer could not write counts for nothing.
// noted, if not nil, is called after each acknowledgement, which counts if it returns
// true.
func (w *world) live(writer *cache.Cache[string, int64], readers map[string]*cache.Cache[string, int64], noted func() bool) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { w.writes(ctx, writer, usual, noted) })
	for who, c := range readers {
		all.Go(func() { w.reads(ctx, who, c, usual) })
	}
	return func() { // may be called again
		cancel()
		all.Wait()
	}
}

// writes has a node write until ctx ends. Its own reads must not be older than what it has
// written at all.
func (w *world) writes(ctx context.Context, c *cache.Cache[string, int64], keys []string, noted func() bool) {
	for i := 0; ctx.Err() == nil; i++ {
		key := keys[i%len(keys)]
		n, err := w.write(context.Background(), c, key)
		if err == nil {
			began := time.Now()
			got, err := c.Get(context.Background(), key)
			w.check("the writer", key, got, err, began)
			if err == nil && got < n {
				w.fail("the writer: %s is %d after it wrote %d", key, got, n)
			}
			if noted == nil || noted() {
				w.note(key, n)
			}
		}
		pause(ctx, 2*time.Millisecond)
	}
}

func (w *world) reads(ctx context.Context, who string, c *cache.Cache[string, int64], keys []string, opts ...cache.ReadOption) {
	for ctx.Err() == nil {
		for _, key := range keys {
			began := time.Now()
			got, err := c.Get(context.Background(), key, opts...)
			w.check(who, key, got, err, began)
		}
		pause(ctx, 500*time.Microsecond)
	}
}

// pause leaves the machine to others for a moment.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// settle waits until every cache sees the latest of everything, in its local tier if it
// has one, and has told what it had to tell.
func (w *world) settle(caches ...*cache.Cache[string, int64]) {
	w.t.Helper()
	ctx := context.Background()
	for i, c := range caches {
		awaits(w.t, fmt.Sprintf("cache %d to have told everything", i), func() error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return c.Sync(ctx)
		})
	}
	for i, c := range caches {
		for _, key := range usual {
			awaits(w.t, fmt.Sprintf("cache %d to see the latest of %s", i, key), func() error {
				want, _ := w.load(ctx, key)
				if got, err := c.Get(ctx, key); err != nil || got != want {
					return fmt.Errorf("%d, %v, and not %d", got, err, want)
				}
				return nil
			})
		}
	}
}
