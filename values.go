package cache

import (
	"context"
	"reflect"
	"time"

	"github.com/delqhi/cache/internal/engine"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/usercode"
)

// The engine works on pointers to keys and values; here is what it needs of their types.

// types implements [engine.Types].
type types[K comparable, V any] struct{ keys *keys.Encoding[K] }

var _ engine.Types = types[string, int]{}

func (t types[K, V]) AppendKey(dst []byte, k engine.Key) ([]byte, error) {
	return t.keys.Append(dst, *k.(*K))
}

func (t types[K, V]) Text(k engine.Key) (string, bool) {
	if s, ok := k.(*string); ok && t.keys.Identical() {
		return *s, true
	}
	return "", false
}

func (t types[K, V]) Reversible() bool { return t.keys.Reversible() }

func (t types[K, V]) DecodeKey(encoded string) (engine.Key, bool) {
	k, ok := t.keys.Decode(encoded)
	return &k, ok
}

func (t types[K, V]) KeepKeys(ks []engine.Key) {
	kept := make([]K, len(ks))
	for i, k := range ks {
		kept[i] = *k.(*K)
		ks[i] = &kept[i]
	}
}

func (t types[K, V]) KeepKey(k engine.Key) (engine.Key, engine.Value) {
	kept := &pair[K, V]{key: *k.(*K)}
	return &kept.key, &kept.val
}

func (t types[K, V]) Findable(k engine.Key) bool { return findable(*k.(*K)) }

func (t types[K, V]) Key(k engine.Key) any { return *k.(*K) }

func (t types[K, V]) NewKey() engine.Key { return new(K) }

func (t types[K, V]) NewValue() engine.Value { return new(V) }

func (t types[K, V]) Elem(v engine.Value) any { return valueOf[V](v) }

func (t types[K, V]) ValueType() reflect.Type { return reflect.TypeFor[V]() }

func (t types[K, V]) NewHandle() (any, *engine.Handle) {
	l := new(Load[V])
	return l, &l.handle
}

func (t types[K, V]) Single(err error) (of func(engine.Key) error, n int) {
	single, ok := usercode.As[*BatchError[K]](err)
	if !ok {
		return nil, 0
	}
	if single != nil {
		n = len(single.Errs)
	}
	return func(k engine.Key) error { return usercode.Checked(single.For(*k.(*K))) }, n
}

// valueOf returns what a value of the engine points to.
func valueOf[V any](v engine.Value) (val V) {
	if p, ok := v.(*V); ok {
		val = *p
	}
	return val
}

// untyped returns a source for the engine.
func (s *Source[K, V]) untyped() (out engine.Source) {
	if load := s.loader(); load != nil {
		out.Loader = &loader[K, V]{one: load, many: s.LoadMany}
	}
	if f := s.Store; f != nil {
		out.Store = func(ctx context.Context, k engine.Key, v engine.Value) error {
			return f(ctx, *k.(*K), valueOf[V](v))
		}
	}
	if f := s.StoreMany; f != nil {
		out.StoreMany = func(ctx context.Context, keys []engine.Key, vals []engine.Value) error {
			m := make(map[K]V, len(keys))
			for i, k := range keys {
				m[*k.(*K)] = valueOf[V](vals[i])
			}
			return f(ctx, m)
		}
	}
	if f := s.Delete; f != nil {
		out.Delete = func(ctx context.Context, k engine.Key) error { return f(ctx, *k.(*K)) }
	}
	if f := s.Tags; f != nil {
		out.Tags = func(k engine.Key, v engine.Value) []string { return f(*k.(*K), valueOf[V](v)) }
	}
	if f := s.TTL; f != nil {
		out.TTL = func(k engine.Key, v engine.Value) time.Duration { return f(*k.(*K), valueOf[V](v)) }
	}
	if f := s.Weigh; f != nil {
		out.Weigh = func(k engine.Key, v engine.Value) int64 { return f(*k.(*K), valueOf[V](v)) }
	}
	if f := s.Clone; f != nil {
		out.Clone = func(v engine.Value) engine.Value {
			copied := f(valueOf[V](v))
			return &copied
		}
	}
	return out
}

// loader holds the functions that load. It implements [engine.Loader].
type loader[K comparable, V any] struct {
	one  LoadFunc[K, V]
	many BatchFunc[K, V] // nil: one by one
}

func (l *loader[K, V]) HasOne() bool { return l.one != nil }

func (l *loader[K, V]) HasMany() bool { return l.many != nil }

func (l *loader[K, V]) Load(ctx context.Context, k engine.Key) (engine.Value, error) {
	v, err := l.load(ctx, *k.(*K))
	return &v, err
}

// LoadInto is Load into the memory of a value.
func (l *loader[K, V]) LoadInto(ctx context.Context, k engine.Key, space engine.Value) error {
	v, err := l.load(ctx, *k.(*K))
	*space.(*V) = v
	return err
}

func (l *loader[K, V]) load(ctx context.Context, k K) (V, error) {
	if l.one == nil {
		return oneOf(l.many)(ctx, k)
	}
	return l.one(ctx, k)
}

func (l *loader[K, V]) LoadMany(ctx context.Context, keys []engine.Key) (engine.Found, error) {
	ks := make([]K, len(keys))
	for i, k := range keys {
		ks[i] = *k.(*K)
	}
	vals, err := l.many(ctx, ks)
	return engine.Found{
		Get: func(k engine.Key) (engine.Value, bool) {
			v, ok := vals[*k.(*K)]
			return &v, ok
		},
		N: len(vals),
		All: func(yield func(engine.Key, engine.Value) bool) {
			for k, v := range vals {
				if !yield(&k, &v) {
					return
				}
			}
		},
	}, err
}
