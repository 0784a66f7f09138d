package memory_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// What Update makes of a value is as old as that, in the record and in the local tier,
// whatever the call says of its life and its tags: an invalidation that Redis receives
// later concerns it, and one of its tags that has come in between.
func TestWhatUpdateMakesIsAsOldWhateverItsOptions(t *testing.T) {
	for name, src := range map[string]cache.Source[string, string]{
		"cache":         {},
		"write-through": {Store: func(context.Context, string, string) error { return nil }},
	} {
		for how, opts := range map[string][]cache.WriteOption{"no option": nil, "TTL": {cache.TTL(time.Hour)}, "Tags": {cache.Tags("t", "u")}, "both": {cache.TTL(time.Hour), cache.Tags("t", "u")}} {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					store := storetest.NewMemory()
					c := onMemory(t, store, src, cache.WithStrategy(strategy.LRU(10)))
					if err := c.Set(ctx, "k", "v1", cache.Tags("t")); err != nil {
						t.Fatal(err)
					}
					if v, err := c.Get(ctx, "k"); v != "v1" || err != nil {
						t.Fatal(v, err)
					}
					before := headerOf(t, store, c.RedisKey("k"))
					time.Sleep(time.Second)
					if err := c.InvalidateTags(ctx, "other"); err != nil {
						t.Fatal(err)
					}
					if v, err := c.Update(ctx, "k", func(old string, ok bool) (string, error) { return old + "+", nil }, opts...); v != "v1+" || err != nil {
						t.Fatal(v, err)
					}
					after := headerOf(t, store, c.RedisKey("k"))
					if after.LogicalTime != before.LogicalTime || after.Epoch != before.Epoch {
						t.Errorf("the record is of %d, the value that it was made of is of %d", after.LogicalTime, before.LogicalTime)
					}
					began, _ := before.Began()
					if at, ok := after.Began(); !after.Older() || !ok || at != began {
						t.Errorf("the record began at %d, %v, and what it was made of at %d", at, ok, began)
					}
					if len(after.Tags) == 0 || after.Tags[0] != "t" {
						t.Errorf("the record has the tags %q", after.Tags)
					}
					if e, ok := localOf(c).Peek("k"); len(opts) == 2 || how == "Tags" { // u may have been invalidated in between
						if ok && e.Meta.LogicalTime != before.LogicalTime {
							t.Errorf("the local tier has %+v, %v", e, ok)
						}
					} else if !ok || e.Meta == nil || e.Meta.LogicalTime != before.LogicalTime {
						t.Errorf("the local tier has %+v, %v", e, ok)
					}
					if err := c.InvalidateTags(ctx, "t"); err != nil {
						t.Fatal(err)
					}
					if v, err := c.Get(ctx, "k"); err == nil {
						t.Errorf("%q, after its tag was invalidated", v)
					}
				})
			})
		}
	}
}

// A delayed invalidation that is under way ends what Update makes meanwhile, as it ends the value
// that it was made of.
func TestADelayedInvalidationByTagEndsWhatUpdateMakes(t *testing.T) {
	const delay = time.Minute
	for _, kind := range []string{"one tier", "two tiers", "local only"} {
		for how, opts := range map[string][]cache.WriteOption{"no option": nil, "TTL": {cache.TTL(time.Hour)}} {
			t.Run(kind+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					c := ofKind(t, kind, storetest.NewMemory(), cache.Source[string, string]{}, cache.WithInvalidator(invalidate.Delayed(delay)))
					if err := c.Set(ctx, "k", "v1", cache.Tags("t")); err != nil {
						t.Fatal(err)
					}
					if err := c.InvalidateTags(ctx, "t"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(delay / 2)
					if v, err := c.Update(ctx, "k", func(old string, ok bool) (string, error) { return old + "+", nil }, opts...); v != "v1+" || err != nil {
						t.Fatal(v, err)
					}
					if v, err := c.Get(ctx, "k"); v != "v1+" || err != nil {
						t.Errorf("%q, %v before the end of the delay", v, err)
					}
					time.Sleep(delay)
					if v, err := c.Get(ctx, "k"); err == nil {
						t.Errorf("%q after the end of the delay", v)
					}
				})
			})
		}
	}
}
