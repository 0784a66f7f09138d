package memory_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/cachetest"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// notified is a Recorder that hands on what it is told.
type told struct {
	metrics.Discard
	changes   chan metrics.StateEvent
	refreshes chan string
}

type toldKey struct{}

func (r told) StateChange(e metrics.StateEvent) { r.changes <- e }

func (r told) StartRefresh(ctx, caller context.Context, e metrics.RefreshEvent) (context.Context, func(metrics.Outcome)) {
	name, _ := caller.Value(toldKey{}).(string)
	return context.WithValue(ctx, toldKey{}, "refresh for "+name), func(o metrics.Outcome) {
		r.refreshes <- e.Cache + " for " + name + ": " + o.String()
	}
}

// A listener is down at first, which is not told; then each change is told once, however
// often it proves that it hears, or fails to.
func TestTheRecorderHearsOfTheListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		r := told{changes: make(chan metrics.StateEvent, 100)}
		c, err := cache.New[string, int](env.Client(), "n", cache.WithRecorder(r), cache.WithStrategy(strategy.LRU(10)), cache.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if s := c.Metrics().Listener; s != metrics.Down || len(r.changes) > 0 {
			t.Errorf("before anything was asked: %v", s)
		}
		if _, err := c.Peek(t.Context(), "k"); !errors.Is(err, cache.ErrMiss) {
			t.Fatal(err)
		}
		check := func(want metrics.State) {
			t.Helper()
			env.Advance(time.Minute)
			if len(r.changes) != 1 {
				t.Fatalf("%d changes were recorded", len(r.changes))
			}
			if got := <-r.changes; got.Cache != "n" || got.Part != metrics.Listener || got.State != want || c.Metrics().Listener != want {
				t.Errorf("told %+v, and the metrics say %v", got, c.Metrics().Listener)
			}
		}
		check(metrics.Up)
		for range 2 {
			env.CutNotifications()
			check(metrics.Down)
			env.Heal()
			check(metrics.Up)
		}
	})

	alone, err := cache.New[string, int](nil, "n", cache.LocalOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	if s := alone.Metrics().Listener; s != metrics.Closed {
		t.Errorf("there is nothing to hear by: %v", s)
	}
}

// A refresh behind a reader's back gets what the recorder makes of the reader's context,
// and nothing else of it.
func TestTheRecorderTiesARefreshToItsReader(t *testing.T) {
	for _, kind := range []string{"ahead, from the local tier", "ahead, from Redis", "of a stale value"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				type readersKey struct{}
				r := told{changes: make(chan metrics.StateEvent, 10), refreshes: make(chan string, 10)}
				loads := make(chan any, 10)
				var fails error
				c := onMemory(t, storetest.NewMemory(), cache.SourceFunc(func(ctx context.Context, _ string) (string, error) {
					if ctx.Value(readersKey{}) != nil && ctx.Value(toldKey{}) != "reader" {
						t.Error("a loader behind the reader's back has the reader's values")
					}
					loads <- ctx.Value(toldKey{})
					return "v", fails
				}), cache.WithRecorder(r), cache.WithStrategy(strategy.TTL(time.Minute), strategy.RefreshAhead(0.5), strategy.StaleWhileRevalidate(time.Minute)))
				ctx, leave := context.WithCancel(context.WithValue(context.WithValue(context.Background(), toldKey{}, "reader"), readersKey{}, true))
				read := func() {
					t.Helper()
					var opts []cache.ReadOption
					if kind == "ahead, from Redis" {
						opts = append(opts, cache.SkipLocal())
					}
					if _, err := c.Get(ctx, "k", opts...); err != nil {
						t.Fatal(err)
					}
				}
				read()
				if got := <-loads; got != "reader" {
					t.Errorf("the load for a reader has the values of %v", got)
				}
				for _, round := range []struct {
					fails error
					want  string
				}{{nil, "test for reader: succeeded"}, {errFlaky, "test for reader: failed"}} {
					fails = round.fails
					time.Sleep(40 * time.Second)
					if kind == "of a stale value" {
						time.Sleep(40 * time.Second)
					}
					read()
					if got := <-loads; got != "refresh for reader" {
						t.Errorf("the load of a refresh has the values of %v", got)
					}
					if got := <-r.refreshes; got != round.want {
						t.Errorf("told %q, want %q", got, round.want)
					}
				}
				leave()
			})
		})
	}
}
