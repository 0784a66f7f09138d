package memory_test

import (
	"bytes"
	"context"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/internal/valuetest"
	"github.com/delqhi/cache/strategy"
)

// ofType is a codec as it is for values of another type, in a cache of any.
type ofType struct {
	codec.Codec
	typ reflect.Type
}

func (c ofType) CheckType(reflect.Type) error {
	return c.Codec.(codec.TypeChecker).CheckType(c.typ)
}

func (c ofType) Unmarshal(data []byte, v any) error {
	target := reflect.New(c.typ)
	if err := c.Codec.Unmarshal(data, target.Interface()); err != nil {
		return err
	}
	*v.(*any) = target.Elem().Interface()
	return nil
}

// P16: whatever the type and the value, the same value comes back from Redis, from a copy and
// from the queue, or it is refused with the reason. A short run takes each value one of the ways.
func TestEveryValueComesBackFromEveryTier(t *testing.T) {
	redistest.Thorough(t)
	key := bytes.Repeat([]byte{1}, 32)
	ways := []struct {
		name string
		take func(context.Context, codec.Codec, any) (any, error)
	}{{"Redis", setAndGet[any]}, {"queue", setAndStore[any]}, {"copy", setAndCopy[any]}}
	synctest.Test(t, func(t *testing.T) {
		kept := map[string]int{}
		for i, tt := range valuetest.Cases() {
			for j, cd := range []codec.Codec{codec.JSON(), codec.Msgpack()} {
				keeps := j == 0 && tt.JSON || j == 1 && tt.Msgpack
				name := cd.Name()
				cd = ofType{cd, reflect.TypeOf(tt.Value)}
				if i%4 == 0 {
					cd = codec.Encrypted(codec.Compressed(cd, codec.Threshold(0)), key)
				}
				for k := range redistest.Times(1, len(ways)) {
					way := ways[(i+j+k)%len(ways)]
					how := name + ", " + way.name
					got, err := way.take(t.Context(), cd, tt.Value)
					switch {
					case keeps && err != nil:
						t.Errorf("%s: %T %+v: %v", how, tt.Value, tt.Value, err)
					case !keeps && err == nil:
						t.Errorf("%s: %T %+v is kept", how, tt.Value, tt.Value)
					case keeps && !valuetest.Same(tt.Value, got):
						t.Errorf("%s: %T %+v reads as %+v", how, tt.Value, tt.Value, got)
					case keeps:
						kept[how]++
					}
				}
			}
		}
		least := redistest.Times(100/len(ways), 100)
		for how, n := range kept {
			if n < least {
				t.Errorf("%s has kept %d values only", how, n)
			}
		}
	})
}

// What is empty and what is nil stay apart by WithCloning, of whatever type V is.
func TestACopyOfWhatIsEmptyIsEmpty(t *testing.T) {
	copies(t, []byte{}, nil, []byte{0})
	copies(t, valuetest.Bytes{}, nil)
	copies(t, valuetest.Strings{}, nil, valuetest.Strings{""})
	copies(t, map[string][]byte{}, nil, map[string][]byte{"nil": nil, "empty": {}})
	copies(t, valuetest.Nils{}, valuetest.Nils{S: []int{}, M: map[string]int{}, B: []byte{}, SS: [][]string{nil, {}}, MM: map[string]map[string][]int{"a": nil, "b": {}}})
	copies(t, (*valuetest.Point)(nil), &valuetest.Point{})
}

func copies[V any](t *testing.T, vals ...V) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		for name, cd := range map[string]codec.Codec{"default": nil, "json": codec.JSON(), "msgpack": codec.Msgpack(), "s2": codec.Compressed(codec.JSON(), codec.Threshold(0))} {
			opts := []cache.Option{quietLog, cache.WithCloning(), cache.WithStrategy(strategy.LRU(10), strategy.TTL(time.Hour))}
			if cd != nil {
				opts = append(opts, cache.WithCodec(cd))
			}
			for _, local := range []bool{true, false} {
				st, opts := store.Store(storetest.NewMemory()), opts
				if local {
					st, opts = nil, append(opts[:len(opts):len(opts)], cache.LocalOnly())
				}
				c, err := build("x", cache.Source[string, V]{}, opts, func() store.Store { return st })
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range vals {
					if err := c.Set(t.Context(), "k", v); err != nil {
						t.Fatal(err)
					}
					for range 2 {
						if got, err := c.Get(t.Context(), "k"); err != nil || !reflect.DeepEqual(got, v) {
							t.Errorf("%s, local only %v: %#v reads as %#v, %v", name, local, v, got, err)
						}
					}
				}
				c.Close()
			}
		}
	})
}
