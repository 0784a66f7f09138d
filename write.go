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

// pair is a key and its value.
type pair[K comparable, V any] struct {
	key K
	val V
}
