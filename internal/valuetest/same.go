// Package valuetest has values of every kind of type for tests of what becomes of them in a
// codec, in Redis, in a queue or in a copy, and says which of them are the same.
package valuetest

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Same reports whether got is want, as reflect.DeepEqual does, but for what the codecs
// document:
//
//   - times are the same at one moment with one offset from UTC;
//   - what is in an any comes back as the format has it: of two numbers only the amount
//     counts, and a struct is a map;
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

// alike compares what was in an any.
func alike(a, b reflect.Value) bool {
	for a.Kind() == reflect.Pointer || a.Kind() == reflect.Interface {
		if a.IsNil() {
			return b.Kind() == reflect.Invalid || nilable(b) && b.IsNil()
		}
		switch a.Interface().(type) {
		case json.Marshaler:
			if a.Kind() == reflect.Pointer {
				return alikeJSON(a, b)
			}
		case encoding.BinaryMarshaler, msgpack.Marshaler, msgpack.CustomEncoder:
			return true // as its own methods have it
		}
		a = a.Elem()
	}
	for b.Kind() == reflect.Interface {
		b = b.Elem()
	}
	if !b.IsValid() {
		return nilable(a) && a.IsNil()
	}
	if n, ok := a.Interface().(json.Number); ok && b.Kind() == reflect.String && b.String() == n.String() {
		return true
	}
	if t, ok := a.Interface().(time.Time); ok {
		switch s := b.Interface().(type) {
		case time.Time:
			return t.Equal(s)
		case string:
			u, err := time.Parse(time.RFC3339Nano, s)
			return err == nil && u.Equal(t)
		}
	}
	switch a.Interface().(type) {
	case encoding.BinaryMarshaler, msgpack.Marshaler, msgpack.CustomEncoder:
		return true // as its own methods have it
	}
	if own, ok := a.Interface().(encoding.TextMarshaler); ok {
		if raw, ok := b.Interface().([]byte); ok {
			text, err := own.MarshalText()
			return err == nil && bytes.Equal(text, raw)
		}
	}
	if own, ok := a.Interface().(encoding.TextMarshaler); ok && b.Kind() == reflect.String {
		text, err := own.MarshalText()
		return err == nil && string(text) == b.String() || a.Kind() == reflect.String && a.String() == b.String()
	}
	if n, ok := number(a); ok {
		m, ok := number(b)
		return ok && (n == m || n != nil && m != nil && n.Cmp(m) == 0)
	}
	switch a.Kind() {
	case reflect.String:
		return b.Kind() == reflect.String && a.String() == b.String()
	case reflect.Bool:
		return b.Kind() == reflect.Bool && a.Bool() == b.Bool()
	case reflect.Slice, reflect.Array:
		if b.Kind() == reflect.Slice && b.Len() == a.Len() {
			for i := range a.Len() {
				if !alike(a.Index(i), b.Index(i)) {
					return false
				}
			}
			return true
		}
	case reflect.Map:
		if b.Kind() == reflect.Map {
			return alikeMaps(a, b)
		}
	case reflect.Struct:
		if m, ok := b.Interface().(map[string]any); ok && a.NumField() > 0 && alikeFields(a, m) {
			return true
		}
	}
	return alikeJSON(a, b)
}

func alikeJSON(a, b reflect.Value) bool {
	x, err := json.Marshal(a.Interface())
	y, err2 := json.Marshal(b.Interface())
	if err == nil && err2 == nil && bytes.Equal(x, y) {
		return true
	}
	var m, n any // in the order of maps
	return err == nil && err2 == nil && json.Unmarshal(x, &m) == nil && json.Unmarshal(y, &n) == nil && reflect.DeepEqual(m, n)
}

// alikeFields compares the fields that are found by a name of theirs.
func alikeFields(a reflect.Value, m map[string]any) bool {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		for _, tag := range []string{f.Tag.Get("msgpack"), f.Tag.Get("json"), f.Name} {
			name, _, _ := strings.Cut(tag, ",")
			if v, ok := m[name]; ok && f.IsExported() {
				if !alike(a.Field(i), reflect.ValueOf(&v).Elem()) {
					return false
				}
				break
			}
		}
	}
	return true
}

func alikeMaps(a, b reflect.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	byText := map[string]reflect.Value{}
	for it := b.MapRange(); it.Next(); {
		byText[fmt.Sprint(it.Key())] = it.Value()
	}
	for it := a.MapRange(); it.Next(); {
		key := fmt.Sprint(it.Key())
		if own, ok := it.Key().Interface().(encoding.TextMarshaler); ok && it.Key().Kind() != reflect.String {
			text, _ := own.MarshalText()
			key = string(text)
		}
		v, ok := byText[key]
		if !ok || !alike(it.Value(), v) {
			return false
		}
	}
	return true
}

func nilable(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return true
	}
	return false
}

// number is the amount of a number, nil for NaN.
func number(v reflect.Value) (*big.Float, bool) {
	x := new(big.Float).SetPrec(100)
	if n, ok := v.Interface().(json.Number); ok {
		n = cmp.Or(n, "0")
		f, err := n.Float64()
		if y, whole := new(big.Int).SetString(n.String(), 10); whole {
			return x.SetInt(y), true
		}
		return x.SetFloat64(f), err == nil
	}
	switch {
	case v.CanInt():
		return x.SetInt64(v.Int()), true
	case v.CanUint():
		return x.SetUint64(v.Uint()), true
	case v.CanFloat() && v.Float() != v.Float():
		return nil, true
	case v.Kind() == reflect.Float32:
		f, err := strconv.ParseFloat(strconv.FormatFloat(v.Float(), 'g', -1, 32), 64) // as JSON writes it
		return x.SetFloat64(f), err == nil
	case v.CanFloat():
		return x.SetFloat64(v.Float()), true
	}
	return nil, false
}
