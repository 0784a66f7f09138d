package memory_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// headerOf returns the header of the record of a key.
func headerOf(t *testing.T, st *storetest.Memory, key string) frame.Header {
	t.Helper()
	reply := st.Do(t.Context(), []store.Command{{Op: store.Get, Key: key}})[0]
	f, err := frame.Parse(key, reply.Record.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return f.Header
}

// A delayed invalidation only ever brings the end nearer, and Update keeps it: the end is
// in the record, beside Redis's timer, which a clock that goes back prolongs.
func TestTheEndThatAnInvalidationSetsStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		soon := onMemory(t, store, cache.Source[string, string]{}, cache.WithInvalidator(invalidate.Delayed(2*time.Second)))
		late := onMemory(t, store, cache.Source[string, string]{}, cache.WithInvalidator(invalidate.Delayed(time.Hour)))
		if err := soon.Set(ctx, "k", "v1"); err != nil {
			t.Fatal(err)
		}
		if err := soon.Invalidate(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		limit := headerOf(t, store, soon.RedisKey("k")).Limit
		if end := time.Now().Add(2 * time.Second).UnixMicro(); limit > end {
			t.Fatalf("it ends at %d, want %d or before", limit, end)
		}
		if err := late.Invalidate(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		if l := headerOf(t, store, soon.RedisKey("k")).Limit; l > limit {
			t.Errorf("a later invalidation put the end off by %d µs", l-limit)
		}
		if _, err := late.Update(ctx, "k", func(string, bool) (string, error) { return "v2", nil }); err != nil {
			t.Fatal(err)
		}
		if l := headerOf(t, store, soon.RedisKey("k")).Limit; l > limit {
			t.Errorf("Update put the end off by %d µs", l-limit)
		}
		time.Sleep(3 * time.Second)
		for i, c := range []*cache.Cache[string, string]{soon, late} {
			if v, err := c.Peek(ctx, "k"); err == nil {
				t.Errorf("process %d serves %q after its end", i, v)
			}
		}
	})
}

// What Update makes of a value is stale when that value would have been: its fresh life is
// not begun anew, nor is it as long as the Redis key's.
func TestUpdateKeepsTheEndOfTheFreshLife(t *testing.T) {
	for name, more := range map[string][]cache.Option{"one tier": nil, "two tiers": {cache.WithStrategy(strategy.LRU(10))}} {
		for _, store := range []func(context.Context, string, string) error{nil, func(context.Context, string, string) error { return nil }} {
			how := ""
			if store != nil {
				how = ", write-through"
			}
			t.Run(name+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					opts := append([]cache.Option{cache.WithStrategy(strategy.TTL(time.Minute), strategy.StaleIfError(time.Hour))}, more...)
					c, _ := onWireWith(t, storetest.NewMemory(), cache.Source[string, string]{
						Load:  func(context.Context, string) (string, error) { return "loaded", nil },
						Store: store,
					}, opts...)
					if err := c.Set(ctx, "k", "v1"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(30 * time.Second)
					if _, err := c.Update(ctx, "k", func(string, bool) (string, error) { return "v2", nil }); err != nil {
						t.Fatal(err)
					}
					time.Sleep(29 * time.Second)
					if v, err := c.Get(ctx, "k"); v != "v2" || err != nil {
						t.Errorf("%q, %v: a second before its end", v, err)
					}
					time.Sleep(2 * time.Second)
					if v, err := c.Get(ctx, "k"); v != "loaded" || err != nil {
						t.Errorf("%q, %v: a second after its end", v, err)
					}
				})
			})
		}
	}
}

// What Update makes of a value has that value's logical time, though a later one is known.
//
//  1. b: invalidates tag t; a has not received that yet
//  2. b: invalidates tag u; a receives that, and knows a logical time after 1
//  3. a: updates a value of tag t, stored before 1
//  4. a: receives 1: what it made in 3 must be over
func TestWhatUpdateMakesIsNotYoungerThanWhatItWasMadeOf(t *testing.T) {
	for name, src := range map[string]cache.Source[string, string]{
		"cache":         {},
		"write-through": {Store: func(context.Context, string, string) error { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store := storetest.NewMemory()
				a, b := onMemory(t, store, src), onMemory(t, store, cache.Source[string, string]{})
				if err := a.Set(ctx, "k", "v1", cache.Tags("t")); err != nil {
					t.Fatal(err)
				}
				_, _ = b.Peek(ctx, "other")
				time.Sleep(5 * time.Second)
				store.Intercept(func(d storetest.Delivery) (int, time.Duration) {
					if n, err := message.Parse(d.Text); err == nil && n.Kind == message.TagsInvalidated && len(n.Tags) == 1 && n.Tags[0] == "t" && d.Listener == 0 {
						return 1, time.Second
					}
					return 1, 0
				})
				if err := b.InvalidateTags(ctx, "t"); err != nil {
					t.Fatal(err)
				}
				if err := b.InvalidateTags(ctx, "u"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if _, err := a.Update(ctx, "k", func(old string, ok bool) (string, error) { return old + "!", nil }); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
				for i, c := range []*cache.Cache[string, string]{a, b} {
					if v, err := c.Peek(ctx, "k"); err == nil && v != "!" {
						t.Errorf("process %d serves %q", i, v)
					}
				}
			})
		})
	}
}
