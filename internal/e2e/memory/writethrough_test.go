package memory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// database is a system of record that takes its time.
type database struct {
	mu    sync.Mutex
	rows  map[string]string
	log   []string
	fail  error
	delay func() time.Duration
}

func newDatabase() *database { return &database{rows: map[string]string{}} }

func (d *database) do(what string, f func()) error {
	if d.delay != nil {
		time.Sleep(d.delay())
		defer func() { time.Sleep(d.delay()) }()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, what)
	if d.fail != nil {
		return d.fail
	}
	f()
	return nil
}

func (d *database) get(k string) (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, ok := d.rows[k]
	return v, ok
}

func (d *database) source() cache.Source[string, string] {
	return cache.Source[string, string]{
		Load: func(_ context.Context, k string) (v string, err error) {
			found := false
			err = d.do("load "+k, func() { v, found = d.rows[k] })
			if err == nil && !found {
				err = cache.ErrNotFound
			}
			return v, err
		},
		Store: func(_ context.Context, k, v string) error { return d.do("store "+k, func() { d.rows[k] = v }) },
		StoreMany: func(_ context.Context, vals map[string]string) error {
			return d.do(fmt.Sprintf("store %d", len(vals)), func() {
				for k, v := range vals {
					d.rows[k] = v
				}
			})
		},
		Delete: func(_ context.Context, k string) error { return d.do("delete "+k, func() { delete(d.rows, k) }) },
	}
}

// writers runs f for both write strategies that are synchronous, on each kind of tiers.
func writers(t *testing.T, f func(t *testing.T, db *database, c *cache.Cache[string, string], around bool, store *storetest.Memory)) {
	for _, s := range []strategy.Strategy{strategy.WriteThrough(), strategy.WriteAround()} {
		for _, kind := range []string{"redis", "two tiers", "local only"} {
			t.Run(s.String()+" "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					db, store := newDatabase(), storetest.NewMemory()
					f(t, db, onDatabase(t, db, store, kind, s), s == strategy.WriteAround(), store)
				})
			})
		}
	}
}

func onDatabase(t *testing.T, db *database, st *storetest.Memory, kind string, s ...strategy.Strategy) *cache.Cache[string, string] {
	t.Helper()
	return ofKind(t, kind, st, db.source(), cache.WithStrategy(strategy.Jitter(0)), cache.WithStrategy(s...))
}

func TestWritesReachTheSourceFirst(t *testing.T) {
	writers(t, func(t *testing.T, db *database, c *cache.Cache[string, string], around bool, _ *storetest.Memory) {
		ctx := t.Context()
		cached := func(k string) bool { _, err := c.Peek(ctx, k); return err == nil }
		expect := func(what, k, want string, has bool) {
			t.Helper()
			v, ok := db.get(k)
			if v != want || ok != has {
				t.Errorf("%s: the source has %q, %v", what, v, ok)
			}
			if is := has && !around; cached(k) != is {
				t.Errorf("%s: cached is %v", what, !is)
			}
			if v, err := c.Get(ctx, k); v != want || (err == nil) != has {
				t.Errorf("%s: read as %q, %v", what, v, err)
			}
			if err := c.Invalidate(ctx, k); err != nil {
				t.Fatal(err)
			}
			db.log = nil
		}
		if err := c.Set(ctx, "k", "v1"); err != nil {
			t.Fatal(err)
		}
		expect("set", "k", "v1", true)
		if err := c.SetMany(ctx, map[string]string{"k": "v2", "l": "w"}); err != nil || fmt.Sprint(db.log) != "[store 2]" {
			t.Fatal(err, db.log)
		}
		expect("set many", "k", "v2", true)
		if v, err := c.Update(ctx, "k", func(old string, ok bool) (string, error) { return old + "+", nil }); v != "v2+" || err != nil {
			t.Fatal(v, err)
		}
		expect("update", "k", "v2+", true)
		if ok, err := c.SetIfAbsent(ctx, "new", "n"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		expect("set if absent", "new", "n", true)
		if err := c.Delete(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		expect("delete", "k", "", false)
		if err := c.Delete(ctx, "l", "new"); err != nil || len(db.rows) != 0 {
			t.Error(err, db.rows)
		}
	})
}

func TestASourceThatFailsLeavesNothingInTheCache(t *testing.T) {
	writers(t, func(t *testing.T, db *database, c *cache.Cache[string, string], around bool, store *storetest.Memory) {
		ctx := t.Context()
		for what, write := range map[string]func() error{
			"set":           func() error { return c.Set(ctx, "k", "new") },
			"set many":      func() error { return c.SetMany(ctx, map[string]string{"k": "new", "l": "new"}) },
			"delete":        func() error { return c.Delete(ctx, "k") },
			"update":        func() error { _, err := c.Update(ctx, "k", always("new")); return err },
			"set if absent": func() error { _ = c.Invalidate(ctx, "k"); _, err := c.SetIfAbsent(ctx, "k", "new"); return err },
		} {
			db.fail = nil
			db.rows = map[string]string{"k": "old"}
			if v, err := c.Get(ctx, "k", cache.MaxAge(0)); v != "old" || err != nil {
				t.Fatal(v, err)
			}
			db.fail = errFlaky
			if what == "update" {
				db.fail = nil
				if _, err := c.Get(ctx, "k"); err != nil {
					t.Fatal(err)
				}
				db.fail = errFlaky
			}
			if err := write(); !errors.Is(err, errFlaky) || errors.Is(err, cache.ErrUnavailable) {
				t.Errorf("%s: %v", what, err)
			}
			if v, err := c.Peek(ctx, "k"); err == nil {
				t.Errorf("%s: the cache has %q, and it is not known what the source has", what, v)
			}
			if hook.Of(c).Remote() {
				if ttl := store.TTL(c.RedisKey("k")); ttl != -2*time.Millisecond {
					t.Errorf("%s: the key is there for %v", what, ttl)
				}
			}
		}
	})
}

func always(v string) func(string, bool) (string, error) {
	return func(string, bool) (string, error) { return v, nil }
}

func TestRedisFailingAfterTheSourceIsReportedAndToldLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		db, store := newDatabase(), storetest.NewMemory()
		c, other := onDatabase(t, db, store, "two tiers"), onDatabase(t, db, store, "two tiers")
		if err := c.Set(ctx, "k", "old"); err != nil {
			t.Fatal(err)
		}
		if v, err := other.Get(ctx, "k"); v != "old" || err != nil {
			t.Fatal(v, err)
		}
		store.Fail(errDown)
		if err := c.Set(ctx, "k", "new"); !errors.Is(err, cache.ErrUnavailable) {
			t.Error(err)
		}
		if v, _ := db.get("k"); v != "new" {
			t.Errorf("the source has %q", v)
		}
		store.Fail(nil)
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, c := range []*cache.Cache[string, string]{c, other} {
			if v, err := c.Get(ctx, "k"); v != "new" || err != nil {
				t.Errorf("%q, %v", v, err)
			}
		}
	})
}

// What several processes write at once to a source that takes its time: in the end the
// cache has what the source has, or nothing.
func TestTheCacheAgreesWithTheSourceInTheEnd(t *testing.T) {
	for _, s := range []strategy.Strategy{strategy.WriteThrough(), strategy.WriteAround()} {
		for seed := range uint64(redistest.Times(60, 60)) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 1))
				var mu sync.Mutex
				db, store := newDatabase(), storetest.NewMemory()
				db.delay = func() time.Duration {
					mu.Lock()
					defer mu.Unlock()
					return time.Duration(r.IntN(1_000_000))
				}
				var caches []*cache.Cache[string, string]
				for _, kind := range []string{"redis", "two tiers", "two tiers"} {
					caches = append(caches, onDatabase(t, db, store, kind, s))
				}
				if seed%4 == 0 { // one process alone
					caches = []*cache.Cache[string, string]{onDatabase(t, db, store, "local only", s)}
				}
				var wg sync.WaitGroup
				for i := range 6 {
					c := caches[i%len(caches)]
					wg.Go(func() {
						for n := range 8 {
							time.Sleep(db.delay())
							v := fmt.Sprint(i, n)
							var err error
							switch db.delay() % 6 {
							case 0:
								err = c.Delete(t.Context(), "k")
							case 1:
								_, err = c.Update(t.Context(), "k", always(v))
							case 2:
								_, err = c.SetIfAbsent(t.Context(), "k", v)
							case 3, 4:
								err = c.Set(t.Context(), "k", v)
							default:
								if _, err = c.Get(t.Context(), "k"); errors.Is(err, cache.ErrNotFound) {
									err = nil
								}
							}
							if err != nil {
								t.Error(err)
							}
						}
					})
				}
				wg.Wait()
				synctest.Wait()
				want, has := db.get("k")
				for i, c := range caches {
					v, err := c.Peek(t.Context(), "k")
					absent := errors.Is(err, cache.ErrNotFound)
					if !errors.Is(err, cache.ErrMiss) && (v != want || absent == has) {
						t.Errorf("%v, seed %d: cache %d has %q, %v; the source %q, %v", s, seed, i, v, err, want, has)
					}
				}
			})
		}
	}
}

func TestSetIfAbsentAndUpdateAreAtomicThroughTheSource(t *testing.T) {
	for _, kind := range []string{"redis", "two tiers", "local only"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db, store := newDatabase(), storetest.NewMemory()
				db.delay = func() time.Duration { return time.Millisecond }
				caches := []*cache.Cache[string, string]{onDatabase(t, db, store, kind)}
				if kind != "local only" {
					caches = append(caches, onDatabase(t, db, store, kind))
				}
				var wg sync.WaitGroup
				var mu sync.Mutex
				stored := 0
				for i := range 10 {
					c := caches[i%len(caches)]
					wg.Go(func() {
						ok, err := c.SetIfAbsent(t.Context(), "once", fmt.Sprint(i))
						if err != nil {
							t.Error(err)
						}
						mu.Lock()
						defer mu.Unlock()
						if ok {
							stored++
						}
					})
					wg.Go(func() {
						if _, err := c.Update(t.Context(), "all", func(old string, _ bool) (string, error) { return old + "x", nil }); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if v, _ := db.get("all"); stored != 1 || len(v) != 10 {
					t.Errorf("%d stored, and %q after ten updates", stored, v)
				}
			})
		})
	}
}

func TestBadWriteStrategies(t *testing.T) {
	st := func(context.Context, string, string) error { return nil }
	for want, c := range map[string]struct {
		src cache.Source[string, string]
		s   []strategy.Strategy
	}{
		"strategy.WriteThrough() needs Source.Store": {cache.Source[string, string]{}, []strategy.Strategy{strategy.WriteThrough()}},
		"strategy.WriteAround() needs Source.Store":  {cache.Source[string, string]{}, []strategy.Strategy{strategy.WriteAround()}},
		"Source.Delete without Source.Store":         {cache.Source[string, string]{Delete: func(context.Context, string) error { return nil }}, nil},
	} {
		_, err := build("test", c.src, []cache.Option{cache.WithStrategy(c.s...)}, func() store.Store { return storetest.NewMemory() })
		if !errors.Is(err, cache.ErrInvalidOption) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := onMemory(t, storetest.NewMemory(), cache.Source[string, string]{Store: st})
		if err := c.Delete(t.Context(), "k"); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Delete without Source.Delete: %v", err)
		}
		c = onMemory(t, storetest.NewMemory(), cache.Source[string, string]{Store: func(context.Context, string, string) error { panic("boom") }})
		var p *cache.PanicError
		if err := c.Set(t.Context(), "k", "v"); !errors.As(err, &p) {
			t.Errorf("a panic: %v", err)
		}
	})
}
