package engine

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// testTypes are keys of type string that are their own encodings, and values of type V.
type testTypes[V any] struct{}

func (testTypes[V]) AppendKey(dst []byte, k Key) ([]byte, error) {
	return append(dst, *k.(*string)...), nil
}
func (testTypes[V]) Text(k Key) (string, bool)            { return *k.(*string), true }
func (testTypes[V]) Reversible() bool                     { return true }
func (testTypes[V]) DecodeKey(encoded string) (Key, bool) { return &encoded, true }
func (testTypes[V]) KeepKeys([]Key)                       {}
func (testTypes[V]) KeepKey(k Key) (Key, Value)           { return k, new(V) }
func (testTypes[V]) Findable(Key) bool                    { return true }
func (testTypes[V]) Key(k Key) any                        { return *k.(*string) }
func (testTypes[V]) NewKey() Key                          { return new(string) }
func (testTypes[V]) NewValue() Value                      { return new(V) }
func (testTypes[V]) Elem(v Value) any                     { return *v.(*V) }
func (testTypes[V]) ValueType() reflect.Type              { return reflect.TypeFor[V]() }
func (testTypes[V]) Single(error) (func(Key) error, int)  { return nil, 0 }
func (testTypes[V]) NewHandle() (any, *Handle)            { h := new(Handle); return h, h }

// loadFunc is a loader of single values.
type loadFunc[V any] func(context.Context) (V, error)

func (loadFunc[V]) HasOne() bool  { return true }
func (loadFunc[V]) HasMany() bool { return false }
func (f loadFunc[V]) Load(ctx context.Context, _ Key) (Value, error) {
	v, err := f(ctx)
	return &v, err
}
func (loadFunc[V]) LoadMany(context.Context, []Key) (Found, error) { panic("not a loader of many") }

var errFlaky = errors.New("the source fails")

// testCache makes a cache of values of type V on a store that several caches may share, as
// processes share a Redis; nil: a LocalOnly cache. change, if it is not nil, changes the
// configuration.
func testCache[V any](t testing.TB, st store.Store, change func(*Config), strategies ...strategy.Strategy) *Cache {
	t.Helper()
	policy, err := strategy.Compile(append([]strategy.Strategy{strategy.LRU(100), strategy.Jitter(0)}, strategies...)...)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Name: "test", Types: testTypes[V]{}, Codec: codec.JSON(), CodecName: "json", MaxValue: 1 << 20, Policy: policy, Transport: invalidate.Broadcast(),
		Store: st, Timeout: 250 * time.Millisecond, Failures: math.MaxInt, Open: time.Second, LoadLimit: 256, Log: slog.New(slog.DiscardHandler),
		Local: func(f *fence.Table) (Local, error) {
			tier, err := local.New[string, V](local.Config[string]{Capacity: 100, Fences: f, Decode: func(enc string) (string, bool) { return enc, true }})
			return local.Untyped[string, V]{Tier: tier}, err
		},
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// get reads a key.
func get[V any](ctx context.Context, c *Cache, key string, load Loader, o *Options) (v V, err error) {
	s := new(Scratch)
	s.Grow(1)
	s.Add(&key, nil)
	c.Read(ctx, s, load, o)
	val, err := c.Deliver("get", s.At(0))
	if p, ok := val.(*V); ok {
		v = *p
	}
	return v, err
}
