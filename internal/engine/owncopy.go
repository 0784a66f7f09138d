package engine

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/delqhi/cache/internal/usercode"
)

// Update gives its function a value of its own. A value from Redis is newly decoded anyway. A
// value from the local tier of a LocalOnly cache is copied: by Source.Clone or WithCloning,
// else along its structure by reflection, else, if a part of it is not accessible by
// reflection, by the codec. If a value can't be copied, Update returns an error.

var errNoOwnCopy = fmt.Errorf("cache: Update of a LocalOnly cache gives its function a value of its own, and one of this type can be copied neither along its exported fields nor by the codec: give Source.Clone: %w", errors.ErrUnsupported)

// chooseOwnCopy decides how Update copies.
func (c *Cache) chooseOwnCopy() {
	typ := c.types.ValueType()
	switch {
	case c.clone != nil:
		c.own = c.clone
	case IsConstant(typ):
		c.own = func(v Value) (Value, error) { return v, nil }
	default:
		byCodec := c.codecHolds(typ)
		within := reachable(typ, map[reflect.Type]bool{})
		if !byCodec && !within {
			return
		}
		c.own = func(v Value) (copied Value, err error) {
			if within {
				w := copier{seen: map[visit]reflect.Value{}}
				if to := w.copy(reflect.ValueOf(v).Elem()); !w.failed {
					copied = c.types.NewValue()
					reflect.ValueOf(copied).Elem().Set(to)
					return copied, nil
				}
			}
			if byCodec {
				return c.cloneByCodec(v)
			}
			return copied, errNoOwnCopy
		}
	}
}

func (c *Cache) codecHolds(typ reflect.Type) bool {
	if usercode.IsNil(c.codec) {
		return false
	}
	ch, ok := c.codec.(interface{ CheckType(reflect.Type) error })
	return ok && ch.CheckType(typ) == nil
}

// reachable reports whether values of a type can be copied along their structure, as far as
// that can be determined from the type.
func reachable(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] || IsConstant(t) {
		return true
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return reachable(t.Elem(), seen)
	case reflect.Map:
		return reachable(t.Key(), seen) && reachable(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); !f.IsExported() && !IsConstant(f.Type) || !reachable(f.Type, seen) {
				return false
			}
		}
		return true
	case reflect.UnsafePointer:
		return false
	}
	// Channels and functions are shared on purpose: a copy would not be equivalent. The
	// value in an interface is checked when it is copied.
	return true
}

// copier copies one value. A part that is referred to twice is copied once, so that the copy
// has the same shape, and the copy of a cyclic value terminates.
type copier struct {
	seen   map[visit]reflect.Value
	failed bool
}

type visit struct {
	at  uintptr
	len int
	typ reflect.Type
}

func (w *copier) copy(v reflect.Value) reflect.Value {
	t := v.Type()
	if w.failed || IsConstant(t) {
		return v
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if v.IsNil() {
			return v
		}
		return w.copyOnce(v, t)
	case reflect.Interface:
		if v.IsNil() {
			return v
		}
		if !reachable(v.Elem().Type(), map[reflect.Type]bool{}) {
			w.failed = true
			return v
		}
		to := reflect.New(t).Elem()
		to.Set(w.copy(v.Elem()))
		return to
	case reflect.Array:
		to := reflect.New(t).Elem()
		for i := range v.Len() {
			to.Index(i).Set(w.copy(v.Index(i)))
		}
		return to
	case reflect.Struct:
		to := reflect.New(t).Elem()
		to.Set(v)
		for i := range t.NumField() {
			if t.Field(i).IsExported() {
				to.Field(i).Set(w.copy(v.Field(i)))
			}
		}
		return to
	case reflect.UnsafePointer:
		w.failed = true
	}
	return v
}

// copyOnce copies what a pointer, a map or a slice refers to.
func (w *copier) copyOnce(v reflect.Value, t reflect.Type) reflect.Value {
	at := visit{at: v.Pointer(), typ: t}
	if t.Kind() == reflect.Slice {
		at.len = v.Len()
	}
	if to, ok := w.seen[at]; ok {
		return to
	}
	switch t.Kind() {
	case reflect.Pointer:
		to := reflect.New(t.Elem())
		if to.Type() != t {
			to = to.Convert(t)
		}
		w.seen[at] = to
		to.Elem().Set(w.copy(v.Elem()))
		return to
	case reflect.Map:
		to := reflect.MakeMapWithSize(t, v.Len())
		w.seen[at] = to
		for it := v.MapRange(); it.Next(); {
			to.SetMapIndex(w.copy(it.Key()), w.copy(it.Value()))
		}
		return to
	default:
		to := reflect.MakeSlice(t, v.Len(), v.Len())
		w.seen[at] = to
		for i := range v.Len() {
			to.Index(i).Set(w.copy(v.Index(i)))
		}
		return to
	}
}
