package cachetest_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/cachetest"
	"github.com/delqhi/cache/strategy"
)

// Each assertion holds in one state of a key, and says which one it found otherwise.
func TestAssertionsTellTheStatesApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		src := cachetest.NewSource(map[int]string{1: "Ada", 4: "Edith"})
		c := open(t, env.Client(), src.ReadOnly(), strategy.StaleIfError(time.Hour), strategy.NotFoundTTL(time.Minute))
		const hit, stale, miss, absent, unavailable = 1, 4, 2, 3, 5
		get(t, c, stale, "Edith")
		env.Advance(2 * time.Minute)
		get(t, c, hit, "Ada")
		if _, err := c.Get(t.Context(), absent); !errors.Is(err, cache.ErrNotFound) {
			t.Fatal(err)
		}
		env.Advance(3 * time.Second)

		cut := env.Process()
		deaf := open(t, cut.Client(), cache.Source[int, string]{})
		cut.CutRedis()
		synctest.Wait()
		of := func(key int) *cache.Cache[int, string] {
			if key == unavailable {
				return deaf
			}
			return c
		}
		found := map[int]string{
			hit:         `got a hit: "Ada" (local tier, 3s old, fresh for 57s), want `,
			stale:       `got a stale value: "Edith" (redis, 2m3s old), want `,
			miss:        `got a miss: no tier has anything, want `,
			absent:      `got a remembered absence (local tier, 3s old, fresh for 57s), want `,
			unavailable: `got no answer of Redis: `,
		}
		before := c.Metrics()
		for holds, a := range map[int]struct {
			assert func(r *recorder, key int)
			wants  string
		}{
			hit: {func(r *recorder, key int) {
				want := map[int]string{stale: "Edith"}[key]
				if key == hit {
					want = "Ada"
				}
				cachetest.WantHit(r, of(key), key, want)
			}, "a hit"},
			stale: {func(r *recorder, key int) {
				cachetest.WantStale(r, of(key), key, map[int]string{hit: "Ada", stale: "Edith"}[key])
			}, "a stale value"},
			miss:        {func(r *recorder, key int) { cachetest.WantMiss(r, of(key), key) }, "a miss"},
			absent:      {func(r *recorder, key int) { cachetest.WantAbsent(r, of(key), key) }, "a remembered absence"},
			unavailable: {func(r *recorder, key int) { cachetest.WantUnavailable(r, of(key), key) }, "no answer of Redis"},
		} {
			for key, text := range found {
				r := record(t, func(r *recorder) { a.assert(r, key) })
				switch {
				case key == holds && len(r.errors) > 0:
					t.Errorf("%s, key %d: %q", a.wants, key, r.errors)
				case key != holds && (len(r.errors) != 1 || !strings.Contains(r.errors[0], text) || !strings.Contains(r.errors[0], "want "+a.wants)):
					t.Errorf("%s, key %d: %q, want %q", a.wants, key, r.errors, text)
				}
			}
		}
		if after := c.Metrics(); after.Requests() != before.Requests() || after.Loads != before.Loads {
			t.Error("assertions are counted")
		}

		wrong := record(t, func(r *recorder) {
			cachetest.WantHit(r, c, hit, "Eda")
			cachetest.WantStale(r, c, stale, "Edit")
		})
		want := []string{
			`cachetest: names: key 1: got a hit: "Ada" (local tier, 3s old, fresh for 57s), want the value "Eda"`,
			`cachetest: names: key 4: got a stale value: "Edith" (redis, 2m3s old), want the value "Edit"`,
		}
		if strings.Join(wrong.errors, "\n") != strings.Join(want, "\n") {
			t.Errorf("errors:\n%s\nwant:\n%s", strings.Join(wrong.errors, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestAssertionsShowTagsAndStructs(t *testing.T) {
	type user struct{ Name string }
	synctest.Test(t, func(t *testing.T) {
		c, err := cache.New[string, *user](cachetest.New(t).Client(), "users", cache.WithStrategy(strategy.Forever()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Set(t.Context(), "ada", &user{"Ada"}, cache.Tags("x")); err != nil {
			t.Fatal(err)
		}
		r := record(t, func(r *recorder) {
			cachetest.WantHit(r, c, "ada", &user{"Ada"})
			cachetest.WantMiss(r, c, "ada")
		})
		if want := `cachetest: users: key "ada": got a hit: &{Name:Ada} (redis, 0s old, without an end, tags ["x"]), want a miss`; len(r.errors) != 1 || r.errors[0] != want {
			t.Errorf("errors: %q, want %q", r.errors, want)
		}
	})
}

func TestLoadsSaysWhatCameOfTheReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		src := cachetest.NewSource(map[int]string{1: "Ada"})
		c := open(t, env.Client(), src.ReadOnly(), strategy.NotFoundTTL(time.Second))
		want := func(n int, message string) {
			t.Helper()
			r := record(t, func(r *recorder) { cachetest.Loads(r, c, n) })
			if message == "" && len(r.errors) > 0 || message != "" && (len(r.errors) != 1 || r.errors[0] != message) {
				t.Errorf("errors: %q, want %q", r.errors, message)
			}
		}
		want(0, "")
		want(1, "cachetest: names: 0 loads, want 1: the cache was not read")
		get(t, c, 1, "Ada")
		get(t, c, 1, "Ada")
		want(1, "")
		want(2, "cachetest: names: 1 loads, want 2: 1 local hits, 1 misses since there was nothing")
		want(-1, "cachetest: names: 1 loads, want -1: 1 local hits, 1 misses since there was nothing")
		src.Fail(errors.New("down"), 2)
		_, _ = c.Get(t.Context(), 2)
		_, _ = c.Get(t.Context(), 3)
		want(0, "cachetest: names: 3 loads, want 0: 1 of the loads failed, 1 of the loads found nothing, 1 local hits, 3 misses since there was nothing")
		c.ResetMetrics()
		want(0, "")
	})
}
