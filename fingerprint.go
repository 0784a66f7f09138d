package cache

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// fingerprint tells the records of one codec and value type from another's. A
// named type is known by its package and name, not by its fields: adding a field
// keeps the records, WithVersion is for changes that don't.
func fingerprint(codec string, typ reflect.Type) uint64 {
	var b strings.Builder
	b.WriteString(codec)
	b.WriteByte(0)
	describe(&b, typ)
	return xxhash.Sum64String(b.String())
}

// describe writes a text that differs for different types, and is the same in
// every build. reflect's own names packages by their last element only.
func describe(b *strings.Builder, t reflect.Type) {
	if t.Name() != "" {
		if t.PkgPath() != "" {
			b.WriteString(t.PkgPath())
			b.WriteByte('.')
		}
		b.WriteString(t.Name()) // of a generic type: with full type arguments
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		b.WriteByte('*')
		describe(b, t.Elem())
	case reflect.Slice:
		b.WriteString("[]")
		describe(b, t.Elem())
	case reflect.Array:
		b.WriteString("[" + strconv.Itoa(t.Len()) + "]")
		describe(b, t.Elem())
	case reflect.Map:
		b.WriteString("map[")
		describe(b, t.Key())
		b.WriteByte(']')
		describe(b, t.Elem())
	case reflect.Struct:
		b.WriteString("struct{")
		for i := range t.NumField() {
			f := t.Field(i)
			b.WriteString(f.Name + " ")
			describe(b, f.Type)
			b.WriteString(" " + strconv.Quote(string(f.Tag)) + ";")
		}
		b.WriteByte('}')
	default:
		b.WriteString(t.String())
	}
}
