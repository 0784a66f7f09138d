package local

import "github.com/delqhi/cache/internal/fence"

// Untyped is a [Tier] for code that knows neither K nor V: a key is a *K, and a value a *V. What
// they point to is copied when it is stored. Its methods do what those of Tier do.
type Untyped[K comparable, V any] struct{ *Tier[K, V] }

// Held is an entry without its type. The zero value stands for no entry. Two of them are the
// same entry if their heads are.
type Held struct {
	*Head
	Value any // a *V; nil stands for the zero value
}

func untyped[V any](e *Entry[V], ok bool) (Held, bool) {
	if e == nil {
		return Held{}, false
	}
	return Held{&e.Head, &e.Value}, ok
}

func typed[V any](h Held) *Entry[V] {
	if h.Head == nil {
		return nil
	}
	e := &Entry[V]{Head: *h.Head}
	if v, ok := h.Value.(*V); ok {
		e.Value = *v
	}
	return e
}

func (t Untyped[K, V]) Get(k any, now int64) (Held, bool) { return untyped(t.Tier.Get(*k.(*K), now)) }

func (t Untyped[K, V]) Peek(k any) (Held, bool) { return untyped(t.Tier.Peek(*k.(*K))) }

func (t Untyped[K, V]) Use(k any) (Held, bool) { return untyped(t.Tier.Use(*k.(*K))) }

func (t Untyped[K, V]) Put(k any, encoded string, e Held, f fence.Token) bool {
	return t.Tier.Put(*k.(*K), encoded, typed[V](e), f)
}

func (t Untyped[K, V]) PutAndBump(k any, encoded string, e Held, f fence.Token) bool {
	return t.Tier.PutAndBump(*k.(*K), encoded, typed[V](e), f)
}

func (t Untyped[K, V]) Swap(k any, encoded string, e Held, f fence.Token) bool {
	return t.Tier.Swap(*k.(*K), encoded, typed[V](e), f)
}

func (t Untyped[K, V]) Replace(k any, old, e Held, encoded string) bool {
	return t.Tier.Replace(*k.(*K), old.Head, typed[V](e), encoded)
}

func (t Untyped[K, V]) Set(k any, encoded string, e Held, now int64) Outcome {
	return t.Tier.Set(*k.(*K), encoded, typed[V](e), now)
}

func (t Untyped[K, V]) CompareAndSwap(k any, encoded string, old, e Held) Outcome {
	return t.Tier.CompareAndSwap(*k.(*K), encoded, old.Head, typed[V](e))
}

func (t Untyped[K, V]) Fill(k any, encoded string, e Held, c *fence.Claim, now int64) Outcome {
	return t.Tier.Fill(*k.(*K), encoded, typed[V](e), c, now)
}

// Range is Tier.Range. The key that f is given is its own.
func (t Untyped[K, V]) Range(f func(k any, e Held) bool) {
	t.Tier.Range(func(k K, e *Entry[V]) bool { return f(&k, Held{&e.Head, &e.Value}) })
}
