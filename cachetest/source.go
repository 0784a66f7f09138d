package cachetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/delqhi/cache"
)

// Source is a system of record in memory: a stand-in for a database that counts what it is
// asked for, and fails, hangs or is slow on demand. Its methods Load, LoadMany, Store,
// StoreMany and Delete are the functions of a cache.Source; [Source.ReadOnly] and
// [Source.ReadWrite] have them together. Make one with [NewSource]; all methods are safe for
// concurrent use. Values are handed out as they were given, not copied.
type Source[K comparable, V any] struct {
	mu      sync.Mutex // guards what follows
	rows    map[K]V
	err     error       // of every call
	failing map[K]error // of calls for these keys
	delay   time.Duration
	held    chan struct{} // not nil: calls wait until it is closed

	loads   counts[K]
	stores  counts[K]
	deletes counts[K]
}

// NewSource returns a source with a copy of rows, which may be nil.
func NewSource[K comparable, V any](rows map[K]V) *Source[K, V] {
	s := &Source[K, V]{rows: map[K]V{}, failing: map[K]error{}}
	maps.Copy(s.rows, rows)
	return s
}

// ReadOnly returns the source for a cache that loads from it.
func (s *Source[K, V]) ReadOnly() cache.Source[K, V] {
	return cache.Source[K, V]{Load: s.Load, LoadMany: s.LoadMany}
}

// ReadWrite returns the source for a cache that also writes to it: through, unless the cache
// has another write strategy.
func (s *Source[K, V]) ReadWrite() cache.Source[K, V] {
	return cache.Source[K, V]{Load: s.Load, LoadMany: s.LoadMany, Store: s.Store, StoreMany: s.StoreMany, Delete: s.Delete}
}

// Put changes a row behind the back of all caches, as another program does. It is not counted.
func (s *Source[K, V]) Put(key K, val V) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[key] = val
}

// Remove removes rows behind the back of all caches. It is not counted.
func (s *Source[K, V]) Remove(keys ...K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		delete(s.rows, k)
	}
}

// Row returns what the source has of key. It is not counted, and never fails.
func (s *Source[K, V]) Row(key K) (val V, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	val, ok = s.rows[key]
	return val, ok
}

// Fail has all calls fail with err, or with keys only those for one of them; of a batch only
// these keys fail. Calls that fail are counted and change nothing. Fail(nil) ends all
// failures, and Fail(nil, keys...) those of these keys.
func (s *Source[K, V]) Fail(err error, keys ...K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(keys) == 0 {
		if s.err = err; err == nil {
			clear(s.failing)
		}
		return
	}
	for _, k := range keys {
		if err == nil {
			delete(s.failing, k)
		} else {
			s.failing[k] = err
		}
	}
}

// Slow has each call that begins from now on take d, or until its context ends.
func (s *Source[K, V]) Slow(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

// Hold has each call that begins from now on wait until release is called, or its context
// ends: a test can look at what happens meanwhile. They are counted when they begin. release
// may be called more than once; a call of Hold before that continues the former one.
func (s *Source[K, V]) Hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = make(chan struct{})
	}
	held := s.held
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held == held {
			s.held = nil
			close(held)
		}
	})
}

// Loads returns for how many keys Load and LoadMany were called.
func (s *Source[K, V]) Loads() int { return s.total(&s.loads) }

// LoadsOf returns how often the source was asked for key.
func (s *Source[K, V]) LoadsOf(key K) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loads.of[key]
}

// Stores returns for how many keys Store and StoreMany were called.
func (s *Source[K, V]) Stores() int { return s.total(&s.stores) }

// Deletes returns how often Delete was called.
func (s *Source[K, V]) Deletes() int { return s.total(&s.deletes) }

// Reset begins all counts anew.
func (s *Source[K, V]) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads, s.stores, s.deletes = counts[K]{}, counts[K]{}, counts[K]{}
}

// WantLoads fails the test unless the source was asked for n keys, by all processes together,
// since it was made or since Reset. A load counts when it begins; in a bubble, synctest.Wait
// waits for those in the background.
func (s *Source[K, V]) WantLoads(tb TB, n int) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loads.all != n {
		tb.Errorf("cachetest: %d loads from the source, want %d: %s", s.loads.all, n, s.loads)
	}
}

func (s *Source[K, V]) total(c *counts[K]) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.all
}

// Load is the Load of a cache.Source. A key without a row is cache.ErrNotFound.
func (s *Source[K, V]) Load(ctx context.Context, key K) (V, error) {
	var zero V
	if err := s.begin(ctx, &s.loads, key); err != nil {
		return zero, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.errorLocked(key); err != nil {
		return zero, err
	}
	val, ok := s.rows[key]
	if !ok {
		return zero, cache.ErrNotFound
	}
	return val, nil
}

// LoadMany is the LoadMany of a cache.Source.
func (s *Source[K, V]) LoadMany(ctx context.Context, keys []K) (map[K]V, error) {
	if err := s.begin(ctx, &s.loads, keys...); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	vals, errs := map[K]V{}, map[K]error{}
	for _, k := range keys {
		if err := s.failing[k]; err != nil {
			errs[k] = err
		} else if v, ok := s.rows[k]; ok {
			vals[k] = v
		}
	}
	return vals, batch(errs)
}

// Store is the Store of a cache.Source.
func (s *Source[K, V]) Store(ctx context.Context, key K, val V) error {
	return s.change(ctx, &s.stores, key, func() { s.rows[key] = val })
}

// StoreMany is the StoreMany of a cache.Source.
func (s *Source[K, V]) StoreMany(ctx context.Context, vals map[K]V) error {
	if err := s.begin(ctx, &s.stores, slices.Collect(maps.Keys(vals))...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	errs := map[K]error{}
	for k, v := range vals {
		if err := s.failing[k]; err != nil {
			errs[k] = err
		} else {
			s.rows[k] = v
		}
	}
	return batch(errs)
}

// Delete is the Delete of a cache.Source.
func (s *Source[K, V]) Delete(ctx context.Context, key K) error {
	return s.change(ctx, &s.deletes, key, func() { delete(s.rows, key) })
}

func (s *Source[K, V]) change(ctx context.Context, c *counts[K], key K, f func()) error {
	if err := s.begin(ctx, c, key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.errorLocked(key); err != nil {
		return err
	}
	f()
	return nil
}

// begin counts a call, and lets it wait.
func (s *Source[K, V]) begin(ctx context.Context, c *counts[K], keys ...K) error {
	s.mu.Lock()
	c.add(keys)
	delay, held := s.delay, s.held
	s.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
		}
	}
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

func (s *Source[K, V]) errorLocked(key K) error {
	if s.err != nil {
		return s.err
	}
	return s.failing[key]
}

func batch[K comparable](errs map[K]error) error {
	if len(errs) == 0 {
		return nil
	}
	return &cache.BatchError[K]{Errs: errs}
}

// counts are calls by key.
type counts[K comparable] struct {
	all int
	of  map[K]int
}

func (c *counts[K]) add(keys []K) {
	if c.of == nil {
		c.of = map[K]int{}
	}
	for _, k := range keys {
		c.all++
		c.of[k]++
	}
}

// maxShown bounds the keys that a message names.
const maxShown = 20

// String names the keys, the most frequent first.
func (c counts[K]) String() string {
	if len(c.of) == 0 {
		return "it was not asked"
	}
	lines := make([]string, 0, len(c.of))
	for _, k := range slices.SortedFunc(maps.Keys(c.of), func(a, b K) int {
		if d := c.of[b] - c.of[a]; d != 0 {
			return d
		}
		return strings.Compare(show(a), show(b))
	}) {
		if len(lines) == maxShown {
			lines = append(lines, fmt.Sprintf("and %d more keys", len(c.of)-maxShown))
			break
		}
		lines = append(lines, fmt.Sprintf("key %s %s", show(k), times(c.of[k])))
	}
	return strings.Join(lines, ", ")
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
