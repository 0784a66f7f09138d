package retryqueue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// The model remembers each operation, and when it was told.
func TestTheQueueAgainstAModel(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			max := 3 + r.IntN(8)
			q := NewQueue(max)
			next := uint64(0)
			open := map[uint64]string{} // the pending operations, by their numbers; "" for all
			type attempt struct {
				batch  Batch
				before uint64 // operations that it may tell
			}
			var out []attempt
			since := func() int64 { return int64(next) * int64(seed%2) } // or all of them at once
			for range 500 {
				key := string(rune('a' + r.IntN(max+2)))
				switch n := r.IntN(20); {
				case n < 8:
					next++
					open[next] = key
					q.Add(Item{Key: key, At: int64(next), Since: since(), Numbers: []uint64{next}})
				case n < 10:
					next++
					open[next] = "#" + key
					q.AddTags([]string{key}, []uint64{next}, Past{Since: since()})
				case n < 11 && r.IntN(5) == 0:
					next++
					open[next] = ""
					q.AddAll([]uint64{next}, Past{Since: since()})
				case n < 15:
					b, most := Batch{}, r.IntN(5)
					if r.IntN(2) == 0 {
						b = q.Take(most)
					} else {
						odd := func(key string) bool { return key[0]%2 == 1 }
						b = q.TakeKeys(most, odd)
						if len(b.Items) > most || b.All || len(b.Tags) > 0 || slices.ContainsFunc(b.Items, func(it Item) bool { return !odd(it.Key) }) {
							t.Fatalf("%+v is taken", b)
						}
					}
					if !b.Empty() {
						out = append(out, attempt{b, next})
					}
				case len(out) > 0:
					i := r.IntN(len(out))
					a := out[i]
					out = slices.Delete(out, i, i+1)
					if n < 17 {
						q.Return(a.batch)
						break
					}
					tell := func(numbers []uint64, covers func(string) bool) {
						for _, k := range numbers {
							if what, ok := open[k]; !ok || k > a.before || !covers(what) {
								t.Fatalf("number %d, %q, is given up for %+v", k, what, a.batch)
							}
							delete(open, k)
						}
					}
					for _, it := range a.batch.Items {
						tell(it.Numbers, func(s string) bool { return s == it.Key })
					}
					tell(a.batch.Numbers, func(s string) bool {
						return a.batch.All || len(s) == 2 && slices.Contains(a.batch.Tags, s[1:])
					})
					q.Settle(a.batch)
				}
				for _, what := range open {
					switch {
					case what == "" && !(q.Has("?") && q.HasTag("?")),
						len(what) == 1 && !q.Has(what),
						len(what) == 2 && !q.HasTag(what[1:]):
						t.Fatalf("%q is forgotten", what)
					}
				}
				if (len(open) == 0) != (q.Len() == 0) || len(q.waiting.keys) > max {
					t.Fatalf("%d are open, and the queue has %d", len(open), q.Len())
				}
				live := 0
				for _, n := range q.live {
					live += n
				}
				slots := 0
				for _, p := range []*set{&q.waiting, &q.taken} {
					for range p.slots {
						slots++
					}
				}
				if live != slots || len(q.order) != len(q.waiting.keys) {
					t.Fatalf("%d slots, %d in periods; %d keys, %d in order", slots, live, len(q.waiting.keys), len(q.order))
				}
			}
		})
	}
}

func TestTheQueueUnderLoad(t *testing.T) {
	q := NewQueue(50)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				q.Add(Item{Key: fmt.Sprint(i % (10 * (g + 1))), Numbers: []uint64{uint64(i)}})
				q.Has("3")
				if i%10 == g {
					q.AddTags([]string{fmt.Sprint(i % 7)}, nil, Past{})
				}
			}
			if err := q.Wait(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	stop := make(chan struct{})
	var tellers sync.WaitGroup
	for range 2 {
		tellers.Go(func() {
			for i := 0; ; i++ {
				b := q.Take(1 + i%10)
				if i%3 == 0 {
					q.Return(b)
				} else {
					q.Settle(b)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	tellers.Wait()
	q.Settle(q.Take(100))
	if n := q.Len(); n != 0 {
		t.Errorf("%d left", n)
	}
}
