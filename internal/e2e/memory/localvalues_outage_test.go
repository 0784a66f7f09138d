package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// Tests of strategy.LocalDuringOutage with LocalValues, beside those of outage_tier_test.go that run
// with both.

// taggedAs is the source of outageChanges.
func taggedAs(s *aSource) cache.Source[string, string] {
	return cache.Source[string, string]{Load: s.Load, Tags: func(k, _ string) []string {
		return map[string][]string{"k": {"t"}, "tagged": {"u"}}[k]
	}}
}

// This process's own changes are seen at once, although no process could be told of them. When Redis
// is back, all are told, and nothing from before is used.
func TestOwnChangesOfLocalValuesInAnOutage(t *testing.T) {
	for name, ch := range outageChanges {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, st, s := t.Context(), storetest.NewMemory(), newSource("k", "other", "tagged")
				c, net := withOutage(t, st, taggedAs(s), cache.LocalValues())
				peer, _ := withOutage(t, st, taggedAs(s), cache.LocalValues())
				keys := []string{"k", "other", "tagged"}
				for _, k := range keys {
					wants(t, c, s, k, "old "+k, 1)
					wants(t, peer, s, k, "old "+k, 2)
				}
				time.Sleep(time.Second)
				net.down()
				time.Sleep(time.Second)
				for _, k := range keys {
					wants(t, c, s, k, "old "+k, 2)
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
							wants(t, c, s, k, "new "+k, 3)
						} else {
							wants(t, c, s, k, "old "+k, 2)
						}
					}
				}
				net.up()
				if err := c.Sync(ctx); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				for _, k := range keys {
					if v, err := c.Get(ctx, k); v != "new "+k || err != nil {
						t.Errorf("Redis is back: Get(%s) = %q, %v", k, v, err)
					}
					if v, err := peer.Get(ctx, k); concerned[k] && v != "new "+k || err != nil {
						t.Errorf("the other process: Get(%s) = %q, %v", k, v, err)
					}
				}
			})
		})
	}
}

// What another process has changed meanwhile is loaded when Redis is back, at the latest.
func TestOtherChangesOfLocalValuesInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st, s := t.Context(), storetest.NewMemory(), newSource("kept", "loaded")
		c, net := withOutage(t, st, cache.SourceFunc(s.Load), cache.LocalValues(), cache.WithStrategy(strategy.LocalDuringOutage(time.Hour)))
		peer, _ := withOutage(t, st, cache.SourceFunc(s.Load), cache.LocalValues())
		wants(t, c, s, "kept", "old kept", 1)
		time.Sleep(time.Second)
		net.down()
		synctest.Wait()
		wants(t, c, s, "loaded", "old loaded", 1)
		for _, k := range []string{"kept", "loaded"} {
			s.set(k, "new "+k)
		}
		if err := peer.Invalidate(ctx, "kept", "loaded"); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			wants(t, c, s, "kept", "old kept", 1)
			wants(t, c, s, "loaded", "old loaded", 1)
			time.Sleep(time.Minute)
		}
		net.up()
		for !hook.Of(c).Coherence.LocalValid(local.Now()) {
			time.Sleep(time.Millisecond)
		}
		for range 3 {
			wants(t, c, s, "kept", "new kept", 2)
			wants(t, c, s, "loaded", "new loaded", 2)
			time.Sleep(time.Second)
		}
	})
}

// Redis may be reached, and not heard: values are kept for their time, and what this process writes
// is seen at once, here and, if it hears, by another process.
func TestLocalValuesThatAreReachedAndNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st, s := t.Context(), storetest.NewMemory(), newSource("k", "mine")
		c, net := withOutage(t, st, cache.SourceFunc(s.Load), cache.LocalValues())
		peer, _ := withOutage(t, st, cache.SourceFunc(s.Load), cache.LocalValues())
		_, _ = c.Peek(ctx, "other")
		wants(t, peer, s, "mine", "old mine", 1)
		time.Sleep(2300 * time.Millisecond) // as in TestARedisThatIsReachedAndNotHeard
		net.deaf.Store(true)
		st.CutListeners(errDown)
		time.Sleep(2 * time.Second)
		began := local.Now()
		wants(t, c, s, "k", "old k", 1)
		if err := c.Set(ctx, "mine", "set mine"); err != nil {
			t.Fatal(err)
		}
		wants(t, c, s, "mine", "set mine", 1)
		s.set("mine", "new mine")
		wants(t, peer, s, "mine", "new mine", 2)
		s.set("k", "new k")
		if err := peer.Invalidate(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(began - local.Now() + int64(outageLife) - 1))
		wants(t, c, s, "k", "old k", 1)
		wants(t, c, s, "mine", "set mine", 2)
		time.Sleep(time.Nanosecond)
		wants(t, c, s, "k", "new k", 2)
		wants(t, c, s, "mine", "new mine", 3)
		if _, err := c.Update(ctx, "k", func(old string, ok bool) (string, error) {
			if s.set("k", "newer k"); old != "new k" || !ok {
				t.Errorf("Update was given %q, %v", old, ok)
			}
			return "updated " + old, nil
		}); err != nil {
			t.Error(err)
		}
		wants(t, c, s, "k", "updated new k", 3) // an Update begins with what the source has
	})
}

// While notifications are received, a Redis that answers no command costs no read anything.
func TestLocalValuesThatAreHeardAndNotReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource("k")
		c, net := withOutage(t, storetest.NewMemory(), cache.SourceFunc(s.Load), cache.LocalValues())
		_, _ = c.Peek(t.Context(), "other")
		time.Sleep(time.Second)
		net.lose("get", "set_nx", "compare_and_set", "compare_and_delete", "delete", "publish")
		for range 3 {
			if !hook.Of(c).Coherence.LocalValid(local.Now()) {
				t.Fatal("it is not heard")
			}
			wants(t, c, s, "k", "old k", 1)
		}
		s.set("k", "new k")
		if err := c.Invalidate(t.Context(), "k"); !errors.Is(err, cache.ErrUnavailable) {
			t.Error(err)
		}
		for _, loads := range []int{2, 3} { // not kept: another process may have changed it before this one was told
			wants(t, c, s, "k", "new k", loads)
		}
		net.heal()
		time.Sleep(2 * time.Second)
		for range 3 {
			wants(t, c, s, "k", "new k", 4)
		}
	})
}

// A value is used no longer than its time, however often it is read.
func TestSlidingLocalValuesInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource("k")
		c, net := withOutage(t, storetest.NewMemory(), cache.SourceFunc(s.Load), cache.LocalValues(), cache.WithStrategy(strategy.Sliding(8*time.Second)))
		net.down()
		began := time.Now()
		for time.Since(began) < 7*time.Second {
			wants(t, c, s, "k", "old k", 1)
			time.Sleep(time.Second)
		}
		s.set("k", "new k")
		time.Sleep(time.Until(began.Add(8 * time.Second)))
		wants(t, c, s, "k", "new k", 2)
	})
}

// A failed load is covered by a stale value as ever.
func TestStaleLocalValuesInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, fails := newSource("k"), false
		load := func(ctx context.Context, k string) (string, error) {
			if fails {
				return "", errDown
			}
			return s.Load(ctx, k)
		}
		c, net := withOutage(t, storetest.NewMemory(), cache.SourceFunc(load), cache.LocalValues(), cache.WithStrategy(strategy.StaleIfError(time.Hour)))
		net.down()
		wants(t, c, s, "k", "old k", 1)
		fails = true
		time.Sleep(outageLife - 1)
		wants(t, c, s, "k", "old k", 1)
		time.Sleep(time.Nanosecond)
		var info cache.Info
		if v, err := c.Get(t.Context(), "k", cache.Report(&info)); v != "old k" || err != nil || !info.Stale || info.Tier != metrics.Local {
			t.Errorf("%q, %v, %+v", v, err, info)
		}
	})
}

// Other calls work on what the tier has, and those that need Redis say so.
func TestOtherCallsOfLocalValuesInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, s := t.Context(), newSource("k")
		c, net := withOutage(t, storetest.NewMemory(), cache.SourceFunc(s.Load), cache.LocalValues())
		wants(t, c, s, "k", "old k", 1)
		time.Sleep(2 * time.Second)
		net.down()
		synctest.Wait()
		for range 3 {
			if _, err := c.Get(ctx, "none"); !errors.Is(err, cache.ErrNotFound) || s.count("none") != 1 {
				t.Errorf("%v after %d loads", err, s.count("none"))
			}
		}
		if v, err := c.Peek(ctx, "k"); v != "old k" || err != nil {
			t.Error(v, err)
		}
		if vals, err := c.GetMany(ctx, []string{"k", "none"}); vals["k"] != "old k" || len(vals) != 1 {
			t.Error(vals, err)
		}
		s.set("k", "new k")
		if err := c.Refresh(ctx, "k"); err != nil {
			t.Error(err)
		}
		wants(t, c, s, "k", "new k", 2)
		if err := c.Set(ctx, "apart", "here", cache.SkipRemote()); err != nil {
			t.Error(err)
		}
		wants(t, c, s, "apart", "here", 0)
		if err := c.Touch(ctx, "k"); !errors.Is(err, cache.ErrUnavailable) {
			t.Error(err)
		}
		if _, err := c.Update(ctx, "k", func(string, bool) (string, error) { return "x", nil }); !errors.Is(err, cache.ErrUnavailable) {
			t.Error(err)
		}
		seen := map[string]string{}
		for k, e := range c.Local() {
			seen[k] = e.Value
		}
		if seen["apart"] != "here" {
			t.Errorf("Local: %v", seen)
		}
		if m := c.Metrics(); m.OutageHits == 0 || m.OutageFills == 0 {
			t.Errorf("%d, %d", m.OutageHits, m.OutageFills)
		}
	})
}
