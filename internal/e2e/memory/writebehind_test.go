package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

func behindIt(t *testing.T, f func(t *testing.T, db *database, c *cache.Cache[string, string], store *storetest.Memory)) {
	for _, kind := range []string{"redis", "two tiers"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db, store := newDatabase(), storetest.NewMemory()
				f(t, db, onDatabase(t, db, store, kind, strategy.WriteBehind(strategy.MaxAttempts(3))), store)
			})
		})
	}
}

func TestWriteBehindReachesTheSourceInTheEnd(t *testing.T) {
	behindIt(t, func(t *testing.T, db *database, c *cache.Cache[string, string], store *storetest.Memory) {
		ctx := t.Context()
		db.fail = errFlaky // nothing gets through yet
		if err := errors.Join(c.Set(ctx, "k", "v1"), c.Set(ctx, "k", "v2"), c.SetMany(ctx, map[string]string{"a": "1", "b": "2"})); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Update(ctx, "a", func(old string, ok bool) (string, error) { return old + "+", nil }); v != "1+" || err != nil {
			t.Fatal(v, err)
		}
		if ok, err := c.SetIfAbsent(ctx, "b", "x"); ok || err != nil {
			t.Error(ok, err)
		}
		if err := c.Delete(ctx, "b"); err != nil {
			t.Fatal(err)
		}
		other := onDatabase(t, db, store, "two tiers", strategy.WriteBehind())
		for _, c := range []*cache.Cache[string, string]{c, other} {
			for _, gone := range []bool{false, true} {
				if gone { // the cache's own key was evicted: the queue still knows
					for _, k := range []string{"k", "a", "b"} {
						if err := c.Invalidate(ctx, k); err != nil {
							t.Fatal(err)
						}
					}
				}
				vals, err := c.GetMany(ctx, []string{"k", "a", "b"})
				if fmt.Sprint(vals) != "map[a:1+ k:v2]" || err != nil {
					t.Errorf("evicted %v: %v, %v", gone, vals, err)
				}
				if v, err := c.Get(ctx, "k"); v != "v2" || err != nil {
					t.Errorf("evicted %v: %q, %v", gone, v, err)
				}
			}
		}
		db.mu.Lock()
		db.fail = nil
		db.mu.Unlock()
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(db.rows) != "map[a:1+ k:v2]" {
			t.Errorf("the source has %v", db.rows)
		}
		for _, c := range []*cache.Cache[string, string]{c, other} {
			if v, err := c.Get(ctx, "k"); v != "v2" || err != nil {
				t.Errorf("%q, %v", v, err)
			}
		}
	})
}

func TestWhatTheSourceRefusesIsADeadLetter(t *testing.T) {
	behindIt(t, func(t *testing.T, db *database, c *cache.Cache[string, string], store *storetest.Memory) {
		ctx := t.Context()
		db.fail = errFlaky
		if err := c.Set(ctx, "k", "v"); err != nil {
			t.Fatal(err)
		}
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		letters, err := c.DeadLetters(ctx, 10)
		if err != nil || len(letters) != 1 || letters[0].Key != "k" || letters[0].Value != "v" || letters[0].Attempts != 3 || letters[0].Reason != errFlaky.Error() {
			t.Fatalf("%+v, %v", letters, err)
		}
		c.Metrics() // looks at the queue, for the next one
		time.Sleep(2 * hook.StatsEvery)
		c.Metrics()
		synctest.Wait()
		if m := c.Metrics(); m.DeadLetters != 1 || m.Backlog != 0 || m.Buried != 1 || m.ApplyErrors != 2 {
			t.Errorf("%d dead, %d backlog, %d buried, %d failed", m.DeadLetters, m.Backlog, m.Buried, m.ApplyErrors)
		}
		db.mu.Lock()
		db.fail = nil
		db.mu.Unlock()
		if n, err := c.ReplayDeadLetters(ctx, letters[0].ID); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		time.Sleep(5 * time.Second) // Sync waits for what was written here, not for that
		synctest.Wait()
		if v, ok := db.get("k"); v != "v" || !ok {
			t.Errorf("the source has %q, %v", v, ok)
		}
		if letters, err := c.DeadLetters(ctx, 10); len(letters) != 0 || err != nil {
			t.Error(letters, err)
		}
	})
}

func TestWriteBehindOfKeysThatTheirEncodingDoesNotTell(t *testing.T) {
	type key struct {
		Tenant string
		ID     int
	}
	synctest.Test(t, func(t *testing.T) {
		stored := map[key]string{}
		c := newCache(t, storetest.NewMemory(), cache.Source[key, string]{Store: func(_ context.Context, k key, v string) error { stored[k] = v; return nil }}, cache.WithStrategy(strategy.WriteBehind()))
		if err := c.Set(t.Context(), key{"a:b", 7}, "v"); err != nil {
			t.Fatal(err)
		}
		if err := c.Sync(t.Context()); err != nil || stored[key{"a:b", 7}] != "v" {
			t.Errorf("%v, %v", stored, err)
		}
	})
	type hidden struct{ name string }
	_ = hidden{name: "a field that JSON does not write"}
	_, err := build("test", cache.Source[hidden, string]{Store: func(context.Context, hidden, string) error { return nil }},
		[]cache.Option{cache.WithStrategy(strategy.WriteBehind())}, func() store.Store { return storetest.NewMemory() })
	if !errors.Is(err, cache.ErrInvalidOption) {
		t.Errorf("keys that can't be kept: %v", err)
	}
	_, err = cache.New[string, string](nil, "test", cache.LocalOnly(), cache.WithStrategy(strategy.WriteBehind()))
	if !errors.Is(err, cache.ErrInvalidOption) {
		t.Errorf("without Redis: %v", err)
	}
}

func TestCloseBringsWritesToTheSource(t *testing.T) {
	behindIt(t, func(t *testing.T, db *database, c *cache.Cache[string, string], store *storetest.Memory) {
		if err := c.Set(t.Context(), "k", "v"); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if v, _ := db.get("k"); v != "v" {
			t.Errorf("the source has %q", v)
		}
		if err := c.Set(t.Context(), "k", "w"); !errors.Is(err, cache.ErrClosed) {
			t.Error(err)
		}
	})
}
