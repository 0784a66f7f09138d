package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// Tests of strategy.LocalDuringOutage on servers that are killed, stopped and cut off.

// versions is a source of numbers that several processes share. It counts loads by process and
// key.
type versions struct {
	mu    sync.Mutex
	of    map[string]int
	loads map[string]int // by process and key
}

func newVersions() *versions { return &versions{of: map[string]int{}, loads: map[string]int{}} }

func (v *versions) get(k string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.of[k]
}

func (v *versions) change(k string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.of[k]++
	return v.of[k]
}

func (v *versions) loaded(process, k string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.loads[process+k]
}

func (v *versions) source(process string) cache.Source[string, int] {
	return cache.Source[string, int]{
		Load: func(_ context.Context, k string) (int, error) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.loads[process+k]++
			return v.of[k], nil
		},
		Tags: func(k string, _ int) []string { return []string{"tag-" + k} },
	}
}

// goesOn makes a cache as a process has it, with a client of its own.
func goesOn(t *testing.T, rdb redis.UniversalClient, v *versions, process string, d time.Duration, opts ...cache.Option) *cache.Cache[string, int] {
	t.Helper()
	opts = append([]cache.Option{discard, cache.WithTimeout(300 * time.Millisecond),
		cache.WithStrategy(strategy.LRU(1000), strategy.TTL(time.Hour), strategy.LocalDuringOutage(d))}, opts...)
	c, err := cache.NewFrom(rdb, "goes-on", v.source(process), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func heard(c *cache.Cache[string, int]) error {
	if c.Metrics().Listener != metrics.Up {
		return errors.New("it is not heard")
	}
	return nil
}

// lasts waits until a cache has been connected for two seconds: one that is cut off sooner may
// empty its local tier.
func lasts(t *testing.T, c *cache.Cache[string, int]) {
	t.Helper()
	since := time.Now()
	awaits(t, "a session that lasts", func() error {
		if err := heard(c); err != nil {
			since = time.Now()
			return err
		}
		if d := time.Since(since); d < 2*time.Second {
			return fmt.Errorf("for %v", d)
		}
		return nil
	})
}

// held waits until the local tier of a cache has a key.
func held(t *testing.T, c *cache.Cache[string, int], k string) {
	t.Helper()
	awaits(t, "the local tier", func() error {
		if _, err := c.Get(t.Context(), k); err != nil {
			return err
		}
		for l := range c.Local() {
			if l == k {
				return heard(c)
			}
		}
		return errors.New("it has not got " + k)
	})
}

// While a server is away, several processes go on with what they have, load what they have not
// once, and each sees its own changes at once. When it is back, all see all changes.
func TestTheLocalTierGoesOnWithoutAServer(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	ways := map[string]struct {
		opts       []redistest.Option
		begin, end func(s *redistest.Server, p *redistest.Proxy) error
	}{
		"it is killed, and comes back empty": {nil,
			func(s *redistest.Server, _ *redistest.Proxy) error { s.Kill(); return nil },
			func(s *redistest.Server, _ *redistest.Proxy) error { return s.Restart() }},
		"it is killed, and comes back with its data": {[]redistest.Option{redistest.AOF()},
			func(s *redistest.Server, _ *redistest.Proxy) error { s.Kill(); return nil },
			func(s *redistest.Server, _ *redistest.Proxy) error { return s.Restart() }},
		"it is stopped": {nil,
			func(s *redistest.Server, _ *redistest.Proxy) error { return s.Freeze() },
			func(s *redistest.Server, _ *redistest.Proxy) error { return s.Thaw() }},
		"the network swallows everything": {nil,
			func(_ *redistest.Server, p *redistest.Proxy) error { p.Blackhole(); return nil },
			func(_ *redistest.Server, p *redistest.Proxy) error { p.Heal(); return nil }},
	}
	sideBySide(t, names(ways), func(t *testing.T, name string) {
		ctx, way, v := t.Context(), ways[name], newVersions()
		s := redistest.Start(t, way.opts...)
		proxy := redistest.NewProxy(t, s.Addr())
		processes := map[string]*cache.Cache[string, int]{}
		for _, p := range []string{"a", "b", "c"} {
			opts := s.Options()
			opts.Addr = proxy.Addr()
			rdb := redis.NewClient(opts)
			t.Cleanup(func() { _ = rdb.Close() })
			var kind []cache.Option
			if p == "c" { // which has its values to itself
				kind = append(kind, cache.LocalValues())
			}
			processes[p] = goesOn(t, rdb, v, p, time.Hour, kind...)
		}
		var keys []string
		for i := range 20 {
			keys = append(keys, fmt.Sprint("k", i))
		}
		for _, c := range processes {
			for _, k := range keys {
				held(t, c, k)
			}
		}
		time.Sleep(2 * time.Second) // until then a sender of whom something may have been missed empties the tier
		before, flushes := map[string]int{}, map[string]uint64{}
		for p, c := range processes {
			flushes[p] = c.Metrics().Flushes
			for _, k := range keys {
				held(t, c, k)
				before[p+k] = v.loaded(p, k)
			}
		}
		if err := way.begin(s, proxy); err != nil {
			t.Fatal(err)
		}
		reads := func(p, k string, want, loads int) {
			t.Helper()
			got, err := processes[p].Get(ctx, k)
			n := v.loaded(p, k) - before[p+k]
			if lost := processes[p].Metrics().Flushes - flushes[p]; n > loads && n <= loads+int(lost) {
				n = loads // a message was on its way when the outage began
			}
			if got != want || err != nil || n != loads {
				t.Errorf("%s reads %s: %d, %v, after %d loads; want %d after %d", p, k, got, err, n, want, loads)
			}
		}
		deadline := time.Now().Add(2 * time.Second) // long enough for the local tier to end, otherwise
		for time.Now().Before(deadline) {
			for p := range processes {
				for _, k := range keys {
					reads(p, k, 0, 0)
				}
				reads(p, "new", 0, 1)
			}
		}
		changes := map[string]func(c *cache.Cache[string, int], k string) error{
			"k0": func(c *cache.Cache[string, int], k string) error { return c.Invalidate(ctx, k) },
			"k1": func(c *cache.Cache[string, int], k string) error { return c.Set(ctx, k, 1) },
			"k2": func(c *cache.Cache[string, int], k string) error { return c.Delete(ctx, k) },
			"k3": func(c *cache.Cache[string, int], k string) error { return c.InvalidateTags(ctx, "tag-"+k) },
			"k4": func(c *cache.Cache[string, int], k string) error {
				_, err := c.InvalidatePattern(ctx, k)
				return err
			},
		}
		for k, change := range changes {
			v.change(k)
			if err := change(processes["a"], k); !errors.Is(err, cache.ErrUnavailable) {
				t.Errorf("%s: %v", k, err)
			}
		}
		for range 3 {
			for k := range changes {
				reads("a", k, 1, 1)
				reads("b", k, 0, 0)
			}
			reads("a", "k5", 0, 0)
		}
		if err := way.end(s, proxy); err != nil {
			t.Fatal(err)
		}
		patient, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := processes["a"].Sync(patient); err != nil {
			t.Fatal(err)
		}
		for p, c := range processes {
			awaits(t, "notifications", func() error { return heard(c) })
			for _, k := range keys {
				awaits(t, p+" and "+k, func() error {
					if got, err := c.Get(ctx, k); err != nil || got != v.get(k) {
						return fmt.Errorf("%d, %w", got, err)
					}
					return nil
				})
			}
		}
	})
}

// One process is cut off, the others are not: what they replace it serves for its time at most,
// and when it hears again, nothing older than that.
func TestTheTimeOfAnOutageIsTheBound(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	const d = 2500 * time.Millisecond
	v := newVersions()
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr())
	opts := s.Options()
	opts.Addr = proxy.Addr()
	rdb := redis.NewClient(opts)
	t.Cleanup(func() { _ = rdb.Close() })
	ctx, other := t.Context(), goesOn(t, s.Client(t), v, "other", d, slowly)
	alone := []*cache.Cache[string, int]{goesOn(t, rdb, v, "alone", d), goesOn(t, rdb, v, "alone, with local values", d, cache.LocalValues())}
	keys := []string{"k0", "k1", "k2", "k3", "k4"}
	for _, k := range keys {
		for _, c := range alone {
			held(t, c, k)
		}
	}
	// When a version was there, by key: written before it is told.
	var mu sync.Mutex
	written := map[string][]time.Time{}
	over := make(chan struct{})
	var all sync.WaitGroup
	served := make([]atomic.Int32, len(alone))
	all.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond):
			}
			k := keys[i%len(keys)]
			v.change(k)
			if err := other.Invalidate(ctx, k); err != nil {
				t.Errorf("%s: %v", k, err)
			}
			mu.Lock()
			written[k] = append(written[k], time.Now())
			mu.Unlock()
		}
	})
	for reader := range 4 {
		which := reader % len(alone)
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
				}
				k := keys[i%len(keys)]
				mu.Lock()
				least := 0
				for version, at := range written[k] {
					if time.Since(at) > d {
						least = version + 1
					}
				}
				mu.Unlock()
				got, err := alone[which].Get(ctx, k)
				if err != nil || got < least {
					t.Errorf("%d: %s: version %d, %v, and %d was replaced longer than %v ago", which, k, got, err, got, d)
				}
				if got < v.get(k) {
					served[which].Add(1)
				}
			}
		})
	}
	for _, cut := range []func(){func() { proxy.Blackhole() }, func() { proxy.Cut() }, func() { proxy.Only(redistest.News).Blackhole() }} {
		cut()
		awaits(t, "the outage", func() error {
			if heard(alone[0]) == nil || heard(alone[1]) == nil {
				return errors.New("it is heard")
			}
			return nil
		})
		time.Sleep(d + d/2) // entries end in it, and others are loaded
		proxy.Heal()
		awaits(t, "notifications", func() error { return errors.Join(heard(alone[0]), heard(alone[1])) })
	}
	close(over)
	all.Wait()
	for i, c := range alone {
		if m := c.Metrics(); served[i].Load() == 0 || m.OutageHits == 0 || m.OutageFills == 0 {
			t.Errorf("%d: nothing older was served, or nothing at all: %d, %d hits, %d fills", i, served[i].Load(), m.OutageHits, m.OutageFills)
		}
		for _, k := range keys {
			awaits(t, k, func() error {
				if got, err := c.Get(ctx, k); err != nil || got != v.get(k) {
					return fmt.Errorf("%d: %d, %w", i, got, err)
				}
				return nil
			})
		}
	}
}

// One master of a cluster does not answer: notifications are not received then, for any key. The
// tier goes on for the keys of all masters, and those that answer are written as ever.
func TestTheLocalTierGoesOnWithoutOneMaster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, redistest.Args("--cluster-node-timeout", "60000"))
	ctx, v := t.Context(), newVersions()
	client := cluster.Client(t)
	c := goesOn(t, cluster.Client(t), v, "p", time.Hour)
	frozen := cluster.Nodes[1]
	on := map[bool][]string{} // by whether the master is to be frozen
	for i := 0; len(on[true]) < 5 || len(on[false]) < 5; i++ {
		k := fmt.Sprint("k", i)
		m, err := client.MasterForKey(ctx, c.RedisKey(k))
		if err != nil {
			t.Fatal(err)
		}
		down := m.Options().Addr == frozen.Addr()
		on[down] = append(on[down], k)
	}
	for _, keys := range on {
		for _, k := range keys[:4] {
			held(t, c, k)
		}
	}
	lasts(t, c)
	if err := frozen.Freeze(); err != nil {
		t.Fatal(err)
	}
	thawed := false
	thaw := func() {
		if thawed {
			return
		}
		thawed = true
		if err := frozen.Thaw(); err != nil {
			t.Fatal(err)
		}
	}
	defer thaw()
	awaits(t, "the outage", func() error {
		if heard(c) == nil {
			return errors.New("it is heard")
		}
		return nil
	})
	before := map[string]int{}
	reads := func(k string, want, loads int) {
		t.Helper()
		got, err := c.Get(ctx, k)
		if n := v.loaded("p", k) - before[k]; got != want || err != nil || n != loads {
			t.Errorf("%s: %d, %v, after %d loads; want %d after %d", k, got, err, n, want, loads)
		}
	}
	for down, keys := range on {
		for _, k := range keys {
			before[k] = v.loaded("p", k)
		}
		for range 3 {
			for _, k := range keys[:4] {
				reads(k, 0, 0)
			}
			reads(keys[4], 0, 1)
		}
		v.change(keys[0])
		if err := c.Invalidate(ctx, keys[0]); (err != nil) != down {
			t.Errorf("Invalidate, the master is down: %v: %v", down, err)
		}
		for range 3 {
			reads(keys[0], 1, 1)
		}
		v.change(keys[1])
		if err := c.InvalidateTags(ctx, "tag-"+keys[1]); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("the clocks of one master's keys can't be told: %v", err)
		}
		for range 3 {
			reads(keys[1], 1, 1)
			reads(keys[2], 0, 0)
		}
	}
	thaw()
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := c.Sync(patient); err != nil {
		t.Fatal(err)
	}
	awaits(t, "notifications", func() error { return heard(c) })
	for _, keys := range on {
		for _, k := range keys {
			awaits(t, k, func() error {
				if got, err := c.Get(ctx, k); err != nil || got != v.get(k) {
					return fmt.Errorf("%d, %w", got, err)
				}
				return nil
			})
		}
	}
}
