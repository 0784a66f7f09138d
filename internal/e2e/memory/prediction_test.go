package memory_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// ops is a store that notes what it is asked to do.
type ops struct {
	*storetest.Memory
	mu   sync.Mutex
	done []string
	fail error // of every Add
}

func (s *ops) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	s.mu.Lock()
	for _, c := range cmds {
		op := c.Op.String()
		if c.With > 0 {
			op += fmt.Sprintf("+%d", c.With)
		}
		s.done = append(s.done, op)
	}
	fail := s.fail
	s.mu.Unlock()
	if fail != nil && cmds[0].Op == store.SetNX {
		replies := make([]store.Reply, len(cmds))
		for i := range replies {
			replies[i].Err = fail
		}
		return replies
	}
	return s.Memory.Do(ctx, cmds)
}

// take returns what was done since the last time.
func (s *ops) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.done = nil }()
	return fmt.Sprint(s.done)
}

func expecting(t *testing.T, src cache.Source[string, string], opts ...cache.Option) (*cache.Cache[string, string], *ops) {
	st := &ops{Memory: storetest.NewMemory()}
	c := newCache(t, st, src, opts...)
	for i := range hook.MissStreak + 1 { // the first one learns what time it is
		if _, err := c.Get(t.Context(), fmt.Sprint("before ", i)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
	st.take()
	return c, st
}

func of(_ context.Context, key string) (string, error) { return "of " + key, nil }

// Where one read after the other has missed, the next one asks for the lease at once.
func TestAMissThatIsExpectedTakesTwoRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store := expecting(t, cache.SourceFunc(of))
		var info cache.Info
		if v, err := c.Get(t.Context(), "k", cache.Report(&info)); v != "of k" || err != nil || info.Tier != metrics.Source {
			t.Errorf("%q, %v, from %v", v, err, info.Tier)
		}
		if did := store.take(); did != "[set_nx compare_and_set]" {
			t.Errorf("a miss did %s", did)
		}
		if v, err := c.Peek(t.Context(), "k"); v != "of k" || err != nil {
			t.Errorf("it is not stored: %q, %v", v, err)
		}
		if m := c.Metrics(); m.MissAbsent != uint64(hook.MissStreak)+2 || m.Loads != m.MissAbsent || m.RemoteHits != 1 {
			t.Errorf("%d misses, %d loads, %d hits", m.MissAbsent, m.Loads, m.RemoteHits)
		}
	})
}

// Whatever is there instead is found by the read that follows, and ends the prediction.
func TestAMissThatWasExpectedForNothing(t *testing.T) {
	for what, put := range map[string]func(t *testing.T, c *cache.Cache[string, string], store *ops){
		"a value": func(t *testing.T, c *cache.Cache[string, string], _ *ops) {
			if err := c.Set(t.Context(), "k", "value"); err != nil {
				t.Fatal(err)
			}
		},
		"foreign bytes": func(_ *testing.T, c *cache.Cache[string, string], st *ops) {
			st.Memory.Do(context.Background(), []store.Command{{Op: store.Set, Key: c.RedisKey("k"), Frame: []byte("hello")}})
		},
		"no answer": func(_ *testing.T, _ *cache.Cache[string, string], store *ops) { store.fail = errors.New("refused") },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, store := expecting(t, cache.SourceFunc(of))
				put(t, c, store)
				store.take()
				before := c.Metrics()
				want := "of k"
				if what == "a value" {
					want = "value"
				}
				var info cache.Info
				v, err := c.Get(t.Context(), "k", cache.Report(&info))
				if v != want || err != nil {
					t.Errorf("%q, %v", v, err)
				}
				if did := store.take(); len(did) < len("[set_nx get") || did[:len("[set_nx get")] != "[set_nx get" {
					t.Errorf("it did %s", did)
				}
				if hook.Of(c).PredictsMiss() {
					t.Error("the next one is expected to miss as well")
				}
				m := c.Metrics()
				requests := m.Hits() + m.Misses() - before.Hits() - before.Misses()
				loads := m.Loads - before.Loads
				if hit := m.RemoteHits - before.RemoteHits; requests != 1 || hit+loads != 1 || (hit == 1) != (what == "a value") {
					t.Errorf("%d requests, %d hits, %d loads", requests, hit, loads)
				}
			})
		})
	}
}

// A prediction that finds another process's lease is right: it waits for that load, as it would have
// after a read, and takes what comes of it.
func TestAMissThatIsExpectedWhileAnotherProcessLoads(t *testing.T) {
	for what, ends := range map[string]struct {
		load func() (string, error)
		want string
	}{
		"a value":   {func() (string, error) { return "of the other", nil }, "of the other"},
		"a failure": {func() (string, error) { return "", errors.New("the source says no") }, "error: the source says no"},
		"nothing":   {func() (string, error) { runtime.Goexit(); return "", nil }, "error: the load ended its goroutine"},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var loads atomic.Int32
				c, store := expecting(t, cache.SourceFunc(func(ctx context.Context, k string) (string, error) {
					loads.Add(1)
					return of(ctx, k)
				}), cache.WithTransport(invalidate.NoTransport()))
				loads.Store(0)
				other := newCache(t, store, cache.SourceFunc(func(context.Context, string) (string, error) {
					time.Sleep(time.Second / 2)
					return ends.load()
				}))
				go func() { _, _ = other.Get(t.Context(), "k") }()
				synctest.Wait()
				store.take()
				before := c.Metrics()
				v, err := c.Get(t.Context(), "k")
				if err != nil {
					v = "error: " + err.Error()[strings.LastIndex(err.Error(), ": ")+2:]
				}
				if v != ends.want || loads.Load() != 0 {
					t.Errorf("%s after %d loads of its own", v, loads.Load())
				}
				if did := store.take(); strings.Contains(did, "get") {
					t.Errorf("it did %s", did)
				}
				if m := c.Metrics(); m.MissAbsent != before.MissAbsent+1 || m.Misses() != before.Misses()+1 {
					t.Errorf("it counts as %d misses, %d of them of an absent key", m.Misses()-before.Misses(), m.MissAbsent-before.MissAbsent)
				}
				if !hook.Of(c).PredictsMiss() {
					t.Error("the next one is not expected to miss")
				}
			})
		})
	}
}

// A read that finds another process's lease says nothing about what the next one finds.
func TestALeaseDoesNotEndAPrediction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store := expecting(t, cache.SourceFunc(of))
		other := newCache(t, store, cache.SourceFunc(func(ctx context.Context, k string) (string, error) {
			time.Sleep(time.Second)
			return of(ctx, k)
		}))
		go func() { _, _ = other.Get(t.Context(), "k") }()
		synctest.Wait()
		if vals, err := c.GetMany(t.Context(), []string{"k", "l"}); len(vals) != 2 || err != nil {
			t.Errorf("%v, %v", vals, err)
		}
		if !hook.Of(c).PredictsMiss() {
			t.Error("the next one is not expected to miss")
		}
	})
}

// Many who want the same key share what comes of the prediction, whether they had it or not.
func TestAPredictionIsShared(t *testing.T) {
	for _, there := range []bool{false, true} {
		t.Run(fmt.Sprint("there ", there), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := expecting(t, cache.SourceFunc(of))
				if there {
					if err := c.Set(t.Context(), "k", "of k"); err != nil {
						t.Fatal(err)
					}
				}
				before := c.Metrics()
				var all sync.WaitGroup
				for range 50 {
					all.Go(func() {
						if v, err := c.Get(t.Context(), "k"); v != "of k" || err != nil {
							t.Errorf("%q, %v", v, err)
						}
					})
					all.Go(func() {
						if vals, err := c.GetMany(t.Context(), []string{"k", "l"}); len(vals) != 2 || err != nil {
							t.Errorf("%v, %v", vals, err)
						}
					})
				}
				all.Wait()
				m := c.Metrics()
				if got := m.Hits() + m.Misses() - before.Hits() - before.Misses(); got != 150 {
					t.Errorf("%d requests of 150", got)
				}
				if there && m.Loads-before.Loads != 1 || !there && m.Loads-before.Loads != 2 {
					t.Errorf("%d loads", m.Loads-before.Loads)
				}
			})
		})
	}
}

// Where a value that is stale may be the answer, or a hit has more to do, every read
// looks.
func TestSomeStrategiesAlwaysLook(t *testing.T) {
	for _, s := range []strategy.Strategy{
		strategy.StaleWhileRevalidate(1e9), strategy.StaleIfError(1e9), strategy.Sliding(1e9), strategy.RefreshAhead(0.5), strategy.EarlyExpiration(1),
	} {
		t.Run(s.Name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, store := expecting(t, cache.SourceFunc(of), cache.WithStrategy(s))
				if _, err := c.Get(t.Context(), "k"); err != nil {
					t.Fatal(err)
				}
				if did := store.take(); did != "[get get set_nx compare_and_set]" {
					t.Errorf("a miss did %s", did)
				}
			})
		})
	}
}
