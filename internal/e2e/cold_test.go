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
)

// A Redis that comes back with nothing is no stampede: each process loads so many keys at
// once as it may, and each key is loaded once, whatever the number of those who want it.
func TestARedisThatComesBackEmptyIsNoStampede(t *testing.T) {
	redistest.Require(t)
	const (
		limit     = 32
		keys      = 400
		processes = 2
		callers   = 3 // of each key and process
	)
	ctx := t.Context()
	s := redistest.Start(t)
	var cold atomic.Bool
	var mu sync.Mutex
	loads := map[string]int{}
	open := make(chan struct{})
	var now, most [processes]atomic.Int32
	caches := make([]*cache.Cache[string, string], processes)
	for i := range caches {
		src := cache.SourceFunc(func(_ context.Context, key string) (string, error) {
			if !cold.Load() || key == "else" {
				return "of " + key, nil
			}
			n := now[i].Add(1)
			defer now[i].Add(-1)
			mu.Lock()
			most[i].Store(max(n, most[i].Load()))
			loads[key]++
			mu.Unlock()
			<-open
			return "of " + key, nil
		})
		c, err := cache.NewFrom(s.Client(t), "n", src, discard, slowly, oneLong, cache.WithLoadLimit(limit))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		caches[i] = c
	}
	get := func(c *cache.Cache[string, string], key string) {
		if v, err := c.Get(ctx, key); err != nil || v != "of "+key {
			t.Errorf("%s: %q, %v", key, v, err)
		}
	}
	for k := range keys {
		get(caches[0], fmt.Sprint(k))
	}
	s.Kill()
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, c := range caches {
		awaits(t, "Redis to be back", func() error { return c.Set(ctx, "else", "of else") })
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		get(c, "else")
	}
	cold.Store(true)
	var all sync.WaitGroup
	for i, c := range caches {
		for k := range keys {
			if k%3 == 1-i {
				continue // the other one's alone: the faster one must not have them all
			}
			for range callers {
				all.Go(func() { get(c, fmt.Sprint(k)) })
			}
		}
	}
	var once sync.Once
	let := func() { once.Do(func() { close(open) }) }
	defer all.Wait()
	defer let()
	awaits(t, "all places to be taken", func() error {
		for i := range now {
			if now[i].Load() < limit {
				return errors.New("some are free")
			}
		}
		return nil
	})
	pause(ctx, 300*time.Millisecond) // for more than may, should there be any
	let()
	all.Wait()
	for i := range most {
		if n := most[i].Load(); n != limit {
			t.Errorf("process %d: %d loads at once", i, n)
		}
	}
	if len(loads) != keys {
		t.Errorf("%d keys were loaded of %d", len(loads), keys)
	}
	// A process that is not run for a second loses its leases, and another one takes over: then
	// the fill of the first load is refused.
	again, refused := 0, uint64(0)
	for _, n := range loads {
		again += n - 1
	}
	for _, c := range caches {
		refused += c.Totals().Outdated
	}
	if uint64(again) > refused {
		t.Errorf("%d loads too many, of which %d have lost their leases", again, refused)
	}
}
