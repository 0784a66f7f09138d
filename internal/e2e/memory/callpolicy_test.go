package memory_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// slowly gives v after d.
func slowly(d time.Duration, v string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) { return v, wait(ctx, d) }
}

func TestACallHasASoftTimeoutOfItsOwn(t *testing.T) {
	src := new(source)
	s := []strategy.Strategy{strategy.TTL(time.Second), strategy.StaleIfError(time.Hour), strategy.SoftTimeout(time.Second)}
	tiers(t, src, s, func(t *testing.T, c *cache.Cache[string, string], _ func() *cache.Cache[string, string]) {
		ctx := t.Context()
		src.give("old")
		if _, err := c.Get(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		src.will(slowly(5*time.Second, "new"))
		begin := time.Now()
		var all sync.WaitGroup
		reads := func(want string, after time.Duration, opts ...cache.ReadOption) {
			all.Go(func() {
				if v, err := c.Get(ctx, "k", opts...); v != want || err != nil || time.Since(begin) != after {
					t.Errorf("%v: %q, %v after %v; want %q after %v", len(opts), v, err, time.Since(begin), want, after)
				}
			})
		}
		reads("old", time.Second)
		// Of shared loads, each caller has its own patience.
		reads("old", 50*time.Millisecond, cache.With(strategy.SoftTimeout(50*time.Millisecond)))
		reads("old", 20*time.Millisecond, cache.With(strategy.SoftTimeout(time.Millisecond)), cache.With(strategy.SoftTimeout(20*time.Millisecond)))
		reads("new", 5*time.Second, cache.With(strategy.SoftTimeout(50*time.Millisecond), strategy.StaleIfError(0)))
		all.Wait()
		if n := src.calls.Load(); n != 2 {
			t.Errorf("%d loads", n)
		}
	})
}

// Of two calls that share a load, the one that began it says how long it may take, how long its
// value lives, and how long its failure is remembered.
func TestASharedLoadIsThatOfTheCallThatBeganIt(t *testing.T) {
	src := new(source)
	tiers(t, src, nil, func(t *testing.T, c *cache.Cache[string, string], _ func() *cache.Cache[string, string]) {
		ctx := t.Context()
		many := func(opts ...cache.ReadOption) error {
			_, err := c.GetMany(ctx, []string{"k", "l"}, opts...)
			return err
		}
		one := func(opts ...cache.ReadOption) error { _, err := c.Get(ctx, "k", opts...); return err }
		src.give("v")
		if err := many(); err != nil { // from now on the logical clock is known
			t.Fatal(err)
		}
		for name, calls := range map[string][2]func(...cache.ReadOption) error{"one": {one, one}, "many": {many, many}, "both": {many, one}} {
			src.calls.Store(0)
			src.will(slowly(time.Second, "v"))
			if err := c.Invalidate(ctx, "k", "l"); err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			all.Go(func() {
				if err := calls[0](cache.With(strategy.TTL(time.Hour))); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
			time.Sleep(100 * time.Millisecond)
			before := src.calls.Load()
			all.Go(func() {
				if err := calls[1](cache.With(strategy.TTL(time.Minute), strategy.HardTimeout(50*time.Millisecond))); err != nil {
					t.Errorf("%s: it ends by the timeout of a call that has joined: %v", name, err)
				}
			})
			all.Wait()
			if e, err := c.Inspect(ctx, "k"); err != nil || e.TTL <= 50*time.Minute || src.calls.Load() != before {
				t.Errorf("%s: %v, %v, %d loads", name, e.TTL, err, src.calls.Load())
			}
		}
		src.will(func(ctx context.Context) (string, error) { return "", errors.Join(wait(ctx, time.Second), errFlaky) })
		if err := c.Invalidate(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		src.calls.Store(0)
		var all sync.WaitGroup
		for i, d := range []time.Duration{time.Minute, 0} {
			all.Go(func() {
				if err := one(cache.With(strategy.ErrorTTL(d))); !errors.Is(err, errFlaky) {
					t.Errorf("call %d: %v", i, err)
				}
			})
			time.Sleep(100 * time.Millisecond)
		}
		all.Wait()
		if err := one(); !errors.Is(err, errFlaky) || src.calls.Load() != 1 {
			t.Errorf("%v, %d loads of a key whose error is remembered", err, src.calls.Load())
		}
	})
}

func TestACallTakesNoStaleValue(t *testing.T) {
	src := new(source)
	s := []strategy.Strategy{strategy.TTL(time.Second), strategy.StaleIfError(time.Hour), strategy.StaleWhileRevalidate(time.Minute)}
	tiers(t, src, s, func(t *testing.T, c *cache.Cache[string, string], _ func() *cache.Cache[string, string]) {
		ctx := t.Context()
		src.give("old")
		if _, err := c.Get(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		src.fail(errFlaky)
		strict := cache.With(strategy.StaleIfError(0), strategy.StaleWhileRevalidate(0))
		if v, err := c.Get(ctx, "k", strict); !errors.Is(err, errFlaky) {
			t.Errorf("%q, %v", v, err)
		}
		// The value is still there for others, and the source is spared by those that it is for.
		if v, err := c.Get(ctx, "k", cache.With(strategy.StaleWhileRevalidate(0))); v != "old" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		if v, err := c.Get(ctx, "k"); v != "old" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		synctest.Wait()
		before := src.calls.Load()
		if _, err := c.Get(ctx, "k", strict); !errors.Is(err, errFlaky) {
			t.Errorf("%v", err)
		}
		if n := src.calls.Load() - before; n != 1 {
			t.Errorf("%d loads for a caller that takes no stale value", n)
		}
	})
}

func TestACallSaysHowLongItsLoadIsKept(t *testing.T) {
	src := new(source)
	tiers(t, src, nil, func(t *testing.T, c *cache.Cache[string, string], _ func() *cache.Cache[string, string]) {
		ctx := t.Context()
		src.give("v")
		for key, tc := range map[string]struct {
			with strategy.Strategy
			want time.Duration
		}{"hour": {strategy.TTL(time.Hour), time.Hour}, "forever": {strategy.Forever(), 0}} {
			if _, err := c.Get(ctx, key, cache.With(tc.with)); err != nil {
				t.Fatal(err)
			}
			if e, err := c.Inspect(ctx, key); err != nil || e.TTL != tc.want {
				t.Errorf("%s: %v, %v", key, e.TTL, err)
			}
		}
		src.fail(cache.ErrNotFound)
		if _, err := c.Get(ctx, "absent", cache.With(strategy.NotFoundTTL(0))); !errors.Is(err, cache.ErrNotFound) {
			t.Fatal(err)
		}
		if _, err := c.Peek(ctx, "absent"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("the absence is remembered: %v", err)
		}
		src.calls.Store(0)
		src.fail(errFlaky)
		for range 3 {
			if _, err := c.Get(ctx, "failing", cache.With(strategy.ErrorTTL(time.Minute))); !errors.Is(err, errFlaky) {
				t.Fatal(err)
			}
		}
		if n := src.calls.Load(); n != 1 {
			t.Errorf("%d loads of a key whose error is remembered", n)
		}
		src.will(func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() })
		begin := time.Now()
		if _, err := c.Get(ctx, "endless", cache.With(strategy.HardTimeout(70*time.Millisecond))); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 70*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

func TestWithIsCheckedAgainstTheCache(t *testing.T) {
	src := new(source)
	src.give("v")
	tiers(t, src, nil, func(t *testing.T, c *cache.Cache[string, string], _ func() *cache.Cache[string, string]) {
		ctx := t.Context()
		load := func(context.Context, string) (string, error) { return "v", nil }
		many := func(context.Context, []string) (map[string]string, error) { return map[string]string{"k": "v"}, nil }
		for name, f := range map[string]func(o cache.ReadOption) error{
			"Get":           func(o cache.ReadOption) error { _, err := c.Get(ctx, "k", o); return err },
			"GetMany":       func(o cache.ReadOption) error { _, err := c.GetMany(ctx, []string{"k"}, o); return err },
			"GetOrLoad":     func(o cache.ReadOption) error { _, err := c.GetOrLoad(ctx, "k", load, o); return err },
			"GetOrLoadMany": func(o cache.ReadOption) error { _, err := c.GetOrLoadMany(ctx, []string{"k"}, many, o); return err },
		} {
			for _, o := range []cache.ReadOption{cache.With(strategy.LRU(1)), cache.With(strategy.StaleIfError(time.Hour)), cache.With(nil)} {
				if err := f(o); !errors.Is(err, cache.ErrInvalidOption) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if err := f(cache.With(strategy.TTL(time.Hour))); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := c.Peek(ctx, "k", cache.With(strategy.HardTimeout(1))); !errors.Is(err, cache.ErrInvalidOption) {
			t.Error(err)
		}
	})
	// What one With remembers of a cache does not hold for another.
	synctest.Test(t, func(t *testing.T) {
		window := cache.With(strategy.StaleIfError(time.Minute))
		with := newCache(t, storetest.NewMemory(), src.Source(), cache.WithStrategy(strategy.StaleIfError(time.Hour)))
		without := newCache(t, storetest.NewMemory(), src.Source())
		for range 2 {
			if _, err := with.Get(t.Context(), "k", window); err != nil {
				t.Error(err)
			}
			if _, err := without.Get(t.Context(), "k", window); !errors.Is(err, cache.ErrInvalidOption) {
				t.Error(err)
			}
		}
	})
}

func TestSkipRemoteReadsAndLoadsInThisProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := t.Context(), storetest.NewMemory()
		src := new(source)
		src.give("from the source")
		c, other := onMemory(t, st, src.Source()), onMemory(t, st, src.Source())
		if err := other.Set(ctx, "k", "from Redis"); err != nil {
			t.Fatal(err)
		}
		var info cache.Info
		if v, err := c.Get(ctx, "k", cache.SkipRemote(), cache.Report(&info)); v != "from the source" || err != nil || info.Tier != metrics.Source {
			t.Errorf("%q, %v, %v", v, err, info.Tier)
		}
		// It has filled the local tier, and no more.
		if v, err := c.Get(ctx, "k", cache.Report(&info)); v != "from the source" || err != nil || info.Tier != metrics.Local {
			t.Errorf("%q, %v, %v", v, err, info.Tier)
		}
		if v, err := c.Get(ctx, "k", cache.SkipLocal()); v != "from Redis" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		if _, err := c.Peek(ctx, "other", cache.SkipRemote()); !errors.Is(err, cache.ErrMiss) || errors.Is(err, cache.ErrUnavailable) {
			t.Error(err)
		}
		if v, err := c.Get(ctx, "fresh", cache.SkipRemote()); v != "from the source" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		if _, err := other.Peek(ctx, "fresh"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("what was loaded apart is in Redis: %v", err)
		}
		// A write of another process is heard, also while a load is under way.
		src.will(slowly(time.Second, "too old"))
		done := make(chan string)
		go func() { v, _ := c.Get(ctx, "racing", cache.SkipRemote()); done <- v }()
		time.Sleep(500 * time.Millisecond)
		if err := other.Set(ctx, "racing", "newer"); err != nil {
			t.Fatal(err)
		}
		if v := <-done; v != "too old" {
			t.Errorf("%q", v)
		}
		if v, err := c.Get(ctx, "racing"); v != "newer" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		if err := other.Invalidate(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := c.Peek(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("an invalidation did not reach what was loaded apart: %v", err)
		}
	})
}

func TestSkipRemoteSharesLoadsOfItsKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := new(source)
		src.will(slowly(time.Second, "v"))
		c := onMemory(t, storetest.NewMemory(), src.Source())
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				var opts []cache.ReadOption
				if i%2 == 0 {
					opts = append(opts, cache.SkipRemote())
				}
				if v, err := c.Get(t.Context(), "k", opts...); v != "v" || err != nil {
					t.Errorf("%q, %v", v, err)
				}
			})
		}
		all.Wait()
		if n := src.calls.Load(); n != 2 {
			t.Errorf("%d loads, want one of each kind", n)
		}
	})
}

func TestSkipRemoteWritesInThisProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := t.Context(), storetest.NewMemory()
		c, other := onMemory(t, st, cache.Source[string, string]{}), onMemory(t, st, cache.Source[string, string]{})
		if err := other.Set(ctx, "k", "shared"); err != nil {
			t.Fatal(err)
		}
		if err := c.Set(ctx, "k", "here", cache.SkipRemote(), cache.TTL(10*time.Second), cache.Tags("t")); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(ctx, "k"); v != "here" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		if v, err := other.Get(ctx, "k"); v != "shared" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		time.Sleep(10 * time.Second)
		if v, err := c.Get(ctx, "k"); v != "shared" || err != nil {
			t.Errorf("after its life: %q, %v", v, err)
		}
		if err := c.SetMany(ctx, map[string]string{"a": "1", "b": "2"}, cache.SkipRemote(), cache.Tags("t")); err != nil {
			t.Fatal(err)
		}
		if vals, err := c.GetMany(ctx, []string{"a", "b"}); vals["a"] != "1" || vals["b"] != "2" || err != nil {
			t.Errorf("%v, %v", vals, err)
		}
		if err := other.InvalidateTags(ctx, "t"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if vals, err := c.GetMany(ctx, []string{"a", "b"}); len(vals) != 0 || err != nil {
			t.Errorf("after the tag: %v, %v", vals, err)
		}
		if err := c.Set(ctx, "gone", "v", cache.SkipRemote()); err != nil {
			t.Fatal(err)
		}
		if err := c.Set(ctx, "gone", "v", cache.SkipRemote(), cache.TTL(-1)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Peek(ctx, "gone"); !errors.Is(err, cache.ErrMiss) {
			t.Error(err)
		}
		// A pending change of the key, or notifications that are not received, refuse it.
		st.Fail(errors.New("down"))
		_ = c.Set(ctx, "pending", "v")
		if err := c.Set(ctx, "pending", "w", cache.SkipRemote()); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("pending: %v", err)
		}
	})
}

func TestSkipRemoteWhereRedisCanNotBeLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		writes := cache.Source[string, string]{
			Load:  func(context.Context, string) (string, error) { return "v", nil },
			Store: func(context.Context, string, string) error { return nil },
		}
		id := func(v string, _ bool) (string, error) { return v, nil }
		c := onMemory(t, storetest.NewMemory(), cache.Source[string, string]{})
		remote := newCache(t, storetest.NewMemory(), cache.Source[string, string]{})
		through := onMemory(t, storetest.NewMemory(), writes)
		behind := onMemory(t, storetest.NewMemory(), writes, cache.WithStrategy(strategy.WriteBehind()))
		for name, f := range map[string]func() error{
			"update":       func() error { _, err := c.Update(ctx, "k", id, cache.SkipRemote()); return err },
			"if absent":    func() error { _, err := c.SetIfAbsent(ctx, "k", "v", cache.SkipRemote()); return err },
			"no local":     func() error { return remote.Set(ctx, "k", "v", cache.SkipRemote()) },
			"through":      func() error { return through.Set(ctx, "k", "v", cache.SkipRemote()) },
			"behind, read": func() error { _, err := behind.Get(ctx, "k", cache.SkipRemote()); return err },
			"behind, load": func() error { _, err := behind.GetOrLoad(ctx, "k", writes.Load, cache.SkipRemote()); return err },
			"two lives":    func() error { return c.Set(ctx, "k", "v", cache.KeepTTL(), cache.TTL(time.Second)) },
			"no life":      func() error { _, err := c.SetIfAbsent(ctx, "k", "v", cache.KeepTTL()); return err },
			"two lives of a load": func() error {
				_, err := c.GetOrLoad(ctx, "k", writes.Load, cache.KeepTTL(), cache.TTL(time.Second))
				return err
			},
		} {
			if err := f(); !errors.Is(err, cache.ErrInvalidOption) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if v, err := through.Get(ctx, "k", cache.SkipRemote()); v != "v" || err != nil {
			t.Errorf("a read under write-through: %q, %v", v, err)
		}
		if v, err := remote.GetOrLoad(ctx, "k", writes.Load, cache.SkipRemote()); v != "v" || err != nil {
			t.Errorf("a load without a local tier: %q, %v", v, err)
		}
		if n := remote.Metrics().NotKept; n != 0 {
			t.Errorf("%d values count as not kept, which nothing was to keep", n)
		}
		here := newCache(t, nil, cache.Source[string, string]{}, cache.LocalOnly())
		if ok, err := here.SetIfAbsent(ctx, "k", "v", cache.SkipRemote()); !ok || err != nil {
			t.Error(ok, err)
		}
		if err := here.Set(ctx, "k", "w", cache.SkipRemote()); err != nil {
			t.Error(err)
		}
		if v, err := here.Update(ctx, "k", id, cache.SkipRemote()); v != "w" || err != nil {
			t.Error(v, err)
		}
	})
}

func TestKeepTTLKeepsTheEndOfTheValueThatIsReplaced(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.TTL(time.Minute)}, func(t *testing.T, c *cache.Cache[string, string], _ func() *cache.Cache[string, string]) {
		ctx := t.Context()
		left := func(key string, want time.Duration) {
			t.Helper()
			for _, opts := range [][]cache.ReadOption{nil, {cache.SkipLocal()}} {
				var info cache.Info
				if _, err := c.Peek(ctx, key, append(opts, cache.Report(&info))...); err == nil && info.TTL != want {
					t.Errorf("%s: %v left, want %v", key, info.TTL, want)
				}
			}
		}
		set := func(key, val string, opts ...cache.WriteOption) {
			t.Helper()
			if err := c.Set(ctx, key, val, opts...); err != nil {
				t.Fatal(err)
			}
		}
		set("k", "v", cache.TTL(10*time.Second))
		time.Sleep(4 * time.Second)
		set("k", "w", cache.KeepTTL())
		left("k", 6*time.Second)
		set("new", "v", cache.KeepTTL())
		left("new", time.Minute)
		if err := c.SetMany(ctx, map[string]string{"k": "x", "new": "x", "newer": "x"}, cache.KeepTTL()); err != nil {
			t.Fatal(err)
		}
		left("k", 6*time.Second)
		left("new", time.Minute)
		left("newer", time.Minute)
		if v, err := c.Update(ctx, "k", func(v string, _ bool) (string, error) { return v + "y", nil }, cache.KeepTTL()); v != "xy" || err != nil {
			t.Fatal(v, err)
		}
		left("k", 6*time.Second)
		// A load keeps it too, if it has something to replace.
		src.give("loaded")
		if v, err := c.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "loaded", nil }, cache.MaxAge(0), cache.KeepTTL()); v != "loaded" || err != nil {
			t.Fatal(v, err)
		}
		left("k", 6*time.Second)
		time.Sleep(6 * time.Second)
		if _, err := c.Peek(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("after its end: %v", err)
		}
		set("k", "v", cache.KeepTTL())
		left("k", time.Minute)
	})
}

func TestKeepTTLNeedsRedisToSayWhatThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := t.Context(), storetest.NewMemory()
		c := newCache(t, st, cache.Source[string, string]{}, cache.WithStrategy(strategy.TTL(time.Hour)))
		if err := c.Set(ctx, "k", "v", cache.TTL(time.Minute)); err != nil {
			t.Fatal(err)
		}
		st.Fail(errors.New("down"))
		if err := c.Set(ctx, "k", "w", cache.KeepTTL()); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("%v", err)
		}
		st.Fail(nil)
		// As after any Set that was not acknowledged, the old value is of no use.
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("%q, %v", v, err)
		}
	})
	// Where the source is written first, it was not, and the old value is the right one.
	synctest.Test(t, func(t *testing.T) {
		ctx, st, stored := t.Context(), storetest.NewMemory(), 0
		c := newCache(t, st, cache.Source[string, string]{Store: func(context.Context, string, string) error { stored++; return nil }}, cache.WithStrategy(strategy.TTL(time.Hour)))
		if err := c.Set(ctx, "k", "v"); err != nil {
			t.Fatal(err)
		}
		st.Fail(errors.New("down"))
		if err := c.Set(ctx, "k", "w", cache.KeepTTL()); !errors.Is(err, cache.ErrUnavailable) || stored != 1 {
			t.Errorf("%v, %d stored", err, stored)
		}
		st.Fail(nil)
		time.Sleep(3 * time.Second)
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(ctx, "k"); v != "v" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	})
}

// The end that an invalidation has set is that of the value that was invalidated.
func TestKeepTTLKeepsNoEndOfAnInvalidation(t *testing.T) {
	for _, kind := range []string{"redis", "two tiers", "local only"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				c := ofKind(t, kind, storetest.NewMemory(), cache.Source[string, string]{}, cache.WithStrategy(strategy.TTL(time.Hour), strategy.Jitter(0)), cache.WithInvalidator(invalidate.Delayed(10*time.Second)))
				if err := c.Set(ctx, "k", "v", cache.TTL(time.Minute)); err != nil {
					t.Fatal(err)
				}
				if err := c.Invalidate(ctx, "k"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				if err := c.Set(ctx, "k", "w", cache.KeepTTL()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				if v, err := c.Get(ctx, "k"); v != "w" || err != nil {
					t.Errorf("%q, %v", v, err)
				}
			})
		})
	}
}

// lateNow is a store that fails to say the time at first.
type lateNow struct {
	*storetest.Memory
	fails atomic.Int32
}

func (s *lateNow) Now(ctx context.Context, key string) (int64, error) {
	if s.fails.Add(-1) >= 0 {
		return 0, errors.New("no time")
	}
	return s.Memory.Now(ctx, key)
}

// A record that can't be dated has a life that is not known: it is not taken for none.
func TestKeepTTLNeedsTheTime(t *testing.T) {
	for fails := range int32(4) {
		synctest.Test(t, func(t *testing.T) {
			ctx, st := t.Context(), storetest.NewMemory()
			first := newCache(t, st, cache.Source[string, string]{})
			if err := first.Set(ctx, "k", "v", cache.TTL(time.Minute)); err != nil {
				t.Fatal(err)
			}
			late := &lateNow{Memory: st}
			late.fails.Store(fails)
			c := newCache(t, late, cache.Source[string, string]{}, cache.WithStrategy(strategy.TTL(time.Hour)))
			err := c.Set(ctx, "k", "w", cache.KeepTTL())
			var info cache.Info
			v, perr := first.Peek(ctx, "k", cache.Report(&info))
			if err == nil && (v != "w" || info.TTL != time.Minute) || err != nil && (!errors.Is(err, cache.ErrUnavailable) || v == "w") {
				t.Errorf("%d fail: %v; %q has %v left, %v", fails, err, v, info.TTL, perr)
			}
		})
	}
}

func TestTouchRenewsALife(t *testing.T) {
	src := new(source)
	src.give("loaded")
	tiers(t, src, []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleIfError(time.Hour)}, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
		ctx := t.Context()
		for key, ttl := range map[string]time.Duration{"k": 0, "long": time.Hour} {
			var opts []cache.WriteOption
			if ttl > 0 {
				opts = append(opts, cache.TTL(ttl))
			}
			if err := c.Set(ctx, key, "v", opts...); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			time.Sleep(8 * time.Second)
			if err := c.Touch(ctx, "k", "long"); err != nil {
				t.Fatal(err)
			}
		}
		age := 40 * time.Second
		for key, want := range map[string]time.Duration{"k": 10 * time.Second, "long": time.Hour - age} {
			if e, err := c.Inspect(ctx, key); err != nil || e.Value != "v" || e.TTL != want || e.Age != age {
				t.Errorf("%s: %q of %v, %v left, %v; want %v of %v", key, e.Value, e.Age, e.TTL, err, want, age)
			}
		}
		if src.calls.Load() != 0 {
			t.Error("the source was asked")
		}
		time.Sleep(10 * time.Second)
		if err := c.Touch(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("a stale value: %v", err)
		}
		var be *cache.BatchError[string]
		if err := c.Touch(ctx, "k", "long", "none"); !errors.As(err, &be) || len(be.Errs) != 2 || !errors.Is(be.For("none"), cache.ErrMiss) {
			t.Errorf("%v", err)
		}
		if err := c.Touch(ctx); err != nil {
			t.Error(err)
		}
		src.fail(cache.ErrNotFound)
		if _, err := c.Get(ctx, "absent"); !errors.Is(err, cache.ErrNotFound) {
			t.Fatal(err)
		}
		if err := c.Touch(ctx, "absent"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("an absence: %v", err)
		}
		if m := c.Metrics(); m.Touched != 5*2+1 {
			t.Errorf("%d touched", m.Touched)
		}
		c.Close()
		if err := c.Touch(ctx, "k"); !errors.Is(err, cache.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestTouchBySourceTTLAndSliding(t *testing.T) {
	for _, kind := range []string{"redis", "two tiers", "local only"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				src := cache.Source[string, time.Duration]{TTL: func(_ string, d time.Duration) time.Duration { return d }}
				c := ofKind(t, kind, storetest.NewMemory(), src, cache.WithStrategy(strategy.TTL(time.Hour), strategy.Jitter(0), strategy.Sliding(10*time.Second)))
				if err := c.Set(ctx, "k", 30*time.Second); err != nil {
					t.Fatal(err)
				}
				for range 4 {
					time.Sleep(9 * time.Second)
					if err := c.Touch(ctx, "k"); err != nil {
						t.Fatal(err)
					}
				}
				if e, err := c.Inspect(ctx, "k"); err != nil || e.TTL != 30*time.Second {
					t.Errorf("%v left, %v", e.TTL, err)
				}
				time.Sleep(10 * time.Second)
				if _, err := c.Peek(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
					t.Errorf("after the idle time: %v", err)
				}
				if err := c.Set(ctx, "kept out", 30*time.Second, cache.TTL(time.Minute)); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestTouchPutsNoInvalidationOff(t *testing.T) {
	for _, kind := range []string{"redis", "two tiers", "local only"} {
		for _, how := range []string{"key", "tag", "all"} {
			t.Run(kind+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					c := ofKind(t, kind, storetest.NewMemory(), cache.Source[string, string]{}, cache.WithStrategy(strategy.TTL(time.Hour), strategy.Jitter(0)), cache.WithInvalidator(invalidate.Delayed(10*time.Second)))
					if err := c.Set(ctx, "k", "v", cache.Tags("t")); err != nil {
						t.Fatal(err)
					}
					if err := c.Set(ctx, "bare", "v"); err != nil {
						t.Fatal(err)
					}
					var err error
					switch how {
					case "key":
						err = c.Invalidate(ctx, "k", "bare")
					case "tag":
						err = errors.Join(c.InvalidateTags(ctx, "t"), c.Invalidate(ctx, "bare"))
					case "all":
						err = c.Clear(ctx)
					}
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(9 * time.Second)
					if err := c.Touch(ctx, "k", "bare"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					for _, key := range []string{"k", "bare"} {
						if v, err := c.Peek(ctx, key); !errors.Is(err, cache.ErrMiss) {
							t.Errorf("%s: %q, %v", key, v, err)
						}
					}
				})
			})
		}
	}
}

func TestTouchAndUpdatesOfManyProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := t.Context(), storetest.NewMemory()
		var all sync.WaitGroup
		var n atomic.Int32
		first := onMemory(t, st, cache.Source[string, int]{}, cache.WithStrategy(strategy.TTL(time.Minute)))
		if err := first.Set(ctx, "k", 0); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			c := onMemory(t, st, cache.Source[string, int]{}, cache.WithStrategy(strategy.TTL(time.Minute)))
			all.Go(func() {
				for range 20 {
					if _, err := c.Update(ctx, "k", func(v int, ok bool) (int, error) { return v + 1, nil }); err != nil {
						t.Error(err)
					}
					n.Add(1)
					if err := c.Touch(ctx, "k"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if v, err := first.Get(ctx, "k", cache.SkipLocal()); v != int(n.Load()) || err != nil {
			t.Error(fmt.Sprint(v, " of ", n.Load(), " updates, ", err))
		}
	})
}
