package cache

import (
	"sync"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/metrics"
)

// scratch is what a read works in, used again and again. Only what is known to be over is
// used again: a read that the tiers have answered. What was left behind by its caller, or
// handed to a load, may still be under way.
//
// What it holds is never a part of an answer: values are copied out, and the bytes that
// they may be made of are a reply's own.
type scratch[K comparable, V any] struct {
	items    []lookup[K, V]
	asked    []*lookup[K, V]
	cmds     []store.Command // one more than items: the logical clock is asked for with them
	founds   []decoded[V]
	pointers []*decoded[V]
	encoded  []byte
}

// maxScratch bounds the keys of a read whose scratch is kept: a large batch pays for
// itself.
const maxScratch = 512

type scratches[K comparable, V any] struct{ pool sync.Pool }

// get returns one for n keys at most, without items.
func (p *scratches[K, V]) get(n int) *scratch[K, V] {
	n = max(n, 1)
	s, ok := p.pool.Get().(*scratch[K, V])
	if !ok {
		s = &scratch[K, V]{encoded: make([]byte, 0, 128)}
	}
	if cap(s.items) < n {
		s.items = make([]lookup[K, V], 0, n)
		s.asked = make([]*lookup[K, V], 0, n)
		s.cmds = make([]store.Command, 0, n+1)
		s.founds = make([]decoded[V], n)
		s.pointers = make([]*decoded[V], n)
	}
	return s
}

// put takes one back, if nobody else can know of it.
func (p *scratches[K, V]) put(s *scratch[K, V]) {
	if len(s.items) > maxScratch {
		return
	}
	for i := range s.items {
		it := &s.items[i]
		if tier := it.ans.info.Tier; it.err != nil || it.remoteErr != nil || tier != metrics.Remote && tier != metrics.Local {
			return
		}
	}
	n := len(s.items)
	clear(s.items)
	clear(s.founds[:n])
	clear(s.pointers[:n])
	clear(s.asked[:n])
	clear(s.cmds[:n+1])
	s.items = s.items[:0]
	p.pool.Put(s)
}
