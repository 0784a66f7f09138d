package engine

import (
	"context"
	"testing"

	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/local"
)

// A read finds nothing in the tier, and its load claims the key. What was written in between answers
// it; if nothing was, the source does.
func TestALoadSeesWhatWasWrittenBeforeItsClaim(t *testing.T) {
	for _, test := range []struct {
		name  string
		write func(c *Cache, key *string)
		want  string
		loads int
	}{
		{"nothing", func(*Cache, *string) {}, "loaded", 1},
		{"a Set", func(c *Cache, key *string) {
			val := "written"
			if err := c.Set(t.Context(), new(Writing), key, &val, &Options{}); err != nil {
				t.Fatal(err)
			}
		}, "written", 0},
		{"another load", func(c *Cache, key *string) {
			other := loadFunc[string](func(context.Context) (string, error) { return "of the other", nil })
			if _, err := get[string](t.Context(), c, *key, other, &Options{SkipRemote: true}); err != nil { // joins none
				t.Fatal(err)
			}
		}, "of the other", 0},
		{"what another load was not asked for", func(c *Cache, key *string) {
			v, _ := c.backend.version(t.Context(), *key)
			u := &unasked{c: c, fences: c.fences.Snapshot(), version: v}
			defer u.fences.Release()
			val, now := "not asked for", local.Now()
			l := &inflightLoad{loadKey: loadKey{key: key, rk: *key}, state: fillLocal, version: v, fence: u.fences.Token(c.fences, *key)}
			l.res = loaded{val: &val, began: now}
			u.store(l, now)
		}, "not asked for", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, key, loads := testCache[string](t, nil, nil), "k", 0
			load := loadFunc[string](func(context.Context) (string, error) { loads++; return "loaded", nil })
			if _, err := c.backend.version(t.Context(), key); err != nil { // begins the logical clock
				t.Fatal(err)
			}
			place := c.fences.Place(key)
			began := c.beginning(c.fences.TokenAt(place))
			req := flight.Request[string, beginning]{Key: key, Hash: place.Hash(), Fence: began}
			res := c.flights.Do(t.Context(), []flight.Request[string, beginning]{req}, func(ctx context.Context, mine []*flight.Call[string, beginning, *result]) {
				test.write(c, &key)
				l := c.newLoad(loadKey{key: &key, rk: key, place: place})
				l.call = mine[0]
				c.lead(ctx, local.Now(), load, &Options{}, []*inflightLoad{l}, nil)
			})[0]
			if res.Err != nil {
				t.Fatal(res.Err)
			}
			if got := *res.Val.val.(*string); got != test.want || loads != test.loads {
				t.Errorf("%q by %d loads, want %q by %d", got, loads, test.want, test.loads)
			}
		})
	}
}
