package e2e_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
	"github.com/redis/go-redis/v9"
)

// InvalidateTags and Clear take the same commands, however many entries there are.
func TestTagsCostTheSameForAMillionEntries(t *testing.T) {
	ctx := t.Context()
	s := redistest.Start(t)
	o := s.Options()
	o.ReadTimeout = patience // a million takes its time
	hand := redis.NewClient(o)
	defer hand.Close()
	w := newWorld(t)
	c := w.node(s.Client(t), append([]cache.Option{slowly}, transports["no local tier"]...)...)
	counted := func() map[string]string {
		t.Helper()
		info, err := hand.InfoMap(ctx, "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		calls := map[string]string{}
		for name, text := range info["Commandstats"] {
			// What is said from time to time, or on a new connection, is not meant.
			switch name, _, _ := strings.Cut(strings.TrimPrefix(name, "cmdstat_"), "|"); name {
			case "publish", "info", "config", "hello", "client":
			default:
				calls[name], _, _ = strings.Cut(text, ",")
			}
		}
		return calls
	}
	costs := func(f func() error) map[string]string {
		t.Helper()
		if err := hand.ConfigResetStat(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		if err := f(); err != nil {
			t.Fatal(err)
		}
		return counted()
	}
	operations := map[string]func() error{
		"InvalidateTags": func() error { return c.InvalidateTags(ctx, tagsOf("tag", 0)...) },
		"Clear":          func() error { return c.Clear(ctx) },
	}
	few := map[string]map[string]string{}
	for _, f := range operations {
		if err := f(); err != nil { // has the script known
			t.Fatal(err)
		}
	}
	// Heartbeats and looks of the background may come in between: not each time.
	alone := func(f func() error, want func(calls map[string]string) bool) (calls map[string]string) {
		for range 20 {
			if calls = costs(f); want(calls) {
				break
			}
		}
		return calls
	}
	for name, f := range operations {
		for range 5 { // the least of several
			calls := alone(f, func(calls map[string]string) bool { return calls["evalsha"] == "calls=1" })
			if few[name] == nil || len(calls) < len(few[name]) {
				few[name] = calls
			}
		}
	}
	if err := hand.Do(ctx, "debug", "populate", 1_000_000, c.RedisKey("entry"), 1).Err(); err != nil {
		t.Fatal(err)
	}
	for name, f := range operations {
		many := alone(f, func(calls map[string]string) bool { return maps.Equal(few[name], calls) })
		if !maps.Equal(few[name], many) || many["evalsha"] != "calls=1" {
			t.Errorf("%s among few entries: %v, among a million: %v", name, few[name], many)
		}
	}
}

// An entry belongs to the tags that it was stored with last.
func TestChangedTags(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		ctx := t.Context()
		s := redistest.Start(t)
		node := func() *cache.Cache[string, int64] {
			c, err := cache.New[string, int64](s.Client(t), "n", append([]cache.Option{discard, slowly}, transports[transport]...)...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
		a, b := node(), node()
		set := func(n int64, tag string) {
			t.Helper()
			if err := a.Set(ctx, "k", n, cache.Tags(tag)); err != nil {
				t.Fatal(err)
			}
			awaits(t, "the other to see it", func() error { return sees(b, "k", n) })
		}
		set(1, "old")
		set(2, "new")
		if err := b.InvalidateTags(ctx, "old"); err != nil {
			t.Fatal(err)
		}
		for who, c := range map[string]*cache.Cache[string, int64]{"who stored it": a, "the other": b} {
			if err := sees(c, "k", 2); err != nil {
				t.Errorf("%s, after its former tag was invalidated: %v", who, err)
			}
		}
		if err := b.InvalidateTags(ctx, "new"); err != nil {
			t.Fatal(err)
		}
		if v, err := b.Get(ctx, "k"); err == nil {
			t.Errorf("who invalidated its tag reads %d", v)
		}
		awaits(t, "who stored it to know", func() error {
			if sees(a, "k", 2) == nil {
				return errNotYet
			}
			return nil
		})
		// A process that was not there at all.
		set(3, "new")
		if err := b.Clear(ctx); err != nil {
			t.Fatal(err)
		}
		if v, err := node().Get(ctx, "k"); err == nil {
			t.Errorf("a process that started after Clear reads %d", v)
		}
	})
}

// A tag that is invalidated while a load runs counts for what the load stores, even if
// only the load knows that it has the tag.
func TestATagIsInvalidatedDuringALoad(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		ctx := t.Context()
		s := redistest.Start(t)
		w := newWorld(t)
		opts := append([]cache.Option{slowly}, transports[transport]...)
		a, b := w.node(s.Client(t), opts...), w.node(s.Client(t), opts...)
		for name, invalidate := range map[string]func(c *cache.Cache[string, int64]) error{
			"tag":     func(c *cache.Cache[string, int64]) error { return c.InvalidateTags(ctx, "late", "other") },
			"clear":   func(c *cache.Cache[string, int64]) error { return c.Clear(ctx) },
			"pattern": func(c *cache.Cache[string, int64]) error { _, err := c.InvalidatePattern(ctx, "p*"); return err },
		} {
			for who, by := range map[string]*cache.Cache[string, int64]{"itself": a, "another": b} {
				key := name + " by " + who
				_, err := a.GetOrLoad(ctx, key, func(ctx context.Context, key string) (int64, error) {
					n, _ := w.load(ctx, key)
					cache.CurrentLoad[int64](ctx).AddTags("late")
					w.count(key)
					return n, invalidate(by)
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := sees(by, key, 1); err != nil {
					t.Errorf("%s: %v", key, err)
				}
				for _, c := range []*cache.Cache[string, int64]{a, b} { // to one a message is under way
					awaits(t, "both to see it", func() error { return sees(c, key, 1) })
				}
				var info cache.Info
				if _, err := b.Get(ctx, key, cache.SkipLocal(), cache.Report(&info)); err != nil || info.Tier != metrics.Remote {
					t.Errorf("%s: it was not stored afterwards: %v from %v", key, err, info.Tier)
				}
			}
		}
	})
}

var errNotYet = errors.New("not yet")
