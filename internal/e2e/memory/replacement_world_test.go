package memory_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
)

// replacementWorld is a row, transactions that change it one after the other, and rows of an
// outbox that are applied at any time after their commit. A transaction takes the lock of the row
// when it changes it; what it writes into the outbox it may write before.
type replacementWorld struct {
	t      *testing.T
	rnd    *rand.Rand
	caches []*cache.Cache[string, string]
	row    int // the value that was committed last

	open   []int    // transactions under way, by what they will write
	early  [][]byte // the replacement that was encoded before the row was locked; nil: none yet
	last   int      // value that was given out
	outbox []pending
	done   []pending // applied: may be applied again by a relay that was held up
}

// pending is a row of the outbox. Without a replacement it invalidates: the key, or its tag.
type pending struct {
	replacement []byte
	tag         bool
}

func newReplacementWorld(t *testing.T, st *storetest.Memory, seed uint64) *replacementWorld {
	w := &replacementWorld{t: t, rnd: rand.New(rand.NewPCG(seed, 11)), row: 1, last: 1}
	for i := range 3 {
		policy := []invalidate.Policy{invalidate.Immediate(), invalidate.Lazy()}[seed%2]
		opts := []cache.Option{cache.WithInvalidator(policy)}
		src := cache.Source[string, string]{
			Load: func(context.Context, string) (string, error) { return fmt.Sprint(w.row), nil },
			Tags: func(string, string) []string { return []string{"t"} },
		}
		if i == 2 {
			w.caches = append(w.caches, newCache(t, st, src, opts...)) // without a local tier
			continue
		}
		w.caches = append(w.caches, onMemory(t, st, src, opts...))
	}
	return w
}

func (w *replacementWorld) cache() *cache.Cache[string, string] {
	return w.caches[w.rnd.IntN(len(w.caches))]
}

func (w *replacementWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *replacementWorld) encode(ctx context.Context, val int) []byte {
	r, err := w.cache().EncodeReplacement(ctx, "k", fmt.Sprint(val))
	w.must(err)
	return r
}

func (w *replacementWorld) step(ctx context.Context) {
	switch w.rnd.IntN(12) {
	case 0, 1, 2: // a reader
		_, err := w.cache().Get(ctx, "k")
		w.must(err)
	case 3: // a transaction begins
		w.last++
		w.open, w.early = append(w.open, w.last), append(w.early, nil)
	case 4: // and encodes its value at once
		if i := len(w.open) - 1; i >= 0 {
			i = w.rnd.IntN(i + 1)
			w.early[i] = w.encode(ctx, w.open[i])
		}
	case 5, 6, 7: // one changes the row and commits: any of them, not the oldest
		if len(w.open) == 0 {
			return
		}
		i := w.rnd.IntN(len(w.open))
		val, p := w.open[i], pending{replacement: w.early[i]}
		w.open, w.early = append(w.open[:i], w.open[i+1:]...), append(w.early[:i], w.early[i+1:]...)
		switch w.rnd.IntN(6) {
		case 0:
			p = pending{}
		case 1:
			p = pending{tag: true}
		default:
			if p.replacement == nil {
				p.replacement = w.encode(ctx, val)
			}
		}
		w.row = val
		w.outbox = append(w.outbox, p)
	case 8, 9:
		w.apply(ctx, w.rnd.IntN(3) > 0)
	case 10: // a program without an outbox changes the row and says so
		w.last++
		w.row = w.last
		c := w.cache()
		switch w.rnd.IntN(3) {
		case 0:
			w.must(c.Invalidate(ctx, "k"))
		case 1:
			w.must(c.InvalidateTags(ctx, "t"))
		default:
			w.must(c.Set(ctx, "k", fmt.Sprint(w.row)))
		}
	case 11:
		time.Sleep(time.Duration(w.rnd.IntN(1000)) * time.Millisecond)
	}
	if w.rnd.IntN(2) == 0 {
		synctest.Wait()
	}
}

// apply applies any row of the outbox, or one again that was applied, and removes it or not.
func (w *replacementWorld) apply(ctx context.Context, remove bool) {
	c := w.cache()
	if len(w.done) > 0 && w.rnd.IntN(3) == 0 {
		w.applyOne(ctx, c, w.done[w.rnd.IntN(len(w.done))])
	}
	if len(w.outbox) == 0 {
		return
	}
	i := w.rnd.IntN(len(w.outbox))
	p := w.outbox[i]
	w.applyOne(ctx, c, p)
	if remove {
		w.outbox = append(w.outbox[:i], w.outbox[i+1:]...)
		w.done = append(w.done, p)
	}
}

func (w *replacementWorld) applyOne(ctx context.Context, c *cache.Cache[string, string], p pending) {
	if p.tag {
		w.must(c.InvalidateTags(ctx, "t"))
		return
	}
	_, err := c.ReplaceEncoded(ctx, "k", p.replacement)
	w.must(err)
}
