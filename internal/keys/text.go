package keys

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/delqhi/cache/internal/errs"
)

var unmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// checkText refuses a key that shares its text with others: one that the text does not read as.
// It can't detect that for types without UnmarshalText.
func checkText(v any, text []byte) error {
	switch v := v.(type) {
	case netip.Addr:
		return nil
	case time.Time:
		if _, offset := v.Zone(); offset%60 != 0 { // the text has no seconds of it
			return notInjective(v)
		}
		return nil
	case netip.Prefix:
		if v.IsValid() || v == (netip.Prefix{}) {
			return nil
		}
		return notInjective(v)
	case netip.AddrPort:
		if v.IsValid() || v == (netip.AddrPort{}) {
			return nil
		}
		return notInjective(v)
	}
	typ := reflect.TypeOf(v)
	if of, ok := textOf(v, typ); ok {
		return checkText(of, text)
	}
	if !reflect.PointerTo(typ).Implements(unmarshaler) {
		return nil
	}
	back := reflect.New(typ)
	if back.Interface().(encoding.TextUnmarshaler).UnmarshalText(slices.Clone(text)) != nil {
		return notInjective(v)
	}
	if read := back.Elem().Interface(); read == v || equalByMethod(read, v) || refers(typ) && sameText(read, text) {
		return nil
	}
	return notInjective(v)
}

// textOf returns the embedded field that a struct may have its text from: its only one.
func textOf(v any, typ reflect.Type) (any, bool) {
	if typ.Kind() != reflect.Struct || typ.NumField() != 1 {
		return nil, false
	}
	if f := typ.Field(0); !f.Anonymous || !f.IsExported() || !isText(f.Type) {
		return nil, false
	}
	of := reflect.ValueOf(v).Field(0).Interface()
	theirs, err := textAgain(of)
	if err != nil {
		return nil, false
	}
	own, err := textAgain(v)
	return of, err == nil && string(own) == string(theirs)
}

func notInjective(v any) error {
	return fmt.Errorf("%w: the text of this %T does not read as the same key, and others may have it: set Source.Key", errs.ErrInvalidOption, v)
}

// equalByMethod uses a method Equal, where equal keys can differ by ==.
func equalByMethod(a, b any) bool {
	m := reflect.ValueOf(a).MethodByName("Equal")
	if !m.IsValid() {
		return false
	}
	if typ := m.Type(); typ.NumIn() == 1 && typ.NumOut() == 1 && typ.In(0) == reflect.TypeOf(b) && typ.Out(0).Kind() == reflect.Bool {
		return m.Call([]reflect.Value{reflect.ValueOf(b)})[0].Bool()
	}
	return false
}

// refers reports whether == of a type compares addresses.
func refers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Chan, reflect.UnsafePointer:
		return true
	case reflect.Array:
		return refers(t.Elem())
	case reflect.Struct:
		if t.PkgPath() == "unique" {
			return false // equal values have the same addresses
		}
		for i := range t.NumField() {
			if refers(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}

// sameText reports whether the text of v is text.
func sameText(v any, text []byte) bool {
	again, err := textAgain(v)
	return err == nil && string(again) == string(text)
}

func textAgain(v any) ([]byte, error) {
	if a, ok := v.(encoding.TextAppender); ok {
		return a.AppendText(nil)
	}
	return v.(encoding.TextMarshaler).MarshalText()
}
