package local

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/delqhi/cache/internal/fence"
)

// A register is a record in Redis: a version that only grows, and the least that a
// read may see from now on.
type register struct{ version, least atomic.Int64 }

func (r *register) acknowledge(v int64) {
	for old := r.least.Load(); old < v && !r.least.CompareAndSwap(old, v); old = r.least.Load() {
	}
}

// Whatever is acknowledged or announced, nothing older is read afterwards: not
// through another key of the encoding either, and however the steps of readers and
// writers interleave.
func TestNothingOlderThanAWriteOrANotificationIsServed(t *testing.T) {
	for _, capacity := range []int{7, 2048} {
		for _, p := range []Policy{LRU, TinyLFU} {
			for _, shared := range []bool{false, true} {
				t.Run(fmt.Sprintf("policy %d, capacity %d, shared encodings %v", p, capacity, shared), func(t *testing.T) {
					stress(t, newDriver(t, p, capacity, shared))
				})
			}
		}
	}
}

func stress(t *testing.T, d *driver) {
	const steps = 8_000
	tr, f := d.tier, d.fences
	registers := map[string]*register{}
	var keys []point
	for x := range 6 {
		for y := range 2 {
			k := point{x, y}
			keys = append(keys, k)
			if registers[d.encode(k)] == nil {
				registers[d.encode(k)] = &register{}
			}
		}
	}
	roles := []func(k point, enc string, r *register){
		func(_ point, enc string, r *register) { // another process writes, and the notification arrives
			v := r.version.Add(1)
			tr.Remove(enc)
			r.acknowledge(v)
		},
		func(k point, enc string, r *register) { // this process writes
			tok := f.Move(enc)
			v := r.version.Add(1)
			tr.PutAndBump(k, enc, entry(int(v)), tok)
			r.acknowledge(v)
		},
		func(k point, enc string, r *register) { read(t, tr, f, k, enc, r) },
		func(k point, enc string, r *register) { read(t, tr, f, k, enc, r) },
	}
	flush := func() {
		before := map[*register]int64{}
		for _, r := range registers {
			before[r] = r.version.Load()
		}
		tr.Flush()
		for r, v := range before {
			r.acknowledge(v)
		}
	}
	var wg sync.WaitGroup
	for g := range 2 * len(roles) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 5))
			for i := range steps {
				k := keys[rnd.IntN(len(keys))]
				enc := d.encode(k)
				roles[g%len(roles)](k, enc, registers[enc])
				if g == 0 && i%500 == 0 {
					flush()
				}
				if t.Failed() {
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range tr.shards {
		if s := &tr.shards[i]; s.order.len() > s.capacity {
			t.Errorf("shard %d holds %d of %d", i, s.order.len(), s.capacity)
		}
	}
	checkTables(t, tr)
	for i := range tr.shards {
		checkOrder(t, tr.shards[i].order)
	}
	if d.shared {
		checkIndex(t, tr)
	}
	for enc := range registers {
		tr.Remove(enc)
	}
	if tr.Len() != 0 {
		t.Errorf("%d entries are left, and each was removed", tr.Len())
	}
}

// read reads through: the tier, then Redis, and fills the tier.
func read(t *testing.T, tr *Tier[point, int], f *fence.Table, k point, enc string, r *register) {
	least := r.least.Load()
	if e, ok := tr.Get(k, Now()); ok {
		if int64(e.Value) < least {
			t.Errorf("%v is version %d, and %d was acknowledged before", k, e.Value, least)
		}
		return
	}
	tok := f.Token(enc)
	v := r.version.Load()
	tr.Put(k, enc, entry(int(v)), tok)
}

func TestSwapsAreACounter(t *testing.T) {
	const each = 20_000
	tr, f := tier(t, 10, whole)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for done := 0; done < each; {
				tok := f.Token("n")
				n := 0
				if e, ok := tr.Get("n", Now()); ok {
					n = e.Value
				}
				if tr.Swap("n", "n", entry(n+1), tok) {
					done++
				}
			}
		})
	}
	wg.Wait()
	if e, ok := tr.Get("n", Now()); !ok || e.Value != 4*each {
		t.Errorf("%v, %v", e, ok)
	}
}

// Closing while others put leaves nothing behind.
func TestNothingIsPutAfterClose(t *testing.T) {
	for range 50 {
		tr, f := tier[point](t, 2048, nil)
		var wg sync.WaitGroup
		for g := range 3 {
			wg.Go(func() {
				for i := range 200 {
					enc := fmt.Sprint(i)
					tr.Put(point{i, g}, enc, entry(1), f.Token(enc))
				}
			})
		}
		wg.Go(tr.Close)
		wg.Wait()
		if tr.Len() != 0 {
			t.Fatalf("%d entries", tr.Len())
		}
		checkIndex(t, tr)
	}
}
