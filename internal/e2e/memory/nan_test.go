package memory_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
)

type coordinate struct{ X, Y float64 }

// A key that does not equal itself is found in no map; it is loaded and stored like others.
func TestAKeyThatDoesNotEqualItselfIsLikeOthers(t *testing.T) {
	nan := math.NaN()
	unequal(t, "float64", nan, 1.0)
	unequal(t, "a struct", coordinate{1, nan}, coordinate{1, 2})
	unequal(t, "an array", [2]float64{nan, 0}, [2]float64{})
	unequal(t, "any", any(nan), any(1.5))
}

func unequal[K comparable](t *testing.T, name string, odd, even K) {
	key := func(k K) string { return fmt.Sprint(k) }
	load := func(_ context.Context, k K) (string, error) { return key(k), nil }
	many := func(_ context.Context, keys []K) (map[K]string, error) {
		vals := map[K]string{}
		for _, k := range keys {
			vals[k] = key(k)
		}
		return vals, nil
	}
	for how, src := range map[string]cache.Source[K, string]{"Load": {Key: key, Load: load}, "LoadMany": {Key: key, LoadMany: many}, "both": {Key: key, Load: load, LoadMany: many}} {
		synctest.Test(t, func(t *testing.T) {
			c := onMemory(t, storetest.NewMemory(), src)
			for range 2 {
				if v, err := c.Get(t.Context(), odd); v != key(odd) || err != nil {
					t.Errorf("%s, %s: Get: %q, %v", name, how, v, err)
				}
				vals, err := c.GetMany(t.Context(), []K{odd, even, odd})
				if err != nil || vals[even] != key(even) {
					t.Errorf("%s, %s: GetMany: %v, %v", name, how, vals, err)
				}
				found := 0
				for k, v := range vals {
					if v != key(k) {
						t.Errorf("%s, %s: %v has the value of %s", name, how, k, v)
					}
					if same := k; same != k {
						found++
					}
				}
				if found == 0 {
					t.Errorf("%s, %s: GetMany leaves the key out", name, how)
				}
			}
			if m := c.Metrics(); m.Loads != 2 {
				t.Errorf("%s, %s: %d loads of 2 keys", name, how, m.Loads)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		stored := map[string]int{}
		src := cache.Source[K, string]{Key: key, StoreMany: func(_ context.Context, vals map[K]string) error {
			for k := range vals {
				stored[key(k)]++
			}
			if len(vals) == 1 && stored[key(odd)] == 1 {
				return &cache.BatchError[K]{Errs: map[K]error{odd: cache.ErrNotFound}}
			}
			return nil
		}}
		c := onMemory(t, storetest.NewMemory(), src)
		if err := c.SetMany(t.Context(), map[K]string{odd: "v", even: "v"}); err == nil {
			t.Errorf("%s: the key's failure is a success", name)
		}
		if len(stored) != 2 {
			t.Errorf("%s: stored %v", name, stored)
		}
	})
}
