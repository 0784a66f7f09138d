package memory_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// batches is a source that notes the calls of its LoadMany.
type batches struct {
	began time.Time
	load  func(ctx context.Context, keys []string) (map[string]string, error) // nil: of all keys, at once

	mu    sync.Mutex
	calls []string
}

func newBatches() *batches { return &batches{began: time.Now()} }

func (b *batches) loadMany(ctx context.Context, keys []string) (map[string]string, error) {
	sorted := slices.Sorted(slices.Values(keys))
	b.mu.Lock()
	b.calls = append(b.calls, fmt.Sprintf("%v: %s", time.Since(b.began), strings.Join(sorted, " ")))
	b.mu.Unlock()
	if b.load != nil {
		return b.load(ctx, sorted)
	}
	return valuesOf(sorted...), nil
}

func valuesOf(keys ...string) map[string]string {
	m := map[string]string{}
	for _, k := range keys {
		m[k] = "of " + k
	}
	return m
}

func (b *batches) source() cache.Source[string, string] {
	return cache.Source[string, string]{
		LoadMany: b.loadMany,
		Load:     func(context.Context, string) (string, error) { return "", errors.New("loaded one by one") },
	}
}

func (b *batches) are(t *testing.T, want ...string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.calls, want) {
		t.Errorf("the calls are\n%q, want\n%q", b.calls, want)
	}
	b.calls = nil
}

// answer is what a Get has returned, and when.
type answer struct {
	key, val string
	err      error
	after    time.Duration
}

// gets calls Get for each of the keys at once, and returns a function that waits for the answers.
func gets(ctx context.Context, c *cache.Cache[string, string], keys []string, opts ...cache.ReadOption) func() []answer {
	answers := make([]answer, len(keys))
	var all sync.WaitGroup
	began := time.Now()
	for i, k := range keys {
		all.Go(func() {
			v, err := c.Get(ctx, k, opts...)
			answers[i] = answer{k, v, err, time.Since(began)}
		})
	}
	return func() []answer { all.Wait(); return answers }
}

// good checks that all have their values.
func good(t *testing.T, answers []answer, after time.Duration) {
	t.Helper()
	for _, a := range answers {
		if a.val != "of "+a.key || a.err != nil || a.after != after {
			t.Errorf("%+v, want its value after %v", a, after)
		}
	}
}

const batchWait = 2 * time.Millisecond

var batched = cache.WithStrategy(strategy.BatchLoads(4, batchWait), strategy.Jitter(0), strategy.TTL(time.Minute))

// waitedForItself is how many misses have ended since they would have waited for themselves, which
// counts as nothing.
var waitedForItself uint64

// batchKinds runs a test with each set of tiers, in a bubble, and checks that nothing is left.
func batchKinds(t *testing.T, f func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string])) {
	for _, kind := range []string{"two tiers", "local only", "redis"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c *cache.Cache[string, string]
				f(t, kind, func(src cache.Source[string, string], opts ...cache.Option) *cache.Cache[string, string] {
					c = ofKind(t, kind, storetest.NewMemory(), src, append([]cache.Option{batched}, opts...)...)
					return c
				})
				synctest.Wait()
				if s := c.Metrics(); !t.Failed() && s.Misses() != s.Loads-s.Refreshes+s.Coalesced+s.Awaited+s.Unloaded+waitedForItself {
					t.Errorf("the counters do not add up: %v", s)
				}
				if p := hook.Of(c); p.Loads() != 0 || !p.NoLoads() {
					t.Error("loads are left, or their places")
				}
			})
		})
	}
}

func TestSingleMissesAreLoadedTogether(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		ctx, src := t.Context(), newBatches()
		c := make(src.source())
		first := gets(ctx, c, []string{"a", "b"})
		time.Sleep(time.Millisecond)
		second := gets(ctx, c, []string{"c", "a"}) // a is being loaded
		good(t, first(), 2*time.Millisecond)
		good(t, second(), time.Millisecond)
		src.are(t, "2ms: a b c")

		// A full batch does not wait.
		third := gets(ctx, c, []string{"d", "e", "f", "g", "h"})
		answers := third()
		slices.SortFunc(answers, func(a, b answer) int { return int(a.after - b.after) })
		good(t, answers[:4], 0)
		good(t, answers[4:], batchWait)
		src.mu.Lock()
		if len(src.calls) != 2 || !strings.HasPrefix(src.calls[0], "2ms: ") || strings.Count(src.calls[0], " ") != 4 || !strings.HasPrefix(src.calls[1], "4ms: ") {
			t.Errorf("%q", src.calls)
		}
		src.calls = nil
		src.mu.Unlock()

		// What is there is not loaded again.
		good(t, gets(ctx, c, []string{"a", "e", "h"})(), 0)
		if vals, err := c.GetMany(ctx, []string{"a", "i"}); !reflect.DeepEqual(vals, valuesOf("a", "i")) || err != nil { // one key is a single miss
			t.Error(vals, err)
		}
		if vals, err := c.GetMany(ctx, []string{"j", "k", "l", "m", "n"}); len(vals) != 5 || err != nil {
			t.Error(vals, err)
		}
		if err := c.Refresh(ctx, "a"); err != nil {
			t.Error(err)
		}
		src.are(t, "6ms: i", "6ms: j k l m n", "8ms: a")
		// A function of the call's own is what is called.
		if v, err := c.GetOrLoad(ctx, "own", func(context.Context, string) (string, error) { return "its own", nil }); v != "its own" || err != nil {
			t.Error(v, err)
		}
		src.are(t)
		if s := c.Metrics(); s.Batches != 5 || s.Batched != 10 || s.Loads != 16 || s.Refreshes != 1 || s.Load.Count != 7 || s.Unasked != 0 {
			t.Errorf("%d batches of %d keys; %d keys in %d loads, %d of them refreshes; %d unasked", s.Batches, s.Batched, s.Loads, s.Load.Count, s.Refreshes, s.Unasked)
		}
	})
}

func TestCallersOfABatchLeaveOnTheirOwn(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		src := newBatches()
		var ended []time.Duration
		src.load = func(ctx context.Context, keys []string) (map[string]string, error) {
			err := wait(ctx, time.Second)
			if err != nil {
				ended = append(ended, time.Since(src.began))
				return nil, err
			}
			return valuesOf(keys...), nil
		}
		c := make(src.source())
		for _, leaves := range []time.Duration{time.Millisecond, 500 * time.Millisecond} { // before the call, and while it runs
			began := time.Since(src.began)
			short, cancel := context.WithTimeout(t.Context(), leaves)
			leaver := gets(short, c, []string{fmt.Sprint("leaver ", leaves)})
			stayer := gets(t.Context(), c, []string{fmt.Sprint("stayer ", leaves)})
			if a := leaver()[0]; !errors.Is(a.err, context.DeadlineExceeded) || a.after != leaves {
				t.Errorf("%+v", a)
			}
			good(t, stayer(), time.Second+batchWait)
			cancel()
			synctest.Wait()
			if leaves < batchWait {
				src.are(t, fmt.Sprintf("%v: stayer %v", began+batchWait, leaves))
				// Its lease is gone, so that the next caller does not wait for it.
				good(t, gets(t.Context(), c, []string{fmt.Sprint("leaver ", leaves)})(), time.Second+batchWait)
				src.are(t, fmt.Sprintf("%v: leaver %v", began+time.Second+2*batchWait, leaves))
				continue
			}
			src.are(t, fmt.Sprintf("%v: leaver %v stayer %v", began+batchWait, leaves, leaves))
			good(t, gets(t.Context(), c, []string{fmt.Sprint("leaver ", leaves)})(), 0) // loaded all the same
			src.are(t)
		}
		if len(ended) != 0 {
			t.Errorf("a call has ended: %v", ended)
		}
		// When all have left, the call ends.
		began := time.Since(src.began)
		one, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		two, cancel2 := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel2()
		a, b := gets(one, c, []string{"x"}), gets(two, c, []string{"y"})
		a()
		b()
		synctest.Wait()
		if want := []time.Duration{began + 400*time.Millisecond}; !slices.Equal(ended, want) {
			t.Errorf("the calls have ended at %v, want %v", ended, want)
		}
		// And when all leave before it begins, there is none.
		src.are(t, fmt.Sprint(began+batchWait, ": x y"))
		none, cancel3 := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel3()
		gets(none, c, []string{"x", "y"})()
		time.Sleep(time.Second)
		src.are(t)
	})
}

func TestErrorsOfABatchAreThoseOfItsKeys(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		src, bad := newBatches(), errors.New("bad")
		var whole error
		src.load = func(_ context.Context, keys []string) (map[string]string, error) {
			return valuesOf("a"), whole
		}
		c := make(src.source(), cache.WithStrategy(strategy.ErrorTTL(time.Minute)))
		check := func(answers []answer, after time.Duration, want ...error) {
			t.Helper()
			for i, a := range answers {
				if !errors.Is(a.err, want[i]) || (want[i] == nil) != (a.err == nil) || a.after != after {
					t.Errorf("%+v, want %v after %v", a, want[i], after)
				}
			}
		}
		whole = &cache.BatchError[string]{Errs: map[string]error{"b": bad}}
		check(gets(t.Context(), c, []string{"a", "b", "c"})(), batchWait, nil, bad, cache.ErrNotFound)
		check(gets(t.Context(), c, []string{"a", "b", "c"})(), 0, nil, bad, cache.ErrNotFound) // all of it is remembered
		src.are(t, "2ms: a b c")
		whole = bad
		check(gets(t.Context(), c, []string{"d", "e"})(), batchWait, bad, bad)
		src.are(t, "4ms: d e")
		whole = nil
		check(gets(t.Context(), c, []string{"f"})(), batchWait, cache.ErrNotFound)
		src.are(t, "6ms: f")
		if s := c.Metrics(); s.Loads != 6 || s.LoadErrors != 3 || s.NotFound != 2 || s.Load.Count != 3 {
			t.Errorf("%d loads, %d errors, %d not found, %d calls", s.Loads, s.LoadErrors, s.NotFound, s.Load.Count)
		}
	})
}

func TestAPanicCostsItsBatch(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		src := newBatches()
		src.load = func(_ context.Context, keys []string) (map[string]string, error) {
			switch keys[0] {
			case "panics":
				panic("boom")
			case "ends":
				runtime.Goexit()
			}
			return valuesOf(keys...), nil
		}
		c := make(src.source())
		for _, a := range gets(t.Context(), c, []string{"panics", "too"})() {
			if pe, ok := errors.AsType[*cache.PanicError](a.err); !ok || pe.Value != "boom" {
				t.Errorf("%+v", a)
			}
		}
		for _, a := range gets(t.Context(), c, []string{"ends", "well"})() {
			if a.err == nil || a.after != batchWait {
				t.Errorf("%+v", a)
			}
		}
		good(t, gets(t.Context(), c, []string{"too", "well"})(), batchWait)
		if s := c.Metrics(); s.LoadPanics != 2 || s.LoadErrors != 4 {
			t.Errorf("%d panics, %d errors", s.LoadPanics, s.LoadErrors)
		}
	})
}

func TestTheHardTimeoutIsThatOfEachLoad(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		src := newBatches()
		src.load = func(_ context.Context, keys []string) (map[string]string, error) {
			time.Sleep(3 * time.Second) // whatever its context says
			return valuesOf(keys...), nil
		}
		c := make(src.source(), cache.WithStrategy(strategy.HardTimeout(5*time.Second)))
		short := gets(t.Context(), c, []string{"short"}, cache.With(strategy.HardTimeout(time.Second)))
		long := gets(t.Context(), c, []string{"long"})
		if a := short()[0]; !errors.Is(a.err, hook.ErrHardTimeout) || a.after != time.Second+hook.ReleaseGrace {
			t.Errorf("%+v", a)
		}
		good(t, long(), 3*time.Second+batchWait)
		synctest.Wait()
		good(t, gets(t.Context(), c, []string{"short"})(), 0) // stored late
		src.are(t, "2ms: long short")
		if s := c.Metrics(); s.Loads != 2 || s.LoadErrors != 1 || s.Load.Count != 1 {
			t.Errorf("%d loads, %d errors, %d calls", s.Loads, s.LoadErrors, s.Load.Count)
		}

		// The time of all is over.
		both := gets(t.Context(), c, []string{"x", "y"}, cache.With(strategy.HardTimeout(time.Second)))
		for _, a := range both() {
			if !errors.Is(a.err, hook.ErrHardTimeout) || a.after != time.Second+hook.ReleaseGrace {
				t.Errorf("%+v", a)
			}
		}
		if s := c.Metrics(); s.Loads != 4 || s.LoadErrors != 3 || s.Load.Count != 2 {
			t.Errorf("%d loads, %d errors, %d calls", s.Loads, s.LoadErrors, s.Load.Count)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		good(t, gets(t.Context(), c, []string{"x", "y"})(), 0)
		if s := c.Metrics(); s.Load.Count != 2 {
			t.Errorf("a call is counted twice")
		}
	})
}

// A loader that obeys its context sees the end of the last load's time.
func TestTheContextOfABatchEndsWithItsLastLoad(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		type ends struct {
			err, cause error
			after      time.Duration
			value      any
		}
		src, seen := newBatches(), ends{}
		type userKey struct{}
		src.load = func(ctx context.Context, keys []string) (map[string]string, error) {
			<-ctx.Done()
			seen = ends{ctx.Err(), context.Cause(ctx), time.Since(src.began), ctx.Value(userKey{})}
			return nil, ctx.Err()
		}
		c := make(src.source())
		ctx := context.WithValue(t.Context(), userKey{}, "ada")
		first := gets(ctx, c, []string{"short"}, cache.With(strategy.HardTimeout(time.Second)))
		synctest.Wait()
		second := gets(t.Context(), c, []string{"long"}, cache.With(strategy.HardTimeout(2*time.Second)))
		for i, a := range append(first(), second()...) {
			// The one whose own time is over is taken over; the other gets the error of the loader.
			want := []time.Duration{time.Second + hook.ReleaseGrace, 2 * time.Second}[i]
			if !errors.Is(a.err, hook.ErrHardTimeout) || !errors.Is(a.err, context.DeadlineExceeded) || a.after != want {
				t.Errorf("%+v, want after %v", a, want)
			}
		}
		if want := (ends{context.DeadlineExceeded, hook.ErrHardTimeout, 2 * time.Second, "ada"}); seen != want {
			t.Errorf("%+v, want %+v", seen, want)
		}
	})
}

func TestStaleValuesAndRefreshesOfBatches(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		src := newBatches()
		var took time.Duration
		var failure error
		src.load = func(ctx context.Context, keys []string) (map[string]string, error) {
			time.Sleep(took)
			return valuesOf(keys...), failure
		}
		c := make(src.source(), cache.WithStrategy(
			strategy.TTL(10*time.Second), strategy.RefreshAhead(0.5), strategy.StaleWhileRevalidate(10*time.Second), strategy.StaleIfError(time.Minute), strategy.SoftTimeout(50*time.Millisecond)))
		keys := []string{"a", "b", "c"}
		good(t, gets(t.Context(), c, keys)(), batchWait)
		src.are(t, "2ms: a b c")

		time.Sleep(6 * time.Second) // due
		good(t, gets(t.Context(), c, keys)(), 0)
		time.Sleep(time.Second)
		src.are(t, "6.004s: a b c")

		time.Sleep(11 * time.Second) // stale, and served while they are loaded
		good(t, gets(t.Context(), c, keys)(), 0)
		time.Sleep(time.Second)
		src.are(t, "18.004s: a b c")
		if s := c.Metrics(); s.Refreshes != 6 || s.Loads != 9 || s.Batches != 3 {
			t.Errorf("%d refreshes, %d loads, %d batches", s.Refreshes, s.Loads, s.Batches)
		}

		time.Sleep(30 * time.Second) // stale, for failures and slow loads only
		took = time.Second
		good(t, gets(t.Context(), c, keys)(), 50*time.Millisecond)
		time.Sleep(2 * time.Second)
		src.are(t, "49.004s: a b c")
		good(t, gets(t.Context(), c, keys)(), 0)
		took, failure = 0, errors.New("bad")
		src.load = func(ctx context.Context, keys []string) (map[string]string, error) { return nil, failure }
		time.Sleep(30 * time.Second)
		good(t, gets(t.Context(), c, keys)(), batchWait)
		if s := c.Metrics(); s.StaleCovers != 6 {
			t.Errorf("%d stale covers", s.StaleCovers)
		}
	})
}

func TestABatchIsOneLoadOfTheLimit(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		src := newBatches()
		src.load = func(ctx context.Context, keys []string) (map[string]string, error) {
			time.Sleep(time.Second)
			return valuesOf(keys...), nil
		}
		c := make(src.source(), cache.WithLoadLimit(1), cache.WithStrategy(strategy.HardTimeout(10*time.Second)))
		first := gets(t.Context(), c, []string{"a", "b", "c", "d"})
		synctest.Wait()
		second := gets(t.Context(), c, []string{"e", "f"})
		synctest.Wait()
		time.Sleep(batchWait)
		leaver, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		third := gets(leaver, c, []string{"g"}) // it leaves while its batch queues
		short := gets(t.Context(), c, []string{"h"}, cache.With(strategy.HardTimeout(100*time.Millisecond)))
		good(t, first(), time.Second)
		good(t, second(), 2*time.Second)
		if a := third()[0]; !errors.Is(a.err, context.DeadlineExceeded) || a.after != 10*time.Millisecond {
			t.Errorf("%+v", a)
		}
		if a := short()[0]; !errors.Is(a.err, cache.ErrOverload) || a.after != 100*time.Millisecond {
			t.Errorf("%+v", a)
		}
		time.Sleep(5 * time.Second)
		src.are(t, "0s: a b c d", "1s: e f")
	})
}

func TestCloseEndsBatches(t *testing.T) {
	for _, kind := range []string{"two tiers", "local only", "redis"} {
		for what, before := range map[string]time.Duration{"collecting": time.Millisecond, "loading": time.Second} {
			t.Run(kind+", "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					src := newBatches()
					src.load = func(ctx context.Context, keys []string) (map[string]string, error) {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					c := ofKind(t, kind, storetest.NewMemory(), src.source(), batched)
					answers := gets(t.Context(), c, []string{"a", "b"})
					time.Sleep(before)
					began := time.Now()
					c.Close()
					if d := time.Since(began); d != 0 {
						t.Errorf("Close took %v", d)
					}
					for _, a := range answers() {
						if !errors.Is(a.err, cache.ErrClosed) || a.after != before {
							t.Errorf("%+v", a)
						}
					}
				})
			})
		}
	}
}

// A key that another process loads is waited for, and does not hold up the others.
func TestABatchDoesNotWaitForOtherProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := storetest.NewMemory(), newBatches()
		slow := onMemory(t, st, cache.SourceFunc(func(ctx context.Context, k string) (string, error) {
			time.Sleep(time.Second)
			return "of " + k, nil
		}))
		c := onMemory(t, st, src.source(), batched)
		theirs := gets(t.Context(), slow, []string{"theirs"})
		synctest.Wait()
		waits, others := gets(t.Context(), c, []string{"theirs"}), gets(t.Context(), c, []string{"a", "b"})
		good(t, others(), batchWait)
		good(t, waits(), time.Second)
		good(t, theirs(), time.Second)
		src.are(t, "2ms: a b")
		// And the other way round: one load in all processes.
		second := onMemory(t, st, src.source(), batched)
		one, two := gets(t.Context(), c, []string{"x", "y"}), gets(t.Context(), second, []string{"x", "y"})
		good(t, one(), batchWait)
		good(t, two(), batchWait)
		src.mu.Lock()
		defer src.mu.Unlock()
		if n := strings.Count(strings.Join(src.calls, " "), "x"); n != 1 {
			t.Errorf("%q", src.calls)
		}
	})
}

// A loader that reads a key of its own batch would wait for itself.
func TestABatchThatWaitsForItself(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		waitedForItself = 1
		t.Cleanup(func() { waitedForItself = 0 })
		src := newBatches()
		var c *cache.Cache[string, string]
		var inner []error
		src.load = func(ctx context.Context, keys []string) (map[string]string, error) {
			if keys[0] == "a" {
				_, err := c.Get(ctx, "b")
				_, other := c.Get(ctx, "z")
				inner = append(inner, err, other)
			}
			return valuesOf(keys...), nil
		}
		c = make(src.source())
		good(t, gets(t.Context(), c, []string{"a", "b"})(), 2*batchWait)
		if len(inner) != 2 || !errors.Is(inner[0], hook.ErrWaitsForItself) || inner[1] != nil {
			t.Errorf("%v", inner)
		}
	})
}

// What the loader sets concerns all keys of its call; a conditional load has nothing to keep.
func TestTheHandleOfABatch(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		src := newBatches()
		src.load = func(ctx context.Context, keys []string) (map[string]string, error) {
			l := cache.CurrentLoad[string](ctx)
			l.SetTTL(time.Second)
			l.AddTags("t")
			if _, ok := l.Stale(); ok {
				t.Error("there is a stale value")
			}
			return valuesOf(keys...), nil
		}
		c := make(src.source(), cache.WithStrategy(strategy.StaleIfError(time.Minute)))
		for range 2 {
			good(t, gets(t.Context(), c, []string{"a", "b"})(), batchWait)
			for _, k := range []string{"a", "b"} {
				if e, err := c.Inspect(t.Context(), k); err != nil || e.TTL != time.Second || !slices.Equal(e.Tags, []string{"t"}) {
					t.Errorf("%+v, %v", e, err)
				}
			}
			time.Sleep(2 * time.Second)
		}
	})
}

// loadRecorder notes the calls of loaders.
type loadRecorder struct {
	metrics.Discard
	mu     sync.Mutex
	events []string
}

func (r *loadRecorder) StartLoad(ctx context.Context, e metrics.LoadEvent) (context.Context, func(metrics.LoadResult)) {
	return ctx, func(res metrics.LoadResult) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, fmt.Sprintf("%d keys, refresh %t: %d found, %d not, %v", e.Keys, e.Refresh, res.Found, res.NotFound, res.Outcome))
	}
}

func TestARecorderSeesBatches(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		src, r := newBatches(), new(loadRecorder)
		src.load = func(_ context.Context, keys []string) (map[string]string, error) { return valuesOf(keys[1:]...), nil }
		c := make(src.source(), cache.WithRecorder(r))
		gets(t.Context(), c, []string{"a", "b", "c"})()
		if want := []string{"3 keys, refresh false: 2 found, 1 not, succeeded"}; !slices.Equal(r.events, want) {
			t.Errorf("%q, want %q", r.events, want)
		}
	})
}

func TestBatchLoadsNeedsLoadMany(t *testing.T) {
	for name, src := range map[string]cache.Source[string, string]{
		"nothing": {}, "Load": cache.SourceFunc(func(context.Context, string) (string, error) { return "", nil }),
	} {
		_, err := cache.NewFrom(nil, "n", src, cache.LocalOnly(), batched)
		if !errors.Is(err, cache.ErrInvalidOption) || !strings.Contains(fmt.Sprint(err), "strategy.BatchLoads(4, 2ms) needs Source.LoadMany") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Many callers that come, leave and fail at any time get what they are to get, and nothing is left.
func TestBatchesUnderManyCallers(t *testing.T) {
	batchKinds(t, func(t *testing.T, kind string, make func(cache.Source[string, string], ...cache.Option) *cache.Cache[string, string]) {
		src, bad := newBatches(), errors.New("bad")
		var n atomic.Int64
		src.load = func(ctx context.Context, keys []string) (map[string]string, error) {
			switch i := n.Add(1); {
			case i%7 == 0:
				return nil, bad
			case i%11 == 0:
				panic("boom")
			case i%13 == 0:
				time.Sleep(20 * time.Millisecond)
			case i%5 == 0:
				if err := wait(ctx, 3*time.Millisecond); err != nil {
					return nil, err
				}
			}
			return valuesOf(keys...), nil
		}
		c := make(src.source(), cache.WithLoadLimit(3), cache.WithStrategy(strategy.HardTimeout(30*time.Millisecond), strategy.TTL(20*time.Millisecond)))
		var all sync.WaitGroup
		var values atomic.Int64
		for i := range 40 {
			all.Go(func() {
				for j := range 50 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+(i*j)%9)*time.Millisecond)
					k := fmt.Sprint((i + j*j) % 60)
					v, err := c.Get(ctx, k)
					panicked, _ := errors.AsType[*cache.PanicError](err)
					switch {
					case err == nil && v == "of "+k:
						values.Add(1)
					case err == nil, ctx.Err() == nil && panicked == nil && !errors.Is(err, bad) && !errors.Is(err, hook.ErrHardTimeout) && !errors.Is(err, cache.ErrOverload):
						t.Errorf("%s: %q, %v", k, v, err)
					}
					cancel()
					time.Sleep(time.Duration((i+j)%5) * 500 * time.Microsecond)
				}
			})
		}
		all.Wait()
		time.Sleep(time.Second)
		if values.Load() < 500 {
			t.Errorf("%d values", values.Load())
		}
	})
}
