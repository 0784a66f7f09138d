package cache

import (
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// fingerprint tells the records of one codec and value type from another's. A
// named type is known by its package and name, not by its fields: adding a field
// keeps the records, WithVersion is for changes that don't. That can't do for types
// that are declared in a function: several of a package may have one name. A type
// with one of them in it is known by its fields, too.
func fingerprint[V any](codec string) uint64 {
	typ := reflect.TypeFor[V]()
	var b strings.Builder
	b.WriteString(codec)
	b.WriteByte(0)
	describe(&b, typ)
	if full := reflect.TypeFor[argument[V]]().Name(); strings.Contains(full, inFunction) {
		s := structured{packages: map[string]bool{}}
		for _, m := range qualified.FindAllStringSubmatch(full, -1) {
			if path, err := url.PathUnescape(m[1]); err == nil {
				s.packages[path] = true
			}
		}
		b.WriteByte(0)
		s.write(&b, typ, nil)
	}
	return xxhash.Sum64String(b.String())
}

// argument has the full name of V in its own name.
type argument[V any] struct{ _ [0]V }

// inFunction stands before the number of a type that is declared in a function, where it is
// a type's argument. Such numbers change whenever another such type is declared, so that
// records must not depend on them.
const inFunction = "\u00b7"

var (
	numbered  = regexp.MustCompile(inFunction + "[0-9]+")
	qualified = regexp.MustCompile(`([^][*(){},;" ]+)\.[\pL_][\pL\p{Nd}_]*`)
)

// structured describes a type by its fields.
type structured struct {
	packages map[string]bool // of the types that may be declared in functions
}

// write writes all that reflection knows of a type, except of those that are known by their
// names. around are the types that it is a part of, from the outermost on.
func (s structured) write(b *strings.Builder, t reflect.Type, around []reflect.Type) {
	if i := slices.Index(around, t); i >= 0 {
		b.WriteString("^" + strconv.Itoa(i))
		return
	}
	describe(b, t)
	if t.Name() != "" && !s.packages[t.PkgPath()] && !strings.Contains(t.Name(), inFunction) {
		return
	}
	b.WriteString("=" + t.Kind().String())
	around = append(around[:len(around):len(around)], t)
	switch t.Kind() {
	case reflect.Map:
		b.WriteByte('[')
		s.write(b, t.Key(), around)
		b.WriteByte(']')
		s.write(b, t.Elem(), around)
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Chan:
		b.WriteByte(' ')
		s.write(b, t.Elem(), around)
	case reflect.Struct:
		b.WriteByte('{')
		for i := range t.NumField() {
			f := t.Field(i)
			b.WriteString(f.Name + " ")
			if f.Anonymous {
				b.WriteString("embedded ")
			}
			s.write(b, f.Type, around)
			b.WriteString(" " + strconv.Quote(string(f.Tag)) + ";")
		}
		b.WriteByte('}')
	}
}

// describe writes a text that differs for different types, and is the same in
// every build. reflect's own names packages by their last element only.
func describe(b *strings.Builder, t reflect.Type) {
	if t.Name() != "" {
		if t.PkgPath() != "" {
			b.WriteString(t.PkgPath())
			b.WriteByte('.')
		}
		b.WriteString(numbered.ReplaceAllString(t.Name(), "")) // of a generic type: with full type arguments
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
		b.WriteString(numbered.ReplaceAllString(t.String(), ""))
	}
}
