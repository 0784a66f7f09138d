package engine

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
type cloner func(val Value) (copied Value, err error)

func (c *Cache) chooseCloning(byCodec bool) {
	switch {
	case c.src.Clone != nil:
		c.clone = func(v Value) (copied Value, err error) {
			defer usercode.Recover(&err)
			return c.src.Clone(v), nil
		}
	case byCodec && !IsConstant(c.types.ValueType()) && !usercode.IsNil(c.codec):
		c.clone = c.cloneByCodec
	}
}

// Clones reports whether readers get values of their own; Clone makes them.
func (c *Cache) Clones() bool { return c.clone != nil }

func (c *Cache) Clone(v Value) (Value, error) { return c.clone(v) }

func (c *Cache) cloneByCodec(v Value) (copied Value, err error) {
	if rv := reflect.ValueOf(v).Elem(); rv.Kind() == reflect.Slice && rv.IsNil() {
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

// IsConstant reports whether a shallow copy of a value of this type shares nothing with the
// original that can be modified.
func IsConstant(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[netip.Prefix]():
		return true // these point only to data that does not change
	}
	switch t.Kind() {
	case reflect.Array:
		return IsConstant(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !IsConstant(t.Field(i).Type) {
				return false
			}
		}
		return true
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Invalid:
		return false
	}
	return true
}
