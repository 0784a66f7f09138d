package codec

import (
	"fmt"
	"math"
	"reflect"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// msgpackFormat has the guards of Msgpack.
type msgpackFormat struct{ msgpackRules }

var registered sync.Map // of reflect.Type

// met has maps of any, of whatever name, encoded as map[string]any is. The package's own
// encoder does not use the registered encoder of a time for them.
func (r msgpackFormat) met(t reflect.Type) {
	if t.Kind() != reflect.Map || t.Name() == "" || t.Key() != reflect.TypeFor[string]() || t.Elem() != reflect.TypeFor[any]() || touchesItself(t, msgpackPairs) {
		return
	}
	if _, known := registered.Load(t); known {
		return
	}
	msgpack.Register(reflect.Zero(t).Interface(), encodeMap, nil)
	msgpack.Register(reflect.Zero(reflect.PointerTo(t)).Interface(), func(e *msgpack.Encoder, v reflect.Value) error {
		if v.IsNil() {
			return e.EncodeNil()
		}
		return encodeMap(e, v.Elem())
	}, nil)
	registered.Store(t, true)
}

func (msgpackFormat) isNil(v reflect.Value) bool { return v.Kind() != reflect.Interface && v.IsNil() }

func (msgpackFormat) special(g *guards, t reflect.Type) guard { return special(g, t) }

func (msgpackFormat) decodes(t reflect.Type) bool {
	return t == reflect.TypeFor[time.Time]() || t == reflect.TypeFor[[]byte]()
}

func (msgpackFormat) heldKey(t reflect.Type) bool {
	k := t.Kind()
	return t.PkgPath() == "" && (k == reflect.String || reflect.Bool <= k && k <= reflect.Float64 && k != reflect.Uintptr || k == reflect.Interface && t.NumMethod() == 0)
}

func (msgpackFormat) number(reflect.Type) guard { return nil }

func (r msgpackFormat) keys(t reflect.Type) guard {
	switch k := t.Key(); {
	case k.Kind() == reflect.Interface:
		return heldKeys
	case encodesItself(k, msgpackPairs):
		plain := &msgpackCodec{guards: guards{format: r, lossy: true, maxDepth: maxValueDepth}}
		return distinct(func(k reflect.Value) (string, error) {
			b, err := plain.Marshal(nil, k.Interface())
			return string(b), err
		})
	}
	return nil
}

// heldKeys: integers of several types are read as one, and lists can't be keys.
func heldKeys(v reflect.Value, _ int) error {
	integers := make(map[string]bool)
	for it := v.MapRange(); it.Next(); {
		k := it.Key().Elem()
		if !k.IsValid() {
			return errorf("a %v with a nil key would not come back", v.Type())
		}
		if k.Kind() == reflect.Interface || !(msgpackFormat{}).heldKey(k.Type()) {
			return errorf("a %v with a key of type %v would not come back", v.Type(), k.Type())
		}
		if k.CanInt() || k.CanUint() {
			amount := fmt.Sprint(k)
			if integers[amount] {
				return errorf("a %v with one number of two types as keys would come back without one of them", v.Type())
			}
			integers[amount] = true
		}
	}
	return nil
}

func (r msgpackFormat) structField(in reflect.Type, f reflect.StructField) guard {
	if option(f, "msgpack", "intern") && f.Type.Kind() == reflect.Interface {
		return func(v reflect.Value, _ int) error {
			if v.Elem().Kind() != reflect.String {
				return errorf("the option intern of its tag is for strings: what else is in an any would not come back")
			}
			return nil
		}
	}
	if !omitted(in, f) {
		return nil
	}
	switch t := f.Type; {
	case t.Kind() == reflect.Pointer && t.Implements(zeroer):
		return zeroPointer
	case t.Kind() == reflect.Interface:
		return func(v reflect.Value, _ int) error {
			if !v.IsNil() && empty(v.Elem()) {
				return errorf("an empty %v in an any would be left out by the tag of its field, and come back nil", v.Elem().Type())
			}
			return nil
		}
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		return func(v reflect.Value, _ int) error {
			if v.Float() == 0 && math.Signbit(v.Float()) {
				return errorf("a negative zero would be left out by the tag of its field")
			}
			return nil
		}
	}
	return nil
}

// empty reports whether omitempty leaves out the contents of an any.
func empty(v reflect.Value) bool {
	if z, ok := v.Interface().(isZeroer); ok {
		return nilable(v.Type()) && v.IsNil() || z.IsZero()
	}
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice:
		return v.Len() == 0
	case reflect.Float32, reflect.Float64:
		return v.Float() == 0
	}
	return v.IsZero()
}
