package topk

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func TestFewNamesAreCountedExactly(t *testing.T) {
	table := New(8)
	for i, name := range []string{"a", "b", "c", "d"} {
		for range i + 1 {
			table.Add(name, "e")
		}
	}
	want := []Count{{"e", 10}, {"d", 4}, {"c", 3}, {"b", 2}, {"a", 1}}
	if got := table.Top(8); !slices.Equal(got, want) {
		t.Errorf("top = %v, want %v", got, want)
	}
	if got := table.Top(2); !slices.Equal(got, want[:2]) {
		t.Errorf("top 2 = %v, want %v", got, want[:2])
	}
	if got := table.Top(-1); len(got) != 0 {
		t.Errorf("top -1 = %v", got)
	}
}

// The two promises of the algorithm, against a count of everything.
func TestACountIsNeverTooHighAndAFrequentNameIsThere(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		limit := 1 + rnd.IntN(40)
		table, truth, total := New(limit), map[string]uint64{}, uint64(0)
		for range 5000 {
			name := fmt.Sprint(int(rnd.ExpFloat64() * 30))
			truth[name]++
			total++
			table.Add(name)
		}
		top := table.Top(1 << 20)
		if len(top) > limit {
			t.Fatalf("%d names in a table of %d", len(top), limit)
		}
		there := map[string]bool{}
		for _, c := range top {
			there[c.Name] = true
			if c.Count > truth[c.Name] {
				t.Fatalf("%s came up %d times, and the table says %d", c.Name, truth[c.Name], c.Count)
			}
		}
		for name, n := range truth {
			if n > total/uint64(limit) && !there[name] {
				t.Fatalf("%s came up %d times of %d and is not among %d", name, n, total, limit)
			}
		}
	}
}

func TestATableIsForManyAtOnce(t *testing.T) {
	table := New(4)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				table.Add("x", "y")
				table.Top(1)
			}
		})
	}
	all.Wait()
	if got, want := table.Top(9), []Count{{"x", 4000}, {"y", 4000}}; !slices.Equal(got, want) {
		t.Errorf("top = %v, want %v", got, want)
	}
}

func TestNamesOfAnyType(t *testing.T) {
	tab := NewOf[float64](2)
	nan := math.NaN()
	for range 100 {
		tab.AddN(nan, 5) // could be neither found nor removed
	}
	tab.AddN(1, 256)
	tab.AddN(2, 1)
	tab.AddN(3, 4) // replaces the rarest
	if got := tab.Top(10); len(got) != 2 || got[0] != (CountOf[float64]{1, 256}) || got[1] != (CountOf[float64]{3, 4}) {
		t.Errorf("%v", got)
	}
}
