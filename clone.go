package cache

import (
	"fmt"
	"net/netip"
	"reflect"
	"time"

	"github.com/delqhi/cache/internal/usercode"
)

// A value in the local tier is shared by all its readers. With cloning, a copy is stored and
// each reader gets a copy of its own, so that no caller can modify a value that others read.
// Source.Clone makes the copies, or else, with WithCloning, the codec.

// cloner copies a value. A nil cloner means that values are shared.
type cloner[V any] func(val V) (copied V, err error)

func (c *Cache[K, V]) chooseCloning(cfg *config) {
	switch {
	case c.src.Clone != nil:
		c.clone = func(v V) (copied V, err error) {
			defer usercode.Recover(&err)
			return c.src.Clone(v), nil
		}
	case !cfg.cloning || isConstant(reflect.TypeFor[V]()) || usercode.IsNil(c.codec):
	default:
		if cfg.localOnly {
			if err := checkType(c.codec, reflect.TypeFor[V]()); err != nil {
				cfg.mistake("WithCloning copies by the codec: %w", err)
			}
		}
		c.clone = c.cloneByCodec
	}
}

func (c *Cache[K, V]) cloneByCodec(v V) (copied V, err error) {
	if rv := reflect.ValueOf(&v).Elem(); rv.Kind() == reflect.Slice && rv.IsNil() {
		return v, nil
	}
	data, err := c.marshal("", []byte{}, v) // not nil: a nil dst would make a nil value of an empty one
	if err == nil {
		copied, err = c.unmarshal("", data)
	}
	if err != nil {
		return copied, fmt.Errorf("cache: the codec can't copy a value of its own: %w", err)
	}
	return copied, nil
}

// isConstant reports whether a shallow copy of a value of this type shares nothing with the
// original that can be modified.
func isConstant(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[netip.Prefix]():
		return true // these point only to data that does not change
	}
	switch t.Kind() {
	case reflect.Array:
		return isConstant(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !isConstant(t.Field(i).Type) {
				return false
			}
		}
		return true
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Invalid:
		return false
	}
	return true
}
