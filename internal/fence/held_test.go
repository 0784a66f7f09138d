package fence

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// heldKeys does what a map does, whatever the hashes, and gives the memory for many keys back.
func TestHeldKeysAreAMap(t *testing.T) {
	for name, hash := range map[string]func(r *rand.Rand) uint64{
		"hashes":        func(r *rand.Rand) uint64 { return r.Uint64() },
		"few hashes":    func(r *rand.Rand) uint64 { return r.Uint64N(3) << 32 },
		"the same hash": func(*rand.Rand) uint64 { return 1 << 40 },
	} {
		r := rand.New(rand.NewPCG(1, 2))
		var keys []Place
		for i := range 500 {
			keys = append(keys, Place{fmt.Sprint(i), hash(r)})
		}
		var h heldKeys
		want := map[string]*claimed{}
		for step := range 20_000 {
			at := keys[r.IntN(len(keys))]
			if step > 15_000 {
				at = keys[r.IntN(3)] // few for long
			}
			k := h.find(at)
			if k != want[at.key] {
				t.Fatalf("%s: step %d: %v, want %v", name, step, k, want[at.key])
			}
			switch {
			case k == nil && (step < 10_000 || step > 15_000):
				k = &claimed{Place: at}
				h.add(k)
				want[at.key] = k
			case k != nil:
				h.remove(k)
				delete(want, at.key)
			}
			if h.len != len(want) {
				t.Fatalf("%s: step %d: %d keys, want %d", name, step, h.len, len(want))
			}
		}
		n := 0
		h.each(func(k *claimed) {
			n++
			if want[k.key] != k {
				t.Errorf("%s: %v is there", name, k)
			}
			h.remove(k)
		})
		if n != len(want) || h.len != 0 || len(h.chains) > maxChains {
			t.Errorf("%s: %d of %d keys were there, %d and %d chains are left", name, n, len(want), h.len, len(h.chains))
		}
	}
}
