package cache

import (
	"sync"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/metrics"
)

// scratch is the reusable working memory of a read. It is reused only after a read that the
// tiers have answered, which is known to be over. The memory of a read whose caller has
// returned early, or that was passed to a load, may still be in use.
//
// No part of it is ever part of a result: values are copied out, and bytes that a value may
// retain belong to a reply.
type scratch[K comparable, V any] struct {
	items    []lookup[K, V]
	asked    []*lookup[K, V]
	cmds     []store.Command // one more than items: the logical clock is read with them
	founds   []decoded[V]
	pointers []*decoded[V]
	encoded  []byte
}

// maxScratch bounds the number of keys of a read whose scratch is kept: for a larger batch
// the allocation does not matter.
const maxScratch = 512

type scratches[K comparable, V any] struct{ pool sync.Pool }

// get returns a scratch for at most n keys, without items.
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

// put returns s to the pool, unless another goroutine may still refer to it.
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
