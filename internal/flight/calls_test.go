package flight

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// calls does what a map by key and fence does, whatever the hashes, and gives the memory for many back.
func TestCallsAreAMap(t *testing.T) {
	for name, hash := range map[string]func(key int) uint64{
		"hashes":        func(key int) uint64 { return rand.New(rand.NewPCG(1, uint64(key))).Uint64() },
		"few hashes":    func(key int) uint64 { return uint64(key%3) << 32 },
		"the same hash": func(int) uint64 { return 0 },
	} {
		r := rand.New(rand.NewPCG(1, 2))
		var s calls[string, int, int]
		want := map[string]*Call[string, int, int]{}
		for step := range 40_000 {
			key, fence := r.IntN(1500), r.IntN(2)
			if step > 35_000 {
				key %= 3 // few for long
			}
			req := &Request[string, int]{Key: fmt.Sprint(key), Hash: hash(key), Fence: fence}
			id := fmt.Sprint(key, fence)
			c := s.find(req)
			if c != want[id] {
				t.Fatalf("%s: step %d: %v, want %v", name, step, c, want[id])
			}
			switch {
			case c == nil && (step < 15_000 || step > 35_000):
				c = &Call[string, int, int]{Key: req.Key, Fence: fence, hash: req.Hash}
				s.add(c)
				want[id] = c
			case c != nil:
				s.remove(c)
				delete(want, id)
			}
			if s.len != len(want) || c != nil && c.listed != (want[id] != nil) {
				t.Fatalf("%s: step %d: %d calls, want %d", name, step, s.len, len(want))
			}
		}
		for _, c := range want {
			s.remove(c)
		}
		if s.len != 0 || len(s.chains) > maxChains {
			t.Errorf("%s: %d calls and %d chains are left", name, s.len, len(s.chains))
		}
	}
}
