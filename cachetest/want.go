package cachetest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/metrics"
)

// WantHit fails the test unless c has a fresh value of key in one of its tiers, and the value
// is want, by reflect.DeepEqual.
func WantHit[K comparable, V any](tb TB, c *cache.Cache[K, V], key K, want V) {
	tb.Helper()
	expect(tb, c, key, hit, &want)
}

// WantStale fails the test unless c has a value of key whose fresh life is over, kept for a
// strategy such as strategy.StaleIfError, and the value is want, by reflect.DeepEqual.
func WantStale[K comparable, V any](tb TB, c *cache.Cache[K, V], key K, want V) {
	tb.Helper()
	expect(tb, c, key, stale, &want)
}

// WantMiss fails the test unless c has nothing of key in any tier: no value, no stale one, and
// no remembered absence. That Redis did not answer is no miss here, but WantUnavailable.
func WantMiss[K comparable, V any](tb TB, c *cache.Cache[K, V], key K) {
	tb.Helper()
	expect(tb, c, key, miss, nil)
}

// WantAbsent fails the test unless c remembers that the source has no value of key; see
// cache.ErrNotFound.
func WantAbsent[K comparable, V any](tb TB, c *cache.Cache[K, V], key K) {
	tb.Helper()
	expect(tb, c, key, absent, nil)
}

// WantUnavailable fails the test unless it is not known what c has of key: its local tier has
// nothing that may be used, and Redis does not answer.
func WantUnavailable[K comparable, V any](tb TB, c *cache.Cache[K, V], key K) {
	tb.Helper()
	expect(tb, c, key, unavailable, nil)
}

// state is what a cache has of a key.
type state string

const (
	hit         state = "a hit"
	stale       state = "a stale value"
	miss        state = "a miss"
	absent      state = "a remembered absence"
	unavailable state = "no answer of Redis"
	failed      state = "an error"
)

// expect compares what a cache has with what it should have; val is nil if that is no value.
func expect[K comparable, V any](tb TB, c *cache.Cache[K, V], key K, want state, val *V) {
	tb.Helper()
	e, err := c.Inspect(tb.Context(), key)
	got := stateOf(e.Info, err)
	switch {
	case got != want:
		tb.Errorf("cachetest: %s: key %s: got %s, want %s", c.Name(), show(key), describe(got, e, err), wanted(want, val))
	case val != nil && !reflect.DeepEqual(e.Value, *val):
		tb.Errorf("cachetest: %s: key %s: got %s, want the value %s", c.Name(), show(key), describe(got, e, err), show(*val))
	}
}

func stateOf(i cache.Info, err error) state {
	switch {
	case errors.Is(err, cache.ErrUnavailable):
		return unavailable
	case errors.Is(err, cache.ErrMiss):
		return miss
	case err != nil:
		return failed
	case i.Absent:
		return absent
	case i.Stale:
		return stale
	}
	return hit
}

func describe[V any](s state, e cache.Entry[V], err error) string {
	switch s {
	case hit, stale:
		return fmt.Sprintf("%s: %s (%s)", s, show(e.Value), where(e.Info))
	case absent:
		return fmt.Sprintf("%s (%s)", s, where(e.Info))
	case miss:
		return "a miss: no tier has anything"
	}
	return fmt.Sprintf("%s: %v", s, err)
}

func wanted[V any](s state, val *V) string {
	if val == nil {
		return string(s)
	}
	return fmt.Sprintf("%s: %s", s, show(*val))
}

// where says which tier has an entry, and its place in time.
func where(i cache.Info) string {
	parts := []string{"redis"}
	if i.Tier == metrics.Local {
		parts[0] = "local tier"
	}
	parts = append(parts, i.Age.Round(time.Millisecond).String()+" old")
	switch {
	case i.Stale:
	case i.TTL > 0:
		parts = append(parts, "fresh for "+i.TTL.Round(time.Millisecond).String())
	default:
		parts = append(parts, "without an end")
	}
	if len(i.Tags) > 0 {
		parts = append(parts, fmt.Sprintf("tags %q", i.Tags))
	}
	return strings.Join(parts, ", ")
}

// show is a key or value for people.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%q", v)
	case []byte:
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprintf("%+v", v)
}

// Metered is what [Loads] needs of a cache. Every *cache.Cache is one.
type Metered interface {
	Name() string
	Metrics() metrics.Snapshot
}

var _ Metered = (*cache.Cache[int, int])(nil)

// Loads fails the test unless c has called its loader for n keys since it was made, or since
// its ResetMetrics: each key of a batch counts, and so do refreshes and loads that failed. A
// load is counted when it has returned; in a bubble, synctest.Wait waits for those in the
// background. What other processes load counts there: see [Source.WantLoads].
func Loads(tb TB, c Metered, n int) {
	tb.Helper()
	if s := c.Metrics(); s.Loads != uint64(max(n, 0)) || n < 0 {
		tb.Errorf("cachetest: %s: %d loads, want %d: %s", c.Name(), s.Loads, n, account(s))
	}
}

// account says why there were so many loads, or so few.
func account(s metrics.Snapshot) string {
	var parts []string
	add := func(n uint64, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(s.Refreshes, "of the loads were refreshes")
	add(s.LoadErrors, "of the loads failed")
	add(s.NotFound, "of the loads found nothing")
	add(s.LocalHits, "local hits")
	add(s.RemoteHits, "hits in redis")
	add(s.MissAbsent, "misses since there was nothing")
	add(s.MissExpired, "misses of ended or invalidated values")
	add(s.MissUndecodable+s.MissForeign+s.MissIncompatible, "misses of records that this cache can't read")
	add(s.MissUnavailable, "misses since redis did not answer")
	add(s.Coalesced, "misses shared a load of this process")
	add(s.Awaited, "misses shared a load of another process")
	add(s.Unloaded, "misses ended without a load")
	if len(parts) == 0 {
		return "the cache was not read"
	}
	return strings.Join(parts, ", ")
}
