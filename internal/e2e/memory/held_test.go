package memory_test

import (
	"bytes"
	"context"
	"errors"
	"math/big"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/internal/valuetest"
	"github.com/delqhi/cache/strategy"
)

func heldCodecs() map[string]codec.Codec {
	key := bytes.Repeat([]byte{1}, 32)
	return map[string]codec.Codec{
		"json": codec.JSON(), "msgpack": codec.Msgpack(),
		"sealed json": codec.Encrypted(codec.Compressed(codec.JSON(), codec.Threshold(0)), key), "sealed msgpack": codec.Encrypted(codec.Msgpack(), key),
	}
}

// What the codec sees of a value of type any is what it holds: that V is an interface has to be
// known all the same, by each way to the codec.
func TestWhatAnAnyHoldsIsKeptOrRefused(t *testing.T) {
	type user struct{ Name string }
	for name, cd := range heldCodecs() {
		for _, v := range []any{nil, "a", 1, 0.5, []any{1, "a"}, map[string]any{"a": []string{"b"}}} {
			holdsOrRefuses(t, name, cd, v, true)
			holdsOrRefuses(t, name, cd, map[string]any{"v": v}, true)
		}
		for _, v := range []any{user{"a"}, &user{"a"}, big.NewRat(1, 3), time.Second, valuetest.Dict{"a": 1}, errors.New("e"), []error{nil}} {
			holdsOrRefuses(t, name, cd, v, false)
			holdsOrRefuses(t, name, cd, map[string]any{"v": v}, false)
		}
	}
}

func holdsOrRefuses[V any](t *testing.T, name string, cd codec.Codec, v V, keeps bool) {
	t.Helper()
	ways := map[string]func(context.Context, codec.Codec, V) (V, error){"Redis": setAndGet[V], "load": loadAndGet[V], "queue": setAndStore[V], "copy": setAndCopy[V]}
	synctest.Test(t, func(t *testing.T) {
		for how, way := range ways {
			back, err := way(t.Context(), cd, v)
			if keeps && (err != nil || !valuetest.SameHeld(v, back)) {
				t.Errorf("%s, %s: %T %v reads as %v, %v", name, how, v, v, back, err)
			}
			if !keeps && err == nil {
				t.Errorf("%s, %s: %T %v reads as %v", name, how, v, v, back)
			}
		}
	})
}

func setAndGet[V any](ctx context.Context, cd codec.Codec, v V) (back V, err error) {
	return between(ctx, cd, cache.Source[string, V]{}, func(c *cache.Cache[string, V]) error { return c.Set(ctx, "k", v) })
}

// loadAndGet has one process read what another one has loaded. That one has it in any case.
func loadAndGet[V any](ctx context.Context, cd codec.Codec, v V) (back V, err error) {
	src := cache.Source[string, V]{Load: func(context.Context, string) (V, error) { return v, nil }}
	return between(ctx, cd, src, func(c *cache.Cache[string, V]) error {
		if got, err := c.Get(ctx, "k"); err != nil || !reflect.DeepEqual(any(got), any(v)) {
			return errors.Join(errors.New("the reader does not get what was loaded"), err)
		}
		return nil
	})
}

func between[V any](ctx context.Context, cd codec.Codec, src cache.Source[string, V], do func(c *cache.Cache[string, V]) error) (back V, err error) {
	st := storetest.NewMemory()
	open := func() store.Store { return st }
	a, err := build("x", src, []cache.Option{quietLog, cache.WithCodec(cd)}, open)
	if err != nil {
		return back, err
	}
	defer a.Close()
	b, err := build("x", cache.Source[string, V]{}, []cache.Option{quietLog, cache.WithCodec(cd)}, open)
	if err != nil {
		return back, err
	}
	defer b.Close()
	if err := do(a); err != nil {
		return back, err
	}
	return b.Get(ctx, "k")
}

func setAndStore[V any](ctx context.Context, cd codec.Codec, v V) (back V, err error) {
	stored := make(chan V, 10)
	c, err := build("x", cache.Source[string, V]{Store: func(_ context.Context, _ string, v V) error { stored <- v; return nil }},
		[]cache.Option{quietLog, cache.WithCodec(cd), cache.WithStrategy(strategy.WriteBehind())}, func() store.Store { return storetest.NewMemory() })
	if err != nil {
		return back, err
	}
	defer c.Close()
	if err := errors.Join(c.Set(ctx, "k", v), c.Sync(ctx)); err != nil {
		return back, err
	}
	select {
	case v := <-stored:
		return v, nil
	default:
		return back, errors.New("the source was not asked")
	}
}

func setAndCopy[V any](ctx context.Context, cd codec.Codec, v V) (back V, err error) {
	c, err := build("x", cache.Source[string, V]{}, []cache.Option{quietLog, cache.WithCodec(cd), cache.LocalOnly(), cache.WithCloning()}, func() store.Store { return nil })
	if err != nil {
		return back, err
	}
	defer c.Close()
	if err := c.Set(ctx, "k", v); err != nil {
		return back, err
	}
	return c.Get(ctx, "k")
}
