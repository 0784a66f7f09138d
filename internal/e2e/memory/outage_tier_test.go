package memory_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// Tests of strategy.LocalDuringOutage. engine/outage.go has the interleavings.

// aSource is a source whose values change, and that counts its loads.
type aSource struct {
	mu    sync.Mutex
	vals  map[string]string
	loads map[string]int
}

func newSource(keys ...string) *aSource {
	s := &aSource{vals: map[string]string{}, loads: map[string]int{}}
	for _, k := range keys {
		s.vals[k] = "old " + k
	}
	return s
}

func (s *aSource) set(k, v string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vals[k] = v
}

func (s *aSource) count(k string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loads[k]
}

func (s *aSource) Load(_ context.Context, k string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads[k]++
	if v, ok := s.vals[k]; ok {
		return v, nil
	}
	return "", cache.ErrNotFound
}

// outageWire is the network between one process and the store, which may be deaf as well.
type outageWire struct {
	*wire
	deaf atomic.Bool
}

func (w *outageWire) Subscribe(ctx context.Context, l store.Subscription, sink store.Subscriber) error {
	if w.deaf.Load() {
		return errDown
	}
	return w.Memory.Subscribe(ctx, l, sink)
}

// The operations that wire does not see fail with the others.
func (w *outageWire) Now(ctx context.Context, key string) (at int64, err error) {
	if lost := w.through("now", func() { at, err = w.Memory.Now(ctx, key) }); lost != nil {
		return 0, lost
	}
	return at, err
}

func (w *outageWire) Masters(ctx context.Context) (all []string, err error) {
	if lost := w.through("masters", func() { all, err = w.Memory.Masters(ctx) }); lost != nil {
		return nil, lost
	}
	return all, err
}

func (w *outageWire) Scan(ctx context.Context, master, pattern string, cursor uint64) (keys []string, next uint64, err error) {
	if lost := w.through("scan", func() { keys, next, err = w.Memory.Scan(ctx, master, pattern, cursor) }); lost != nil {
		return nil, 0, lost
	}
	return keys, next, err
}

// down takes the process's Redis away, and up gives it back.
func (w *outageWire) down() {
	w.deaf.Store(true)
	w.lose()
	w.CutListeners(errDown)
}

func (w *outageWire) up() {
	w.heal()
	w.deaf.Store(false)
}

const outageLife = 10 * time.Second

// withAndWithoutValues runs a test with values in Redis, and with LocalValues.
func withAndWithoutValues(t *testing.T, f func(t *testing.T, kind cache.Option)) {
	for name, kind := range map[string]cache.Option{
		"in Redis": cache.WithStrategy(strategy.LocalTTL(time.Second)), // by which it would be asked again
		"local":    cache.LocalValues(),
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, kind) }) })
	}
}

// withOutage makes a cache whose local tier goes on during an outage, and its network.
func withOutage(t *testing.T, st *storetest.Memory, src cache.Source[string, string], opts ...cache.Option) (*cache.Cache[string, string], *outageWire) {
	t.Helper()
	w := &outageWire{wire: &wire{Memory: st}}
	return onMemory(t, w, src, append([]cache.Option{cache.WithStrategy(strategy.TTL(time.Hour), strategy.LocalDuringOutage(outageLife))}, opts...)...), w
}

// wants checks a read, and how many loads of its key there were.
func wants(t *testing.T, c *cache.Cache[string, string], s *aSource, k, v string, loads int) {
	t.Helper()
	got, err := c.Get(t.Context(), k)
	if n := s.count(k); got != v || err != nil || n != loads {
		t.Errorf("Get(%s) = %q, %v, after %d loads; want %q after %d", k, got, err, n, v, loads)
	}
}

// An entry of before is served until its time after the last heartbeat, an entry that was loaded
// until its time after the load began: to the nanosecond.
func TestAnOutageEndsEntriesExactly(t *testing.T) {
	withAndWithoutValues(t, func(t *testing.T, kind cache.Option) {
		s := newSource("kept", "loaded")
		c, net := withOutage(t, storetest.NewMemory(), cache.SourceFunc(s.Load), kind)
		wants(t, c, s, "kept", "old kept", 1)
		time.Sleep(3300 * time.Millisecond) // longer than LocalTTL: it is of use all the same
		wants(t, c, s, "kept", "old kept", 1)
		time.Sleep(1500 * time.Millisecond)
		net.down()
		synctest.Wait()
		heard, ok := hook.Of(c).Coherence.LastHeard("")
		if at := local.Now(); !ok || heard > at || at-heard > int64(500*time.Millisecond) {
			t.Fatalf("heard %v before, %v", time.Duration(at-heard), ok)
		}
		s.set("kept", "new kept")
		s.set("loaded", "new loaded")
		time.Sleep(time.Second)
		began := local.Now()
		wants(t, c, s, "loaded", "new loaded", 1)
		s.set("loaded", "newer loaded")

		time.Sleep(time.Duration(heard - local.Now() + int64(outageLife) - 1))
		wants(t, c, s, "kept", "old kept", 1)
		time.Sleep(time.Nanosecond)
		wants(t, c, s, "kept", "new kept", 2)
		wants(t, c, s, "kept", "new kept", 2)

		time.Sleep(time.Duration(began - local.Now() + int64(outageLife) - 1))
		wants(t, c, s, "loaded", "new loaded", 1)
		time.Sleep(time.Nanosecond)
		wants(t, c, s, "loaded", "newer loaded", 2)
		wants(t, c, s, "loaded", "newer loaded", 2)
		if m := c.Metrics(); m.OutageHits != 4 || m.OutageFills != 3 || m.NotKept != 0 {
			t.Errorf("%d hits and %d fills in the outage, %d not kept; want 4, 3 and 0", m.OutageHits, m.OutageFills, m.NotKept)
		}
	})
}

// The life of a value ends an entry before the time of the outage does.
func TestAnOutageServesNothingPastItsLife(t *testing.T) {
	withAndWithoutValues(t, func(t *testing.T, kind cache.Option) {
		s := newSource("k")
		c, net := withOutage(t, storetest.NewMemory(), cache.SourceFunc(s.Load), kind, cache.WithStrategy(strategy.TTL(3*time.Second), strategy.LocalTTL(time.Minute)))
		wants(t, c, s, "k", "old k", 1)
		net.down()
		s.set("k", "new k")
		time.Sleep(3*time.Second - 1)
		wants(t, c, s, "k", "old k", 1)
		time.Sleep(time.Nanosecond)
		wants(t, c, s, "k", "new k", 2)
		time.Sleep(3*time.Second - 1)
		wants(t, c, s, "k", "new k", 2)
		time.Sleep(time.Nanosecond)
		wants(t, c, s, "k", "new k", 3)
	})
}

// Entries of before end in the last tenth of the time, and not all together.
func TestJitterSpreadsTheEndsOfAnOutage(t *testing.T) {
	withAndWithoutValues(t, func(t *testing.T, kind cache.Option) {
		s := newSource()
		var keys []string
		for i := range 100 {
			keys = append(keys, string(rune('A'+i)))
			s.set(keys[i], "v")
		}
		c, net := withOutage(t, storetest.NewMemory(), cache.SourceFunc(s.Load), cache.WithStrategy(strategy.Jitter(0.1)), kind)
		for _, k := range keys {
			wants(t, c, s, k, "v", 1)
		}
		time.Sleep(time.Second)
		net.down()
		synctest.Wait()
		heard, _ := hook.Of(c).Coherence.LastHeard("")
		ended := func() (n int) {
			for _, k := range keys {
				if _, err := c.Peek(t.Context(), k); err != nil {
					n++
				}
			}
			return n
		}
		time.Sleep(time.Duration(heard - local.Now() + int64(outageLife*9/10) - 1))
		if n := ended(); n != 0 {
			t.Errorf("%d of 100 have ended before nine tenths of the time", n)
		}
		time.Sleep(outageLife / 20)
		if n := ended(); n < 25 || n > 75 {
			t.Errorf("%d of 100 have ended in the middle of the last tenth", n)
		}
		time.Sleep(outageLife/20 + 1)
		if n := ended(); n != 100 {
			t.Errorf("%d of 100 have ended at the end", n)
		}
	})
}

// outageChanges are this process's own changes of k, which has the tag t, and what else they
// concern.
var outageChanges = map[string]struct {
	others []string
	change func(context.Context, *cache.Cache[string, string]) error
}{
	"Set": {nil, func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Set(ctx, "k", "set") }},
	"SetMany": {nil, func(ctx context.Context, c *cache.Cache[string, string]) error {
		return c.SetMany(ctx, map[string]string{"k": "set"})
	}},
	"Delete":     {nil, func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, "k") }},
	"Invalidate": {nil, func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") }},
	"InvalidatePattern": {nil, func(ctx context.Context, c *cache.Cache[string, string]) error {
		_, err := c.InvalidatePattern(ctx, "k*")
		return err
	}},
	"InvalidateTags": {nil, func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") }},
	"Clear":          {[]string{"other", "tagged"}, func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) }},
}

// This process's own writes and invalidations are seen at once, although they fail in Redis. What
// they do not concern stays, what is loaded afterwards is kept, and when Redis is back, it and the
// other processes are told.
func TestOwnChangesAreSeenAtOnceInAnOutage(t *testing.T) {
	policies := map[string]invalidate.Policy{"immediate": invalidate.Immediate(), "delayed": invalidate.Delayed(time.Minute), "lazy": invalidate.Lazy()}
	for name, ch := range outageChanges {
		for how, policy := range policies {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, st := t.Context(), storetest.NewMemory()
					s := newSource("k", "other", "tagged")
					src := cache.Source[string, string]{Load: s.Load, Tags: func(k, _ string) []string {
						return map[string][]string{"k": {"t"}, "tagged": {"u"}}[k]
					}}
					c, net := withOutage(t, st, src, cache.WithInvalidator(policy))
					peer := onMemory(t, st, src)
					keys := []string{"k", "other", "tagged"}
					for _, k := range keys {
						wants(t, c, s, k, "old "+k, 1)
						wants(t, peer, s, k, "old "+k, 1)
					}
					time.Sleep(time.Second)
					net.down()
					time.Sleep(time.Second)
					for _, k := range keys {
						wants(t, c, s, k, "old "+k, 1)
						s.set(k, "new "+k)
					}
					if err := ch.change(ctx, c); !errors.Is(err, cache.ErrUnavailable) {
						t.Errorf("%v", err)
					}
					concerned := map[string]bool{"k": true}
					for _, k := range ch.others {
						concerned[k] = true
					}
					for range 3 {
						for _, k := range keys {
							if concerned[k] {
								wants(t, c, s, k, "new "+k, 2)
							} else {
								wants(t, c, s, k, "old "+k, 1)
							}
						}
					}
					net.up()
					if err := c.Sync(ctx); err != nil {
						t.Fatal(err)
					}
					time.Sleep(5 * time.Second)
					for _, k := range keys {
						want := "old " + k // what Redis has: it was not changed in this process
						if concerned[k] {
							want = "new " + k
						}
						for _, c := range []*cache.Cache[string, string]{c, peer} {
							if v, err := c.Get(ctx, k); v != want || err != nil {
								t.Errorf("Redis is back: Get(%s) = %q, %v; want %q", k, v, err, want)
							}
						}
					}
				})
			})
		}
	}
}

// When Redis is back, neither an entry of before nor one of the outage is served, whatever has
// become of Redis.
func TestNothingOfAnOutageIsServedAfterIt(t *testing.T) {
	for name, meanwhile := range map[string]func(ctx context.Context, st *storetest.Memory, peer *cache.Cache[string, string]){
		"another process has written": func(ctx context.Context, _ *storetest.Memory, peer *cache.Cache[string, string]) {
			_ = peer.SetMany(ctx, map[string]string{"kept": "set kept", "loaded": "set loaded"})
		},
		"it comes back empty": func(ctx context.Context, st *storetest.Memory, peer *cache.Cache[string, string]) {
			names := store.NewNames("", "test")
			for _, k := range []string{names.Epoch, names.Tags, names.Data + "kept", names.Data + "loaded"} {
				st.Do(ctx, []store.Command{{Op: store.Delete, Key: k}})
			}
			st.Succeed()
		},
		"another server has taken its place": func(ctx context.Context, st *storetest.Memory, peer *cache.Cache[string, string]) {
			st.Succeed()
			_ = peer.SetMany(ctx, map[string]string{"kept": "set kept", "loaded": "set loaded"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, st, s := t.Context(), storetest.NewMemory(), newSource("kept", "loaded")
				c, net := withOutage(t, st, cache.SourceFunc(s.Load), cache.WithStrategy(strategy.LocalDuringOutage(time.Hour)))
				peer := onMemory(t, st, cache.SourceFunc(s.Load))
				wants(t, c, s, "kept", "old kept", 1)
				time.Sleep(time.Second)
				net.down()
				synctest.Wait()
				wants(t, c, s, "loaded", "old loaded", 1)
				meanwhile(ctx, st, peer)
				for _, k := range []string{"kept", "loaded"} {
					s.set(k, "set "+k)
				}
				wants(t, c, s, "kept", "old kept", 1)
				wants(t, c, s, "loaded", "old loaded", 1)
				net.up()
				for !hook.Of(c).Coherence.LocalValid(local.Now()) {
					time.Sleep(time.Millisecond)
				}
				for range 3 {
					for _, k := range []string{"kept", "loaded"} {
						if v, err := c.Get(ctx, k); v != "set "+k || err != nil {
							t.Errorf("Get(%s) = %q, %v", k, v, err)
						}
					}
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// A load that runs when the outage begins is kept, for the time since it began, and one that runs
// when the outage ends is not.
func TestLoadsAcrossTheEndsOfAnOutage(t *testing.T) {
	withAndWithoutValues(t, func(t *testing.T, kind cache.Option) {
		var loads atomic.Int32
		g := newGate()
		load := func(ctx context.Context, k string) (string, error) {
			loads.Add(1)
			return g.load(ctx, k)
		}
		c, net := withOutage(t, storetest.NewMemory(), cache.SourceFunc(load), kind)
		gets := func(v string, n int32) {
			t.Helper()
			if got, err := c.Get(t.Context(), "k"); got != v || err != nil || loads.Load() != n {
				t.Errorf("%q, %v after %d loads; want %q after %d", got, err, loads.Load(), v, n)
			}
		}
		_, _ = c.Peek(t.Context(), "other")
		time.Sleep(time.Second)
		first, began := get(c, "k", load), time.Now()
		<-g.began
		net.down()
		time.Sleep(3 * time.Second)
		g.end <- "one"
		if v := <-first; v != "one" {
			t.Error(v)
		}
		gets("one", 1)
		time.Sleep(time.Until(began.Add(outageLife)) - 1)
		gets("one", 1)
		time.Sleep(time.Nanosecond)

		second := get(c, "k", load)
		<-g.began
		net.up()
		for !hook.Of(c).Coherence.LocalValid(local.Now()) {
			time.Sleep(time.Millisecond)
		}
		g.end <- "two"
		if v := <-second; v != "two" {
			t.Error(v)
		}
		third := get(c, "k", load)
		<-g.began
		g.end <- "three"
		if v := <-third; v != "three" {
			t.Error(v)
		}
		gets("three", 3)
	})
}

// Notifications are received, and commands are not answered: what is loaded answers only where
// Redis could not be asked.
func TestARedisThatIsHeardAndNotReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource("k")
		c, net := withOutage(t, storetest.NewMemory(), cache.SourceFunc(s.Load), cache.WithBreaker(3, time.Second))
		_, _ = c.Peek(t.Context(), "other")
		time.Sleep(time.Second)
		net.lose("get", "get_header", "set_nx", "compare_and_set", "compare_and_delete", "delete", "publish")
		for range 10 {
			if !hook.Of(c).Coherence.LocalValid(local.Now()) {
				t.Fatal("it is not heard")
			}
			wants(t, c, s, "k", "old k", 1)
		}
		s.set("k", "new k")
		if err := c.Invalidate(t.Context(), "k"); err == nil {
			t.Error("an invalidation got through")
		}
		for range 10 {
			wants(t, c, s, "k", "new k", 2)
		}
		s.set("k", "newer k")
		net.heal()
		time.Sleep(2 * time.Second)
		if !hook.Of(c).Coherence.LocalValid(local.Now()) {
			t.Fatal("it is not heard")
		}
		for range 3 {
			wants(t, c, s, "k", "newer k", 3)
		}
	})
}

// Commands are answered, and notifications are not received: entries are served for their time,
// what is read from Redis as well, and what this process writes at once.
func TestARedisThatIsReachedAndNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st, s := t.Context(), storetest.NewMemory(), newSource("kept", "read", "mine")
		c, net := withOutage(t, st, cache.SourceFunc(s.Load))
		peer := onMemory(t, st, cache.SourceFunc(s.Load))
		wants(t, peer, s, "read", "old read", 1)
		wants(t, c, s, "kept", "old kept", 1)
		wants(t, c, s, "mine", "old mine", 1)
		time.Sleep(2300 * time.Millisecond) // for 1.5 s a sender of whom something may have been missed empties the tier
		for _, k := range []string{"kept", "mine"} {
			wants(t, c, s, k, "old "+k, 1)
		}
		net.deaf.Store(true)
		st.CutListeners(errDown)
		synctest.Wait()
		heard, _ := hook.Of(c).Coherence.LastHeard("")
		read := local.Now()
		wants(t, c, s, "read", "old read", 1) // from Redis
		for _, k := range []string{"kept", "read"} {
			if err := peer.Set(ctx, k, "set "+k); err != nil {
				t.Fatal(err)
			}
		}
		wants(t, c, s, "kept", "old kept", 1)
		wants(t, c, s, "read", "old read", 1)
		if err := c.Set(ctx, "mine", "set mine", cache.Tags("t")); err != nil {
			t.Fatal(err)
		}
		wants(t, c, s, "mine", "set mine", 1)
		if err := c.InvalidateTags(ctx, "t"); err != nil {
			t.Fatal(err)
		}
		wants(t, c, s, "mine", "old mine", 2)
		time.Sleep(time.Duration(heard - local.Now() + int64(outageLife) - 1))
		wants(t, c, s, "kept", "old kept", 1)
		time.Sleep(time.Nanosecond)
		wants(t, c, s, "kept", "set kept", 1)
		time.Sleep(time.Duration(read - local.Now() + int64(outageLife) - 1))
		wants(t, c, s, "read", "old read", 1)
		time.Sleep(time.Nanosecond)
		wants(t, c, s, "read", "set read", 1)
	})
}

// A process that starts while Redis is away keeps what it loads.
func TestAProcessThatStartsInAnOutage(t *testing.T) {
	withAndWithoutValues(t, func(t *testing.T, kind cache.Option) {
		s := newSource("k")
		c, net := withOutage(t, storetest.NewMemory(), cache.Source[string, string]{Load: s.Load, Tags: func(string, string) []string { return []string{"t"} }}, kind)
		net.down()
		for range 3 {
			wants(t, c, s, "k", "old k", 1)
		}
		s.set("k", "new k")
		if err := c.InvalidateTags(t.Context(), "t"); !errors.Is(err, cache.ErrUnavailable) {
			t.Error(err)
		}
		for range 3 {
			wants(t, c, s, "k", "new k", 2)
		}
	})
}

// Absences are kept as values are, calls apart from Redis work, MaxAge holds, and Local shows what
// a read would be answered with.
func TestOtherCallsInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, s := t.Context(), newSource("k")
		c, net := withOutage(t, storetest.NewMemory(), cache.SourceFunc(s.Load))
		wants(t, c, s, "k", "old k", 1)
		time.Sleep(2 * time.Second)
		net.down()
		synctest.Wait()
		for range 3 {
			if _, err := c.Get(ctx, "none"); !errors.Is(err, cache.ErrNotFound) || s.count("none") != 1 {
				t.Errorf("%v after %d loads", err, s.count("none"))
			}
		}
		if v, err := c.Get(ctx, "k", cache.MaxAge(time.Minute)); v != "old k" || err != nil || s.count("k") != 1 {
			t.Error(v, err, s.count("k"))
		}
		s.set("k", "new k")
		if v, err := c.Get(ctx, "k", cache.MaxAge(time.Second)); v != "new k" || err != nil {
			t.Error(v, err)
		}
		wants(t, c, s, "k", "new k", 2)
		if err := c.Set(ctx, "apart", "here", cache.SkipRemote()); err != nil {
			t.Error(err)
		}
		if v, err := c.Get(ctx, "apart", cache.SkipRemote()); v != "here" || err != nil {
			t.Error(v, err)
		}
		seen := map[string]string{}
		for k, e := range c.Local() {
			seen[k] = e.Value
		}
		if len(seen) < 2 || seen["k"] != "new k" || seen["apart"] != "here" {
			t.Errorf("Local: %v", seen)
		}
		err := c.Refresh(ctx, "k") // others do not see it
		if !errors.Is(err, cache.ErrUnavailable) {
			t.Error(err)
		}
		vals, err := c.GetMany(ctx, []string{"k", "apart"})
		if err != nil || vals["k"] != "new k" || vals["apart"] != "here" {
			t.Error(vals, err)
		}
	})
}

// A tier that is not to go on is not used during an outage, as ever.
func TestWithoutLocalDuringOutageNothingIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource("k")
		w := &outageWire{wire: &wire{Memory: storetest.NewMemory()}}
		c := onMemory(t, w, cache.SourceFunc(s.Load))
		wants(t, c, s, "k", "old k", 1)
		time.Sleep(time.Second)
		w.down()
		synctest.Wait()
		wants(t, c, s, "k", "old k", 2)
		wants(t, c, s, "k", "old k", 3)
		if m := c.Metrics(); m.OutageHits != 0 || m.OutageFills != 0 {
			t.Errorf("%d, %d", m.OutageHits, m.OutageFills)
		}
	})
}

// The beginning and the end are logged, once.
func TestAnOutageOfTheLocalTierIsLogged(t *testing.T) {
	withAndWithoutValues(t, func(t *testing.T, kind cache.Option) {
		var mu sync.Mutex
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(lockedWriter{&mu, &out}, nil))
		s := newSource("k")
		c, net := withOutage(t, storetest.NewMemory(), cache.SourceFunc(s.Load), cache.WithLogger(log), kind)
		wants(t, c, s, "k", "old k", 1)
		net.down()
		for range 20 {
			time.Sleep(100 * time.Millisecond)
			wants(t, c, s, "k", "old k", 1)
		}
		net.up()
		time.Sleep(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		for _, line := range []string{"the local tier goes on without Redis", "longest=10s", "outage over"} {
			if n := strings.Count(out.String(), line); n < 1 || line != "longest=10s" && n > 1 {
				t.Errorf("%q is there %d times in\n%s", line, n, &out)
			}
		}
	})
}

type lockedWriter struct {
	mu  *sync.Mutex
	out *bytes.Buffer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(b)
}

func TestLocalDuringOutageNeedsWhatItIsFor(t *testing.T) {
	for want, opts := range map[string][]cache.Option{
		"must be positive": {cache.WithStrategy(strategy.LRU(10), strategy.LocalDuringOutage(0))},
		"add strategy.LRU": {cache.WithStrategy(strategy.LocalDuringOutage(time.Minute))},
		"leave it out":     {cache.LocalOnly(), cache.WithStrategy(strategy.LocalDuringOutage(time.Minute))},
	} {
		_, err := build("test", cache.Source[string, string]{}, opts, func() store.Store { return storetest.NewMemory() })
		if !errors.Is(err, cache.ErrInvalidOption) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
