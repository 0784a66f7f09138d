package cache

import (
	"sync"

	"github.com/delqhi/cache/internal/engine"
)

// writing is the memory of a Set: the engine's, and the key and the value that it points to.
type writing[K comparable, V any] struct {
	engine.Writing
	pair[K, V]
}

type writings[K comparable, V any] struct{ pool sync.Pool }

func (p *writings[K, V]) get(key K, val V) *writing[K, V] {
	w, ok := p.pool.Get().(*writing[K, V])
	if !ok {
		w = new(writing[K, V])
	}
	w.key, w.val = key, val
	return w
}

// put returns w to the pool. A write that panics does not get here.
func (p *writings[K, V]) put(w *writing[K, V]) {
	*w = writing[K, V]{}
	p.pool.Put(w)
}

// writingMany is the memory of a SetMany: the engine's, and the keys and values that it points to.
type writingMany[K comparable, V any] struct {
	engine.WritingMany
	pairs []pair[K, V]
}

type writingsMany[K comparable, V any] struct{ pool sync.Pool }

// get returns the memory for a write of the values.
func (p *writingsMany[K, V]) get(vals map[K]V) *writingMany[K, V] {
	w, ok := p.pool.Get().(*writingMany[K, V])
	if !ok {
		w = new(writingMany[K, V])
	}
	w.Grow(len(vals))
	if cap(w.pairs) < len(vals) {
		w.pairs = make([]pair[K, V], 0, len(vals))
	}
	for k, v := range vals {
		w.pairs = append(w.pairs, pair[K, V]{k, v})
		added := &w.pairs[len(w.pairs)-1]
		w.Add(&added.key, &added.val)
	}
	return w
}

// put returns w to the pool, unless another goroutine may still refer to it. A write that panics
// does not get here.
func (p *writingsMany[K, V]) put(w *writingMany[K, V]) {
	if !w.Reset() {
		return
	}
	clear(w.pairs)
	w.pairs = w.pairs[:0]
	p.pool.Put(w)
}

// pair is a key and its value.
type pair[K comparable, V any] struct {
	key K
	val V
}
