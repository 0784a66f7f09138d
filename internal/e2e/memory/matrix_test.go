package memory_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// row is a versioned value.
type row struct {
	Key     string
	Version int
}

// truth is a source of truth: versions that only grow.
type truth struct {
	mu       sync.Mutex
	versions map[string]int
}

func (w *truth) get(k string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.versions[k]
}

func (w *truth) put(k string, v int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.versions[k] = v
}

func (w *truth) source(writes bool) cache.Source[string, row] {
	src := cache.Source[string, row]{
		Load: func(_ context.Context, k string) (row, error) {
			time.Sleep(time.Millisecond)
			return row{k, w.get(k)}, nil
		},
		Tags: func(k string, _ row) []string { return []string{"all", "tag-" + k} },
	}
	if writes {
		src.Store = func(_ context.Context, k string, r row) error { w.put(k, r.Version); return nil }
	}
	return src
}

// Every combination of strategies, invalidators, codecs, tiers and states of Redis keeps
// the same promises. In a short run any two of them meet with each strategy.
func TestEveryCombinationKeepsItsPromises(t *testing.T) {
	writeStrategies := map[string]bool{"through": true, "around": true, "behind": true}
	strategies := map[string][]strategy.Strategy{
		"none":             nil,
		"stale if error":   {strategy.StaleIfError(time.Minute), strategy.RetryAfter(0)},
		"stale while":      {strategy.StaleWhileRevalidate(time.Minute)},
		"soft timeout":     {strategy.StaleIfError(time.Minute), strategy.SoftTimeout(500 * time.Millisecond)},
		"refresh ahead":    {strategy.RefreshAhead(0.5)},
		"early expiration": {strategy.EarlyExpiration(1)},
		"sliding":          {strategy.Sliding(5 * time.Second)},
		"errors":           {strategy.ErrorTTL(time.Second), strategy.NotFoundTTL(0)},
		"through":          {strategy.WriteThrough()},
		"around":           {strategy.WriteAround()},
		"behind":           {strategy.WriteBehind(strategy.BatchDelay(0))},
		"much":             {strategy.StaleIfError(time.Minute), strategy.RefreshAhead(0.5), strategy.Sliding(5 * time.Second), strategy.ErrorTTL(time.Second)},
	}
	invalidators := []invalidate.Policy{invalidate.Immediate(), invalidate.Lazy(), invalidate.Delayed(time.Second)}
	codecs := []struct {
		name string
		codec.Codec
	}{
		{"json", codec.JSON()}, {"msgpack", codec.Msgpack()}, {"compressed", codec.Compressed(codec.JSON())},
		{"encrypted", codec.Encrypted(codec.JSON(), []byte("0123456789abcdef0123456789abcdef"))},
	}
	locals := []int{0, 100, -100} // entries; negative: bounded by bytes, too
	states := []string{"up", "slow", "down for a while"}
	seed := uint64(0)
	for _, name := range slices.Sorted(maps.Keys(strategies)) {
		t.Run(name, func(t *testing.T) {
			for i, p := range invalidators {
				for j, cd := range codecs {
					for k := range redistest.Times(1, len(locals)) {
						for l := range redistest.Times(1, len(states)) {
							local, state := locals[(i+j+k)%len(locals)], states[(i+2*j+l)%len(states)]
							if seed++; int(seed)%4 >= redistest.Times(4, 4) {
								continue
							}
							m := matrixRun{
								what:  fmt.Sprintf("%s, %v, %s, local %d, Redis %s", name, p, cd.name, local, state),
								rnd:   rand.New(rand.NewPCG(seed, 1)),
								state: state, policy: p, writes: writeStrategies[name], behind: name == "behind",
								lenient: name == "stale while" && p == invalidate.Lazy(),
							}
							m.opts = []cache.Option{quietLog, cache.WithInvalidator(p), cache.WithCodec(cd.Codec), cache.WithStrategy(strategy.TTL(10*time.Second), strategy.Jitter(0)), cache.WithStrategy(strategies[name]...)}
							if local != 0 && seed%2 == 0 {
								m.what += ", which goes on"
								m.opts = append(m.opts, cache.WithStrategy(strategy.LocalDuringOutage(time.Duration(1+seed%5)*time.Second)))
							}
							switch {
							case local > 0:
								m.opts = append(m.opts, cache.WithStrategy(strategy.LRU(local)))
							case local < 0:
								m.opts = append(m.opts, cache.WithStrategy(strategy.LRU(-local), strategy.LocalBytes(2000)))
							}
							synctest.Test(t, m.run)
						}
					}
				}
			}
		})
	}
}

type matrixRun struct {
	what    string
	rnd     *rand.Rand
	opts    []cache.Option
	state   string
	policy  invalidate.Policy
	writes  bool
	behind  bool
	lenient bool // Lazy lets a stale window answer with what it made stale
}

func (m *matrixRun) run(t *testing.T) {
	ctx := t.Context()
	memory := storetest.NewMemory()
	net := &wire{Memory: memory}
	if m.state == "slow" {
		slow := func(string) error { time.Sleep(5 * time.Millisecond); return nil }
		net.set(slow, slow)
	}
	w := &truth{versions: map[string]int{}}
	var caches []*cache.Cache[string, row]
	for range 2 {
		c, err := build("test", w.source(m.writes), m.opts, func() store.Store { return net })
		if err != nil {
			t.Fatal(m.what, err)
		}
		defer c.Close()
		caches = append(caches, c)
	}
	for step := range 40 {
		c, k := caches[m.rnd.IntN(2)], string(rune('a'+m.rnd.IntN(3)))
		if m.state == "down for a while" && step == 15 {
			memory.Fail(errDown)
		}
		if step == 30 {
			memory.Fail(nil)
			time.Sleep(6 * time.Second)
			for _, c := range caches {
				if err := c.Sync(ctx); err != nil {
					t.Errorf("%s: Sync: %v", m.what, err)
				}
			}
			synctest.Wait()
		}
		down := m.state == "down for a while" && step >= 15 && step < 30
		m.step(t, c, w, k, down)
		time.Sleep(time.Duration(m.rnd.IntN(700)) * time.Millisecond)
	}
	// In the end everybody agrees with the source.
	time.Sleep(2 * time.Second)
	for _, c := range caches {
		if err := c.Sync(ctx); err != nil {
			t.Errorf("%s: Sync: %v", m.what, err)
		}
	}
	if err := caches[0].Clear(ctx); err != nil {
		t.Fatal(m.what, err)
	}
	time.Sleep(2 * time.Second) // Delayed
	for _, c := range caches {
		for k := range w.versions {
			var opts []cache.ReadOption
			if m.lenient {
				opts = append(opts, cache.MaxAge(0))
			}
			if r, err := c.Get(ctx, k, opts...); err != nil || r.Version != w.get(k) || r.Key != k {
				t.Errorf("%s: in the end %s is %+v, %v, and the source has %d", m.what, k, r, err, w.get(k))
			}
		}
		if s := c.Metrics(); s.Misses() != s.Loads-s.Refreshes+s.Coalesced+s.Awaited+s.Unloaded {
			t.Errorf("%s: %d misses, but %d loads, %d refreshes, %d coalesced, %d awaited, %d unloaded",
				m.what, s.Misses(), s.Loads, s.Refreshes, s.Coalesced, s.Awaited, s.Unloaded)
		}
	}
}

// step does something, and checks that what the caller sees is not older than what he
// did.
func (m *matrixRun) step(t *testing.T, c *cache.Cache[string, row], w *truth, k string, down bool) {
	ctx := t.Context()
	now := w.get(k)
	may := func(err error) bool { return err == nil || down && errors.Is(err, cache.ErrUnavailable) }
	var err error
	var least int // the version that the same process must see from here on
	switch m.rnd.IntN(7) {
	case 0, 1:
		r, err := c.Get(ctx, k)
		if err != nil || r.Key != k || r.Version > now && !m.behind {
			t.Errorf("%s: %s is %+v, %v, and the source has %d", m.what, k, r, err, now)
		}
		return
	case 2:
		rows, err := c.GetMany(ctx, []string{"a", "b", "c"})
		if err != nil || len(rows) != 3 {
			t.Errorf("%s: a batch: %v, %v", m.what, rows, err)
		}
		return
	case 3:
		if !m.writes {
			w.put(k, now+1) // an application writes the source, and then tells the cache
		}
		if err = c.Set(ctx, k, row{k, now + 1}); err == nil {
			least = now + 1
		}
	case 4:
		if m.writes {
			return // what is behind the cache's back is not what these strategies are for
		}
		w.put(k, now+1)
		if err = c.Invalidate(ctx, k); err == nil {
			least = now + 1
		}
	case 5:
		if m.writes {
			return
		}
		w.put(k, now+1)
		if err = c.InvalidateTags(ctx, "tag-"+k); err == nil {
			least = now + 1
		}
	case 6:
		r, uerr := c.Update(ctx, k, func(old row, ok bool) (row, error) { return row{k, w.get(k) + 1}, nil })
		if err = uerr; err == nil {
			if !m.writes {
				w.put(k, r.Version)
			}
			least = r.Version
		}
	}
	if !may(err) {
		t.Errorf("%s: a write of %s: %v", m.what, k, err)
	}
	if err != nil && !m.writes && w.get(k) == now+1 {
		least = now + 1 // Redis is told later, and this process has the source's value at once
	}
	if least == 0 || m.lenient {
		return
	}
	if m.policy.Mode() == invalidate.ModeDelayed {
		time.Sleep(m.policy.Delay())
	}
	if r, err := c.Get(ctx, k); err != nil || r.Version < least {
		t.Errorf("%s: after writing %d, %s is %+v, %v", m.what, least, k, r, err)
	}
}
