// Package valuetest has values of every kind of type for tests of what becomes of them in a
// codec, in Redis, in a queue or in a copy, and says which of them are the same.
package valuetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// Same reports whether got is want, as reflect.DeepEqual does, but for what the codecs
// document:
//
//   - times are the same at one moment with one offset from UTC;
//   - what an interface holds comes back in the format's own types: of two numbers only the
//     amount counts, of two lists or maps their contents, and a nil one is nil;
//   - an empty slice or map that omitempty leaves out is nil;
//   - json.RawMessage, json.Number, net.IP, *url.URL, *big.Rat and *big.Float are the same by what they
//     stand for.
//
// NaN is the same as NaN.
func Same(want, got any) bool {
	return same(reflect.ValueOf(want), reflect.ValueOf(got))
}

func same(a, b reflect.Value) bool {
	if !a.IsValid() || !b.IsValid() {
		return a.IsValid() == b.IsValid()
	}
	if a.Type() != b.Type() {
		return false
	}
	if is, known := special(a, b); known {
		return is
	}
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return same(a.Elem(), b.Elem())
	case reflect.Interface:
		if a.IsNil() {
			return b.IsNil()
		}
		return alike(a.Elem(), b)
	case reflect.Slice, reflect.Array:
		if a.Kind() == reflect.Slice && a.IsNil() != b.IsNil() || a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		return a.IsNil() == b.IsNil() && sameMaps(a, b)
	case reflect.Struct:
		return sameStructs(a, b)
	case reflect.Float32, reflect.Float64:
		return a.Float() == b.Float() && 1/a.Float() == 1/b.Float() || a.Float() != a.Float() && b.Float() != b.Float()
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func sameMaps(a, b reflect.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	for it := a.MapRange(); it.Next(); {
		found := b.MapIndex(it.Key())
		if !found.IsValid() { // keys that are pointers inside, or times
			for other := b.MapRange(); other.Next(); {
				if same(it.Key(), other.Key()) {
					found = other.Value()
				}
			}
		}
		if !found.IsValid() || !same(it.Value(), found) {
			return false
		}
	}
	return true
}

func sameStructs(a, b reflect.Value) bool {
	t := a.Type()
	var hidden bool
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Name[0] == '_' {
			continue
		}
		if !f.IsExported() && !f.Anonymous {
			hidden = true
			continue
		}
		x, y := a.Field(i), b.Field(i)
		if strings.Contains(string(f.Tag), "omitempty") && (x.Kind() == reflect.Slice || x.Kind() == reflect.Map) && x.Len()+y.Len() == 0 {
			continue
		}
		if !same(x, y) {
			return false
		}
	}
	return !hidden || reflect.DeepEqual(a.Interface(), b.Interface())
}

// special compares what a type's own methods say.
func special(a, b reflect.Value) (is, known bool) {
	if !a.CanInterface() || a.Kind() == reflect.Interface {
		return false, false
	}
	switch x := a.Interface().(type) {
	case time.Time:
		y := b.Interface().(time.Time)
		_, zone := x.Zone()
		_, other := y.Zone()
		return x.Equal(y) && zone == other, true
	case json.RawMessage:
		return compact(x) == compact(b.Interface().(json.RawMessage)), true
	case json.Number:
		y := b.Interface().(json.Number)
		return x == y || x == "" && y == "0", true
	case net.IP:
		return x.Equal(b.Interface().(net.IP)), true
	case *url.URL:
		y := b.Interface().(*url.URL)
		if x == nil || y == nil {
			return x == y, true
		}
		return x.String() == y.String(), true
	case *big.Rat:
		y := b.Interface().(*big.Rat)
		if x == nil || y == nil {
			return x == y, true
		}
		return x.Cmp(y) == 0, true
	case *big.Float:
		y := b.Interface().(*big.Float)
		if x == nil || y == nil {
			return x == y, true
		}
		return x.Cmp(y) == 0, true
	}
	return false, false
}

func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if raw == nil {
		return "null"
	}
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

// SameHeld reports whether got is what a format makes of what an interface held.
func SameHeld(want, got any) bool { return alike(reflect.ValueOf(want), reflect.ValueOf(got)) }

// alike compares what an interface held with what it holds then.
func alike(a, b reflect.Value) bool {
	for a.Kind() == reflect.Interface {
		a = a.Elem()
	}
	for b.Kind() == reflect.Interface {
		b = b.Elem()
	}
	if !a.IsValid() || (a.Kind() == reflect.Slice || a.Kind() == reflect.Map) && a.IsNil() {
		return !b.IsValid()
	}
	if !b.IsValid() {
		return false
	}
	switch a.Interface().(type) {
	case time.Time, json.Number:
		return same(a, b)
	}
	if a.Type().PkgPath() != "" || b.Type().PkgPath() != "" && b.Type() != reflect.TypeFor[json.Number]() {
		return false
	}
	switch a.Kind() {
	case reflect.String:
		return b.Kind() == reflect.String && a.String() == b.String()
	case reflect.Bool:
		return b.Kind() == reflect.Bool && a.Bool() == b.Bool()
	case reflect.Slice, reflect.Array:
		return alikeLists(a, b)
	case reflect.Map:
		return b.Kind() == reflect.Map && alikeMaps(a, b)
	}
	return sameAmount(a, b)
}

func alikeLists(a, b reflect.Value) bool {
	asBytes := a.Type().Elem().Kind() == reflect.Uint8 && b.Type() == reflect.TypeFor[[]byte]()
	if !asBytes && (b.Type() != reflect.TypeFor[[]any]() || a.Kind() == reflect.Slice && a.Type().Elem().Kind() == reflect.Uint8) || a.Len() != b.Len() {
		return false
	}
	for i := range a.Len() {
		if !alike(a.Index(i), b.Index(i)) {
			return false
		}
	}
	return true
}

func alikeMaps(a, b reflect.Value) bool {
	if a.Len() != b.Len() || b.Type() != reflect.TypeFor[map[string]any]() && b.Type() != reflect.TypeFor[map[any]any]() {
		return false
	}
	for it := a.MapRange(); it.Next(); {
		found := false
		for other := b.MapRange(); other.Next() && !found; {
			found = alike(it.Key(), other.Key()) && alike(it.Value(), other.Value())
		}
		if !found {
			return false
		}
	}
	return true
}

// sameAmount compares numbers of any types. NaN is the same as NaN.
func sameAmount(a, b reflect.Value) bool {
	if n, ok := b.Interface().(json.Number); ok {
		if f, err := n.Float64(); a.CanFloat() {
			return err == nil && sameAmount(a, reflect.ValueOf(f))
		}
		return fmt.Sprint(a) == n.String()
	}
	x, ok := amount(a)
	y, ok2 := amount(b)
	if !ok || !ok2 || x == nil || y == nil {
		return ok && ok2 && x == y
	}
	return x.Cmp(y) == 0 && x.Signbit() == y.Signbit()
}

// amount is that of a number, nil for NaN.
func amount(v reflect.Value) (*big.Float, bool) {
	x := new(big.Float).SetPrec(64)
	switch {
	case v.CanInt():
		return x.SetInt64(v.Int()), true
	case v.CanUint():
		return x.SetUint64(v.Uint()), true
	case v.CanFloat() && v.Float() != v.Float():
		return nil, true
	case v.CanFloat():
		return x.SetFloat64(v.Float()), true
	}
	return nil, false
}
