package cachetest_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/cachetest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// open makes a cache of two tiers that is closed at the end of the test. Strategies may replace
// its own.
func open(t *testing.T, rdb redis.UniversalClient, src cache.Source[int, string], s ...strategy.Strategy) *cache.Cache[int, string] {
	t.Helper()
	return openRemote(t, rdb, src, append([]strategy.Strategy{strategy.LRU(100)}, s...)...)
}

// openRemote makes one without a local tier.
func openRemote(t *testing.T, rdb redis.UniversalClient, src cache.Source[int, string], s ...strategy.Strategy) *cache.Cache[int, string] {
	t.Helper()
	c, err := cache.NewFrom(rdb, "names", src, cache.WithLogger(slog.New(slog.DiscardHandler)),
		cache.WithStrategy(strategy.TTL(time.Minute), strategy.Jitter(0)), cache.WithStrategy(s...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// get reads a key that must have the value want, and says where it came from.
func get(t *testing.T, c *cache.Cache[int, string], key int, want string) metrics.Tier {
	t.Helper()
	var info cache.Info
	if v, err := c.Get(t.Context(), key, cache.Report(&info)); v != want || err != nil {
		t.Errorf("Get(%d) = %q, %v, want %q", key, v, err, want)
	}
	return info.Tier
}

// recorder is a test that records how it fails.
type recorder struct {
	ctx      context.Context
	cleanups []func()
	errors   []string
	fatal    string
}

var _ cachetest.TB = (*recorder)(nil)

func (r *recorder) Helper()                  {}
func (r *recorder) Cleanup(f func())         { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}
func (r *recorder) Fatalf(format string, args ...any) {
	r.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// record runs f, and then its clean-up, as a test.
func record(t *testing.T, f func(r *recorder)) *recorder {
	t.Helper()
	r := &recorder{ctx: t.Context()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	r.cleanup()
	return r
}

// cleanup is the end of the test.
func (r *recorder) cleanup() {
	for len(r.cleanups) > 0 {
		last := len(r.cleanups) - 1
		cleanup := r.cleanups[last]
		r.cleanups = r.cleanups[:last]
		cleanup()
	}
}

// wantFatal checks that a test has failed with these parts in its message.
func (r *recorder) wantFatal(t *testing.T, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(r.fatal, part) {
			t.Errorf("the test failed with %q, which does not say %q", r.fatal, part)
		}
	}
}
