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

// fingerprint distinguishes the records of different codecs and value types. A
// named type is identified by its package and name, not by its fields: adding a field
// keeps the records; WithVersion is for incompatible changes. That is not sufficient for
// types that are declared in a function: several in a package may have the same name. A
// type that contains one of them is identified by its fields, too.
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

// inFunction precedes, in the name of a type argument, the number of a type that is declared in
// a function. Such numbers change whenever another such type is declared, so records must not
// depend on them.
const inFunction = "\u00b7"

var (
	numbered  = regexp.MustCompile(inFunction + "[0-9]+")
	qualified = regexp.MustCompile(`([^][*(){},;" ]+)\.[\pL_][\pL\p{Nd}_]*`)
)

// structured describes a type by its fields.
type structured struct {
	packages map[string]bool // of the types that may be declared in functions
}

// write writes the full structure of a type; types that are identified by their names are
// written as these. around are the types that contain it, the outermost first.
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
