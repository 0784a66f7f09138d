package local

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/fence"
)

// gone collects what has left a tier.
type gone struct {
	mu  sync.Mutex
	all []string
}

func (g *gone) watch(t *Tier[string, int]) {
	t.OnLeave(func(k string, e *Entry[int], why Reason) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.all = append(g.all, fmt.Sprint(k, e.Value, " ", why))
	}, never)
}

// are checks what has left since the last call.
func (g *gone) are(t *testing.T, what string, want ...string) {
	t.Helper()
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(g.all, want) {
		t.Errorf("%s: %q, want %q", what, g.all, want)
	}
	g.all = nil
}

func TestWhyEntriesLeave(t *testing.T) {
	for _, p := range []Policy{LRU, TinyLFU} {
		for _, indexed := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				f := fence.NewTable()
				cfg := Config[string]{Capacity: 2, Policy: p, Fences: f}
				if !indexed {
					cfg.Decode = whole
				}
				tr, err := New[string, int](cfg)
				if err != nil {
					t.Fatal(err)
				}
				var g gone
				g.watch(tr)
				entry := func(v int) *Entry[int] {
					return &Entry[int]{Head: Head{Deadline: math.MaxInt64, Expires: math.MaxInt64}, Value: v}
				}
				put := func(k string, e *Entry[int]) { tr.Put(k, k, e, f.Token(k)) }
				put("a", entry(1))
				g.are(t, "the first")
				put("a", entry(2))
				g.are(t, "another value", "a1 3")
				e, _ := tr.Peek("a")
				tr.Replace("a", &e.Head, entry(2), "a")
				tr.Swap("a", "a", entry(2), f.Token("a"))
				g.are(t, "the same value")
				tr.Put("a", "a", entry(9), fence.Token{})
				g.are(t, "a put that is refused")
				tr.Remove("a")
				tr.Remove("a")
				g.are(t, "Remove", "a2 2")
				put("a", entry(3))
				tr.Delete("a")
				g.are(t, "Delete", "a3 4")
				old := entry(4)
				old.Deadline = Now() + int64(time.Second)
				put("a", old)
				time.Sleep(time.Second)
				put("a", entry(5))
				g.are(t, "a value that was over", "a4 1")
				ended := entry(6)
				ended.Deadline, ended.Meta = Now(), &Meta{Ends: true}
				put("b", ended)
				put("b", entry(7))
				g.are(t, "a value that an invalidation has ended", "b6 2")
				put("c", entry(8))
				synctest.Wait()
				if g.mu.Lock(); len(g.all) != 1 || g.all[0][2:] != " 0" {
					t.Errorf("for want of room: %q", g.all)
				}
				g.all = nil
				g.mu.Unlock()
				put("absent", &Entry[int]{Head: Head{Deadline: math.MaxInt64, Meta: &Meta{Absent: true}}})
				synctest.Wait()
				g.mu.Lock()
				g.all = nil
				g.mu.Unlock()
				tr.Remove("absent")
				g.are(t, "an absence")
				n := tr.Len()
				tr.Flush()
				synctest.Wait()
				if g.mu.Lock(); len(g.all) != n {
					t.Errorf("%d of %d entries were flushed: %q", len(g.all), n, g.all)
				}
				g.all = nil
				g.mu.Unlock()
				put("z", entry(1))
				tr.Close()
				g.are(t, "Close", "z1 0")
				put("z", entry(1))
				g.are(t, "after Close")
			})
		}
	}
}

// Each key's departures are told in order, whatever else happens, and all of them.
func TestDeparturesAreInOrderOfEachKey(t *testing.T) {
	f := fence.NewTable()
	tr, err := New[string, int](Config[string]{Capacity: 4, Fences: f, Decode: whole})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	last := map[string]int{}
	n, inside := 0, false
	tr.OnLeave(func(k string, e *Entry[int], _ Reason) {
		mu.Lock()
		if e.Value <= last[k] || inside {
			t.Errorf("%s: %d after %d, side by side %v", k, e.Value, last[k], inside)
		}
		last[k], inside = e.Value, true
		n++
		mu.Unlock()
		runtime.Gosched()
		tr.Len() // no lock is held
		mu.Lock()
		inside = false
		end := n%10 == 0
		mu.Unlock()
		if end {
			runtime.Goexit()
		}
	}, never)
	var all sync.WaitGroup
	const writers, rounds = 8, 500
	for w := range writers {
		all.Go(func() {
			k := fmt.Sprint(w)
			for i := range rounds {
				tr.Set(k, k, &Entry[int]{Head: Head{Deadline: math.MaxInt64}, Value: i + 1}, Now())
			}
		})
	}
	all.Wait()
	tr.Close()
	mu.Lock()
	defer mu.Unlock()
	if n != writers*rounds {
		t.Errorf("%d of %d have left", n, writers*rounds)
	}
}

func TestResize(t *testing.T) {
	for _, p := range []Policy{LRU, TinyLFU} {
		f := fence.NewTable()
		tr, err := New[string, int](Config[string]{Capacity: 10_000, Policy: p, Fences: f, Decode: whole})
		if err != nil {
			t.Fatal(err)
		}
		fill := func() {
			for i := range 20_000 {
				k := fmt.Sprint(i)
				tr.Set(k, k, &Entry[int]{Head: Head{Deadline: math.MaxInt64}, Value: i}, Now())
			}
		}
		check := func(want int) {
			t.Helper()
			fill()
			if tr.Len() != want || tr.Capacity() != want {
				t.Errorf("%d entries, room for %d; want %d", tr.Len(), tr.Capacity(), want)
			}
			found := 0
			tr.Range(func(k string, e *Entry[int]) bool {
				if got, ok := tr.Peek(k); !ok || got.Value != e.Value {
					t.Errorf("%s can't be found", k)
				}
				found++
				return true
			})
			if found != want {
				t.Errorf("%d of %d are there", found, want)
			}
		}
		check(10_000)
		var all sync.WaitGroup
		all.Go(fill)
		if err := tr.Resize(100); err != nil {
			t.Fatal(err)
		}
		all.Wait()
		if tr.Len() > 100 {
			t.Errorf("%d entries", tr.Len())
		}
		check(100)
		if err := tr.Resize(15_001); err != nil {
			t.Fatal(err)
		}
		check(15_001)
		for _, n := range []int{len(tr.shards) - 1, 0, -1} {
			if err := tr.Resize(n); err == nil {
				t.Errorf("%d is accepted", n)
			}
		}
		check(15_001)
	}
}
