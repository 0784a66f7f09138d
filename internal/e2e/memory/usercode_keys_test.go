package memory_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// keySaboteur is what the methods of textKey do, for "bad"; nil: their work.
var keySaboteur atomic.Pointer[saboteur]

type textKey struct{ s string }

func (k textKey) sabotaged(at string) error {
	if s := keySaboteur.Load(); s != nil {
		return s.call(at, k.s)
	}
	return nil
}

func (k textKey) MarshalText() ([]byte, error) { return []byte(k.s), k.sabotaged("MarshalText") }

func (k *textKey) UnmarshalText(text []byte) error {
	k.s = string(text)
	return k.sabotaged("UnmarshalText")
}

func (k textKey) String() string { _ = k.sabotaged("String"); return k.s }

// What the methods of a key do costs the calls with that key only, in this process and in one
// that hears of it: it goes on to hear, of that key too.
func TestMethodsOfKeysCostTheirOwnKeyOnly(t *testing.T) {
	for _, tiers := range []string{"local only", "Redis", "two tiers"} {
		for _, at := range []string{"MarshalText", "UnmarshalText", "String"} {
			for _, m := range wrongdoings {
				if m.values && at == "String" {
					continue
				}
				t.Run(strings.Join([]string{tiers, at, m.name}, "/"), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { sabotagedKeys(t, tiers, at, m.do, m.name == "Goexit") })
				})
			}
		}
	}
}

func sabotagedKeys(t *testing.T, tiers, at string, do func() error, goexit bool) {
	ctx := t.Context()
	s := &saboteur{at: at, do: do}
	defer keySaboteur.Store(nil)
	st := storetest.NewMemory()
	src := cache.Source[textKey, string]{Load: func(_ context.Context, k textKey) (string, error) { return "loaded", nil }}
	open := func() *cache.Cache[textKey, string] {
		return ofKind(t, tiers, st, src)
	}
	a := open()
	other := a
	if tiers != "local only" {
		other = open()
	}
	bad, good := textKey{"bad"}, textKey{"good"}
	for name, f := range map[string]func() error{
		"Get":         func() error { _, err := a.Get(ctx, bad); return err },
		"Peek":        func() error { _, err := a.Peek(ctx, bad); return err },
		"GetMany":     func() error { _, err := a.GetMany(ctx, []textKey{bad, good}); return err },
		"GetOrLoad":   func() error { _, err := a.GetOrLoad(ctx, bad, src.Load); return err },
		"Set":         func() error { return a.Set(ctx, bad, "new") },
		"SetMany":     func() error { return a.SetMany(ctx, map[textKey]string{bad: "new", good: "new"}) },
		"SetIfAbsent": func() error { _, err := a.SetIfAbsent(ctx, bad, "new"); return err },
		"Update": func() error {
			_, err := a.Update(ctx, bad, func(string, bool) (string, error) { return "new", nil })
			return err
		},
		"Delete":        func() error { return a.Delete(ctx, bad, good) },
		"Invalidate":    func() error { return a.Invalidate(ctx, bad, good) },
		"by pattern":    func() error { _, err := a.InvalidatePattern(ctx, "*"); return err },
		"Refresh":       func() error { return a.Refresh(ctx, bad, good) },
		"Clear":         func() error { return a.Clear(ctx) },
		"InvalidateEnc": func() error { return a.InvalidateEncoded(ctx, "bad") },
		"EncodeKey":     func() error { _, err := a.EncodeKey(bad); return err },
		"RedisKey":      func() error { a.RedisKey(bad); return nil },
	} {
		keySaboteur.Store(nil)
		for _, c := range []*cache.Cache[textKey, string]{a, other} {
			if _, err := c.GetMany(ctx, []textKey{bad, good}); err != nil {
				t.Fatal(name, err)
			}
		}
		keySaboteur.Store(s)
		returned, done := false, make(chan error, 1)
		go func() {
			defer close(done)
			err := f()
			returned = true
			done <- err
		}()
		err := <-done
		if synctest.Wait(); !returned && !goexit {
			t.Errorf("%s did not return", name)
		}
		if err != nil {
			_ = err.Error()
		}
		keySaboteur.Store(nil)
		// Both go on, and hear of each other.
		for n, k := range []textKey{bad, good} {
			want := fmt.Sprint(name, n)
			if err := a.Set(ctx, k, want); err != nil {
				t.Errorf("%s, then Set: %v", name, err)
			}
			synctest.Wait()
			if v, err := other.Get(ctx, k); v != want || err != nil {
				t.Errorf("%s, then Get: %q, %v", name, v, err)
			}
		}
	}
}

// A goroutine of the cache's own outlives a key, or a recorder, that ends it: refreshes go on to
// begin, and Sync and Close to return.
func TestBackgroundGoroutinesOutliveTheProgramsCode(t *testing.T) {
	for _, at := range []string{"Key", "StartLoad", "end of load", "Tags", "TTL", "Clone", "encoder"} {
		for _, tiers := range []string{"local only", "two tiers"} {
			t.Run(at+"/"+tiers, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					s := &saboteur{at: at, do: func() error {
						stack := make([]byte, 16<<10)
						if !strings.Contains(string(stack[:runtime.Stack(stack, false)]), "TestBackgroundGoroutines") {
							runtime.Goexit()
						}
						return nil
					}}
					var loads atomic.Int32
					src := s.source(false, false)
					load := src.Load
					src.Load = func(ctx context.Context, k string) (string, error) { loads.Add(1); return load(ctx, k) }
					c := ofKind(t, tiers, storetest.NewMemory(), src, cache.WithCodec(s.codec()), cache.WithRecorder(sabotagedRecorder{s}),
						cache.WithStrategy(strategy.LRU(10), strategy.TTL(time.Minute), strategy.Jitter(0), strategy.RefreshAhead(0.5)))
					if _, err := c.Get(ctx, "bad"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(40 * time.Second)
					if _, err := c.Get(ctx, "bad"); err != nil { // begins a refresh
						t.Fatal(err)
					}
					synctest.Wait()
					if err := c.Sync(ctx); err != nil {
						t.Error(err)
					}
					s.at = ""
					time.Sleep(10 * time.Second) // it may be left alone for a while after a failure
					if n := loads.Load(); n < 2 {
						if _, err := c.Get(ctx, "bad"); err != nil {
							t.Error(err)
						}
						synctest.Wait()
					}
					if n := loads.Load(); n < 2 {
						t.Errorf("%d loads: no refresh begins any more", n)
					}
				})
			})
		}
	}
}
