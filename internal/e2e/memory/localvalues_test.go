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
	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// rule is a value that no codec can encode.
type rule struct {
	name  string
	allow func(user string) bool
}

// rules is the source of the processes of a test.
type rules struct {
	mu    sync.Mutex
	names map[string]string
	loads atomic.Int32
	held  chan struct{} // not nil: a load that has its value waits for it, once
}

func newRules() *rules { return &rules{names: map[string]string{"k": "v1", "l": "l1"}} }

func (r *rules) set(key, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[key] = name
}

func (r *rules) load(_ context.Context, key string) (*rule, error) {
	r.loads.Add(1)
	r.mu.Lock()
	name, held := r.names[key], r.held
	r.held = nil
	r.mu.Unlock()
	if held != nil {
		<-held
	}
	if name == "" {
		return nil, cache.ErrNotFound
	}
	return &rule{name, func(user string) bool { return user != "" }}, nil
}

// hold has the next load wait before it returns what it has read.
func (r *rules) hold() (goOn func()) {
	held := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = held
	return func() { close(held) }
}

func (r *rules) source() cache.Source[string, *rule] {
	return cache.Source[string, *rule]{
		Load:  r.load,
		Tags:  func(key string, _ *rule) []string { return []string{"of " + key, "rules"} },
		Clone: func(r *rule) *rule { c := *r; return &c },
	}
}

// withValues makes a process whose values stay in it.
func withValues(t *testing.T, st store.Store, src cache.Source[string, *rule], opts ...cache.Option) *cache.Cache[string, *rule] {
	t.Helper()
	return onMemory(t, st, src, append([]cache.Option{cache.LocalValues(), cache.WithStrategy(strategy.TTL(time.Hour))}, opts...)...)
}

func wantRule(t *testing.T, what string, c *cache.Cache[string, *rule], key, name string, tier metrics.Tier) {
	t.Helper()
	var info cache.Info
	v, err := c.Get(t.Context(), key, cache.Report(&info))
	switch {
	case err != nil:
		t.Errorf("%s: %v, want %q", what, err, name)
	case v.name != name || info.Tier != tier || !v.allow("ada"):
		t.Errorf("%s: %q from %v, want %q from %v", what, v.name, info.Tier, name, tier)
	}
}

// theirChanges are the ways in which another process changes key k.
func theirChanges(ctx context.Context, c *cache.Cache[string, *rule]) map[string]func() error {
	return map[string]func() error{
		"invalidate": func() error { return c.Invalidate(ctx, "k") },
		"delete":     func() error { return c.Delete(ctx, "l", "k") },
		"set":        func() error { return c.Set(ctx, "k", &rule{name: "theirs"}) },
		"set many":   func() error { return c.SetMany(ctx, map[string]*rule{"k": {name: "theirs"}, "m": {}}) },
		"update": func() error {
			_, err := c.Update(ctx, "k", func(*rule, bool) (*rule, error) { return &rule{name: "theirs"}, nil })
			return err
		},
		"encoded": func() error { return c.InvalidateEncoded(ctx, "k") },
		"pattern": func() error { _, err := c.InvalidatePattern(ctx, "[k]*"); return err },
		"tags":    func() error { return c.InvalidateTags(ctx, "none", "of k") },
		"clear":   func() error { return c.Clear(ctx) },
	}
}

// A process that is notified of a change has the new value at its next read, whatever the change was,
// and neither process leaves anything in Redis but the logical clock.
func TestLocalValuesAreDroppedByEveryChange(t *testing.T) {
	for name := range theirChanges(context.TODO(), nil) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, src := storetest.NewMemory(), newRules()
				a, b := withValues(t, st, src.source()), withValues(t, st, src.source())
				wantRule(t, "first", a, "k", "v1", metrics.Source)
				wantRule(t, "again", a, "k", "v1", metrics.Local)
				wantRule(t, "in the other process", b, "k", "v1", metrics.Source)
				if n := src.loads.Load(); n != 2 {
					t.Errorf("%d loads, want one in each process", n)
				}
				src.set("k", "v2")
				if err := theirChanges(t.Context(), b)[name](); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
				wantRule(t, "after the change", a, "k", "v2", metrics.Source)
				wantRule(t, "and again", a, "k", "v2", metrics.Local)
				for _, key := range []string{"test:k", "test:l", "test:m"} {
					if rec := st.Do(t.Context(), []store.Command{{Op: store.Get, Key: key}})[0].Record; rec.State != store.Missing {
						t.Errorf("Redis has %q: %q", key, rec.Raw)
					}
				}
				if got := a.Metrics(); got.InvalidationsReceived == 0 || got.RemoteHits != 0 {
					t.Errorf("%d invalidations received, %d hits in Redis", got.InvalidationsReceived, got.RemoteHits)
				}
				if got := b.Metrics(); got.InvalidationsSent == 0 {
					t.Error("no invalidation sent")
				}
			})
		})
	}
}

// A load that began before a change is told is not kept, and later callers do not join it.
//
//  1. a: a load reads the source: v1
//  2. the source has v2; b changes the key; a is told
//  3. a: the load of 1 ends
func TestALoadFromBeforeAChangeElsewhereIsNotKept(t *testing.T) {
	for name := range theirChanges(context.TODO(), nil) {
		for _, when := range []string{"told during the load", "told after the load", "cut during the load"} {
			t.Run(name+", "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					st, src := storetest.NewMemory(), newRules()
					a, b := withValues(t, st, src.source()), withValues(t, st, src.source())
					_, _ = a.Peek(ctx, "k")
					_, _ = b.Get(ctx, "l")
					synctest.Wait()
					goOn := src.hold()
					got := make(chan string, 1)
					go func() {
						v, err := a.Get(ctx, "k")
						got <- fmt.Sprint(v.name, err)
					}()
					synctest.Wait()
					late := time.Duration(0)
					switch when {
					case "told after the load":
						late = 900 * time.Millisecond
						st.Intercept(func(d storetest.Delivery) (int, time.Duration) {
							if d.Kind == storetest.DeliverMessage {
								return 1, late
							}
							return 1, 0
						})
					case "cut during the load":
						st.Intercept(func(storetest.Delivery) (int, time.Duration) { return 0, 0 })
					}
					src.set("k", "v2")
					if err := theirChanges(ctx, b)[name](); err != nil {
						t.Fatal(err)
					}
					if when == "cut during the load" {
						st.CutListeners(errors.New("cut"))
						st.Intercept(nil)
						time.Sleep(100 * time.Millisecond) // another session begins
					}
					time.Sleep(time.Millisecond)
					if when == "told during the load" {
						joined := make(chan string, 1)
						go func() {
							v, err := a.Get(ctx, "k")
							joined <- fmt.Sprint(v.name, err)
						}()
						// It begins a load of its own, or waits for the end of the first one.
						time.Sleep(time.Millisecond)
						goOn()
						if v := <-joined; v != "v2<nil>" {
							t.Errorf("a caller after the change got %s", v)
						}
					} else {
						goOn()
					}
					if v := <-got; v != "v1<nil>" {
						t.Errorf("the load's caller got %s", v)
					}
					if late > 0 && name != "tags" && name != "clear" { // Redis tells of these when it is asked
						wantRule(t, "before the message arrives", a, "k", "v1", metrics.Local)
					}
					time.Sleep(late + time.Millisecond)
					if v, err := a.Get(ctx, "k"); err != nil || v.name != "v2" {
						t.Errorf("afterwards: %v, %v", v, err)
					}
				})
			})
		}
	}
}

// Two processes set a key at a time: at most one of them keeps its value, and which one, if any,
// does not depend on the order in which acknowledgements and messages come.
func TestOfTwoSetsElsewhereNoneIsKeptThatWasReplaced(t *testing.T) {
	for _, delays := range [][2]time.Duration{{0, 0}, {50 * time.Millisecond, 0}, {0, 50 * time.Millisecond}, {50 * time.Millisecond, 50 * time.Millisecond}} {
		t.Run(fmt.Sprint(delays), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				st := storetest.NewMemory()
				nets := [2]*wire{{Memory: st}, {Memory: st}}
				var caches [2]*cache.Cache[string, *rule]
				for i := range caches {
					caches[i] = withValues(t, nets[i], cache.Source[string, *rule]{})
					_, _ = caches[i].Peek(ctx, "k")
				}
				synctest.Wait()
				st.Intercept(func(d storetest.Delivery) (int, time.Duration) { return 1, delays[d.Listener%2] })
				// Both are sent before either is acknowledged.
				holds := [2]*held{nets[0].hold(store.Delete, false), nets[1].hold(store.Delete, false)}
				var wg sync.WaitGroup
				for i, c := range caches {
					wg.Go(func() {
						if err := c.Set(ctx, "k", &rule{name: fmt.Sprint(i)}); err != nil {
							t.Error(err)
						}
					})
				}
				for _, h := range holds {
					<-h.reached
				}
				time.Sleep(10 * time.Millisecond)
				for _, h := range holds {
					close(h.release)
				}
				wg.Wait()
				time.Sleep(100 * time.Millisecond)
				kept := 0
				for _, c := range caches {
					if _, err := c.Peek(ctx, "k"); err == nil {
						kept++
					}
				}
				if kept > 1 {
					t.Error("both processes keep what they have set")
				}
				if err := caches[0].Set(ctx, "k", &rule{name: "alone"}); err != nil {
					t.Error(err)
				}
				time.Sleep(100 * time.Millisecond)
				if v, err := caches[0].Peek(ctx, "k"); err != nil || v.name != "alone" {
					t.Errorf("a later Set: %v, %v", v, err)
				}
				if _, err := caches[1].Peek(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
					t.Errorf("the other process: %v", err)
				}
			})
		})
	}
}

// Sets and loads of one process: a load that a Set overtakes is not kept, one that comes during the
// Set waits for it, and of two Sets the later one holds.
func TestSetsAndLoadsOfOneProcessWithLocalValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		src, net := newRules(), &wire{Memory: storetest.NewMemory()}
		c := withValues(t, net, src.source())
		_, _ = c.Peek(ctx, "k")
		goOn := src.hold()
		go func() { _, _ = c.Get(ctx, "k") }()
		synctest.Wait()
		hold := net.hold(store.Delete, false)
		first := make(chan error, 1)
		go func() { first <- c.Set(ctx, "k", &rule{"first", func(string) bool { return true }}) }()
		<-hold.reached
		goOn() // its value is kept until the Set is acknowledged
		during := make(chan string, 1)
		go func() {
			v, err := c.Get(ctx, "k", cache.MaxAge(time.Hour))
			during <- fmt.Sprint(v.name, err)
		}()
		synctest.Wait()
		close(hold.release)
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		if v := <-during; v != "first<nil>" && v != "v1<nil>" {
			t.Errorf("a read during the Set got %s", v)
		}
		wantRule(t, "after the Set", c, "k", "first", metrics.Local)
		for i := range 3 {
			name := fmt.Sprint("next ", i)
			if err := c.Set(ctx, "k", &rule{name, func(string) bool { return true }}); err != nil {
				t.Fatal(err)
			}
			wantRule(t, "at once", c, "k", name, metrics.Local)
		}
		if n := src.loads.Load(); n != 1 {
			t.Errorf("%d loads", n)
		}
	})
}

// The methods, in one process.
func TestMethodsWithLocalValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		src := newRules()
		c := withValues(t, storetest.NewMemory(), src.source())
		yes := func(string) bool { return true }

		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { _, _ = c.Get(ctx, "k") })
		}
		wg.Wait()
		if n := src.loads.Load(); n != 1 {
			t.Errorf("%d loads for ten callers", n)
		}
		if vals, err := c.GetMany(ctx, []string{"k", "l", "none"}); err != nil || len(vals) != 2 || vals["l"].name != "l1" {
			t.Errorf("GetMany: %v, %v", vals, err)
		}
		loads := src.loads.Load()
		if _, err := c.Get(ctx, "none"); !errors.Is(err, cache.ErrNotFound) || src.loads.Load() != loads {
			t.Errorf("an absence is not remembered: %v, %d loads", err, src.loads.Load()-loads)
		}
		if err := c.SetMany(ctx, map[string]*rule{"m": {"m1", yes}, "none": {"here", yes}}); err != nil {
			t.Fatal(err)
		}
		wantRule(t, "set many", c, "none", "here", metrics.Local)
		v, err := c.Update(ctx, "m", func(old *rule, ok bool) (*rule, error) { old.name += "+"; return old, nil })
		if err != nil || v.name != "m1+" {
			t.Errorf("Update: %v, %v", v, err)
		}
		wantRule(t, "updated", c, "m", "m1+", metrics.Local)
		if _, err := c.SetIfAbsent(ctx, "n", &rule{"n", yes}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("SetIfAbsent: %v", err)
		}
		time.Sleep(30 * time.Minute)
		if err := c.Touch(ctx, "m"); err != nil {
			t.Error(err)
		}
		if err := c.Touch(ctx, "never"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("Touch of nothing: %v", err)
		}
		e, err := c.Inspect(ctx, "m")
		if err != nil || e.Tier != metrics.Local || e.TTL != time.Hour || e.Value.name != "m1+" {
			t.Errorf("Inspect: %+v, %v", e, err)
		}
		if err := c.Set(ctx, "m", &rule{"m2", yes}, cache.TTL(time.Minute)); err != nil {
			t.Error(err)
		}
		if err := c.Set(ctx, "m", &rule{"m3", yes}, cache.KeepTTL()); err != nil {
			t.Error(err)
		}
		if e, err := c.Inspect(ctx, "m"); err != nil || e.TTL != time.Minute || e.Value.name != "m3" {
			t.Errorf("with KeepTTL: %+v, %v", e, err)
		}
		if err := c.Set(ctx, "m", &rule{"m4", yes}, cache.TTL(0)); err != nil {
			t.Error(err)
		}
		if v, err := c.Peek(ctx, "m"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("after a life that is over: %v, %v", v, err)
		}
		if n, err := c.InvalidatePattern(ctx, "[kl]"); err != nil || n != 2 {
			t.Errorf("InvalidatePattern: %d, %v", n, err)
		}
		src.set("l", "l2")
		if err := c.Refresh(ctx, "l"); err != nil {
			t.Error(err)
		}
		wantRule(t, "refreshed", c, "l", "l2", metrics.Local)
		if err := c.Sync(ctx); err != nil {
			t.Error(err)
		}
		var info cache.Info
		if _, err := c.Get(ctx, "l", cache.SkipLocal(), cache.Report(&info)); err != nil || info.Tier != metrics.Source {
			t.Errorf("SkipLocal: %+v, %v", info, err)
		}
		if err := c.Set(ctx, "apart", &rule{"apart", yes}, cache.SkipRemote()); err != nil {
			t.Error(err)
		}
		wantRule(t, "set apart", c, "apart", "apart", metrics.Local)
		if r, err := c.EncodeReplacement(ctx, "l", &rule{}); r != nil || err != nil {
			t.Errorf("EncodeReplacement: %q, %v", r, err)
		}
		if err := c.Clear(ctx); err != nil {
			t.Error(err)
		}
		if v, err := c.Peek(ctx, "l"); !errors.Is(err, cache.ErrMiss) || errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("after Clear: %v, %v", v, err)
		}
	})
}

// An entry with tags whose tombstones this process does not know yet is answered by the local tier,
// once Redis has said that they were not invalidated.
func TestUnknownTagsOfLocalValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newRules()
		c := withValues(t, storetest.NewMemory(), src.source())
		wantRule(t, "first", c, "k", "v1", metrics.Source)
		for range 3 {
			wantRule(t, "again", c, "k", "v1", metrics.Local)
		}
		if n := src.loads.Load(); n != 1 {
			t.Errorf("%d loads", n)
		}
	})
}

// Tags that are invalidated all the time, elsewhere, keep no load of other tags from being kept.
func TestOtherTagsDoNotVoidLoadsOfLocalValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st, src := storetest.NewMemory(), newRules()
		a, b := withValues(t, st, src.source()), withValues(t, st, src.source())
		_, _ = a.Peek(ctx, "k")
		goOn := src.hold()
		done := make(chan struct{})
		go func() { defer close(done); _, _ = a.Get(ctx, "k") }()
		synctest.Wait()
		if err := errors.Join(b.InvalidateTags(ctx, "others"), b.Invalidate(ctx, "l")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.InvalidatePattern(ctx, "l*"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		goOn()
		<-done
		wantRule(t, "afterwards", a, "k", "v1", metrics.Local)
	})
}

// While Redis can't be reached the local tier is not used, and each read asks the source; what could
// not be told is told afterwards.
func TestLocalValuesInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st, src := storetest.NewMemory(), newRules()
		a, b := withValues(t, st, src.source()), withValues(t, st, src.source())
		wantRule(t, "before", a, "k", "v1", metrics.Source)
		wantRule(t, "before", b, "k", "v1", metrics.Source)
		if got := a.Metrics().Listener; got != metrics.Up {
			t.Errorf("the listener is %v", got)
		}
		down := errors.New("down")
		st.Fail(down)
		st.CutListeners(down)
		time.Sleep(coherence.HeartbeatTimeout)
		if got := a.Metrics().Listener; got != metrics.Down {
			t.Errorf("the listener is %v in the outage", got)
		}
		src.set("k", "v2")
		for range 3 {
			wantRule(t, "in the outage", a, "k", "v2", metrics.Source)
		}
		if _, err := a.Peek(ctx, "k"); !errors.Is(err, cache.ErrMiss) || !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("Peek: %v", err)
		}
		if err := a.Touch(ctx, "k"); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("Touch: %v", err)
		}
		if err := a.Refresh(ctx, "k"); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("Refresh: %v", err)
		}
		if err := a.Set(ctx, "k", &rule{name: "mine"}); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("Set: %v", err)
		}
		if err := a.Invalidate(ctx, "l"); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("Invalidate: %v", err)
		}
		if got := a.Metrics(); got.NotKept == 0 || got.Fallbacks == 0 {
			t.Errorf("%d loads not kept, %d fallbacks", got.NotKept, got.Fallbacks)
		}
		st.Fail(nil)
		time.Sleep(10 * time.Second)
		if err := a.Sync(ctx); err != nil {
			t.Error(err)
		}
		for i, c := range []*cache.Cache[string, *rule]{a, b} {
			wantRule(t, fmt.Sprint("afterwards ", i), c, "k", "v2", metrics.Source)
			wantRule(t, fmt.Sprint("afterwards ", i), c, "k", "v2", metrics.Local)
		}
	})
}

// If a process can hear nothing, its values are used for no longer than the bound, and a stale value
// covers a failed load as long as StaleIfError says.
func TestTheBoundOfLocalValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st, src := storetest.NewMemory(), newRules()
		a, b := withValues(t, st, src.source()), withValues(t, st, src.source())
		wantRule(t, "before", a, "k", "v1", metrics.Source)
		_, _ = b.Peek(ctx, "k")
		st.Intercept(func(d storetest.Delivery) (int, time.Duration) { return 0, 0 }) // silence, and no error
		src.set("k", "v2")
		if err := b.Invalidate(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		changed := time.Now()
		var last time.Duration
		for time.Since(changed) < 3*coherence.HeartbeatTimeout {
			v, err := a.Get(ctx, "k")
			if err != nil {
				t.Fatal(err)
			}
			if v.name == "v1" {
				last = time.Since(changed)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if last == 0 || last > coherence.HeartbeatTimeout {
			t.Errorf("the old value was served until %v after the change", last)
		}
	})
}

// An Update under a write strategy is atomic over the processes: none is lost, though each process
// would find an older value in its own tier.
func TestUpdatesOfLocalValuesAreAtomicUnderAWriteStrategy(t *testing.T) {
	type counter struct{ n *int } // n is copied by Clone
	for _, how := range []strategy.Strategy{strategy.WriteThrough(), strategy.WriteAround()} {
		t.Run(how.Name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				st := storetest.NewMemory()
				st.Intercept(func(d storetest.Delivery) (int, time.Duration) { return 1, 7 * time.Millisecond })
				var mu sync.Mutex
				db := 0
				src := cache.Source[string, counter]{
					Load: func(context.Context, string) (counter, error) {
						mu.Lock()
						n := db
						mu.Unlock()
						time.Sleep(2 * time.Millisecond)
						return counter{&n}, nil
					},
					Store: func(_ context.Context, _ string, c counter) error {
						time.Sleep(3 * time.Millisecond)
						mu.Lock()
						defer mu.Unlock()
						db = *c.n
						return nil
					},
					Clone: func(c counter) counter { n := *c.n; return counter{&n} },
				}
				var wg sync.WaitGroup
				const processes, callers, times = 3, 2, 5
				var all []*cache.Cache[string, counter]
				for range processes {
					c := onMemory(t, st, src, cache.LocalValues(), cache.WithStrategy(how))
					all = append(all, c)
					for range callers {
						wg.Go(func() {
							for range times {
								if _, err := c.Update(ctx, "k", func(old counter, ok bool) (counter, error) {
									n := *old.n + 1
									return counter{&n}, nil
								}); err != nil {
									t.Error(err)
								}
							}
						})
					}
				}
				wg.Wait()
				if want := processes * callers * times; db != want {
					t.Errorf("%d of %d updates have taken effect", db, want)
				}
				time.Sleep(time.Second)
				for _, c := range all {
					if v, err := c.Get(ctx, "k"); err != nil || *v.n != db {
						t.Errorf("%v, %v, want %d", v, err, db)
					}
				}
				names := hook.Of(all[0]).Names
				if rec := st.Do(ctx, []store.Command{{Op: store.Get, Key: names.Lock + "k"}})[0].Record; rec.State != store.Missing {
					t.Errorf("a lock is left: %v", rec)
				}
			})
		})
	}
}

// A process that dies in an Update holds up others for no longer than a lease.
func TestTheLockOfAnUpdateEndsWithItsProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		n := 0
		src := cache.Source[string, int]{
			Load:  func(context.Context, string) (int, error) { return n, nil },
			Store: func(_ context.Context, _ string, v int) error { n = v; return nil },
		}
		dying := &wire{Memory: st}
		a, b := onMemory(t, dying, src, cache.LocalValues()), onMemory(t, st, src, cache.LocalValues())
		inside, goOn := make(chan struct{}), make(chan struct{})
		go func() {
			_, _ = a.Update(ctx, "k", func(int, bool) (int, error) {
				close(inside)
				<-goOn
				return 0, errors.New("never")
			})
		}()
		<-inside
		time.Sleep(10 * hook.LeaseLife) // it is extended
		began := time.Now()
		waits, cancel := context.WithTimeout(ctx, 2*hook.LeaseLife)
		defer cancel()
		if _, err := b.Update(waits, "k", func(old int, _ bool) (int, error) { return old + 1, nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("an Update beside another one: %v", err)
		}
		dying.lose() // nothing of that process reaches Redis any more
		if _, err := b.Update(ctx, "k", func(old int, _ bool) (int, error) { return old + 1, nil }); err != nil || n != 1 {
			t.Errorf("%d, %v", n, err)
		}
		if took := time.Since(began); took > 2*hook.LeaseLife+hook.LeaseLife+2*hook.LeasePoll {
			t.Errorf("it has taken %v", took)
		}
		close(goOn)
		synctest.Wait()
		dying.heal()
	})
}

// With a write strategy the source is written first; a process that is told meanwhile keeps nothing.
func TestWriteThroughWithLocalValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st, rs := storetest.NewMemory(), newRules()
		yes := func(string) bool { return true }
		src := rs.source()
		var fail error
		src.Store = func(_ context.Context, key string, r *rule) error {
			if fail != nil {
				return fail
			}
			rs.set(key, r.name)
			return nil
		}
		src.Delete = func(_ context.Context, key string) error { rs.set(key, ""); return nil }
		a, b := withValues(t, st, src), withValues(t, st, src)
		wantRule(t, "before", b, "k", "v1", metrics.Source)
		if err := a.Set(ctx, "k", &rule{"v2", yes}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		wantRule(t, "the writer", a, "k", "v2", metrics.Local)
		wantRule(t, "the other", b, "k", "v2", metrics.Source)
		fail = errors.New("disk full")
		if err := a.Set(ctx, "k", &rule{"v3", yes}); !errors.Is(err, fail) {
			t.Errorf("a source that fails: %v", err)
		}
		wantRule(t, "after a failure", a, "k", "v2", metrics.Source)
		fail = nil
		if err := a.Delete(ctx, "k"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Millisecond)
		for _, c := range []*cache.Cache[string, *rule]{a, b} {
			if _, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrNotFound) {
				t.Errorf("after Delete: %v", err)
			}
		}
		// Redis is down: the source has the value all the same, and the others are told later.
		down := errors.New("down")
		st.Fail(down)
		if err := a.Set(ctx, "k", &rule{"v4", yes}); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("Redis down: %v", err)
		}
		st.Fail(nil)
		time.Sleep(10 * time.Second)
		wantRule(t, "told later", b, "k", "v4", metrics.Source)
	})
}

// Stale values, refreshes and idle times are this process's own.
func TestStrategiesWithLocalValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st, src := storetest.NewMemory(), newRules()
		failing := false
		s := src.source()
		s.Load = func(ctx context.Context, key string) (*rule, error) {
			if failing {
				return nil, errors.New("source down")
			}
			return src.load(ctx, key)
		}
		c := withValues(t, st, s, cache.WithStrategy(strategy.TTL(time.Minute), strategy.StaleWhileRevalidate(time.Minute), strategy.StaleIfError(time.Hour)))
		wantRule(t, "first", c, "k", "v1", metrics.Source)
		time.Sleep(90 * time.Second)
		src.set("k", "v2")
		var info cache.Info
		if v, err := c.Get(ctx, "k", cache.Report(&info)); err != nil || v.name != "v1" || !info.Stale {
			t.Errorf("stale: %v, %+v, %v", v, info, err)
		}
		synctest.Wait()
		wantRule(t, "refreshed", c, "k", "v2", metrics.Local)
		failing = true
		time.Sleep(30 * time.Minute)
		if v, err := c.Get(ctx, "k", cache.Report(&info)); err != nil || v.name != "v2" || info.LoadErr == nil {
			t.Errorf("covered: %v, %+v, %v", v, info, err)
		}

		d := withValues(t, st, src.source(), cache.WithStrategy(strategy.TTL(time.Hour), strategy.Sliding(time.Minute)))
		wantRule(t, "first", d, "l", "l1", metrics.Source)
		for range 10 {
			time.Sleep(40 * time.Second)
			wantRule(t, "in use", d, "l", "l1", metrics.Local)
		}
		time.Sleep(61 * time.Second)
		wantRule(t, "not in use", d, "l", "l1", metrics.Source)
	})
}

// With Tracking any program drops a value, by writing its key.
func TestTrackingWithLocalValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := storetest.NewMemory(), newRules()
		a, b := withValues(t, st, src.source(), cache.WithTransport(invalidate.Tracking())), withValues(t, st, src.source())
		wantRule(t, "before", a, "k", "v1", metrics.Source)
		wantRule(t, "before", b, "k", "v1", metrics.Source)
		src.set("k", "v2")
		st.PutOther("test:k")
		time.Sleep(time.Millisecond)
		wantRule(t, "told by Redis", a, "k", "v2", metrics.Source)
		wantRule(t, "not told", b, "k", "v1", metrics.Local)
		// A record of another program is no value, and an invalidation removes it.
		if err := b.Invalidate(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		if rec := st.Do(t.Context(), []store.Command{{Op: store.Get, Key: "test:k"}})[0].Record; rec.State != store.Missing {
			t.Errorf("Redis still has %v", rec)
		}
		wantRule(t, "told by the other process", a, "k", "v2", metrics.Source)
	})
}

// A fleet changes over from values in Redis, process by process: all of them stay coherent.
func TestLocalValuesBesideValuesInRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		var now atomic.Value
		now.Store("v1")
		src := cache.Source[string, string]{Load: func(context.Context, string) (string, error) { return now.Load().(string), nil }}
		before, after := onMemory(t, st, src), onMemory(t, st, src, cache.LocalValues())
		want := func(what string) {
			t.Helper()
			for i, c := range []*cache.Cache[string, string]{before, after} {
				if v, err := c.Get(ctx, "k"); v != now.Load() || err != nil {
					t.Errorf("%s: process %d: %q, %v", what, i, v, err)
				}
			}
		}
		want("at first")
		now.Store("v2")
		if err := before.Set(ctx, "k", "v2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		want("set by one with values in Redis")
		now.Store("v3")
		if err := after.Set(ctx, "k", "v3"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		want("set by one without")
	})
}
