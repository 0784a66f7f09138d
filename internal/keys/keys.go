// Package keys encodes keys of a program's types as the tails of Redis keys, so
// that different keys never share one.
//
// A string is its bytes, an integer is in decimal, a bool is true or false, a type
// with AppendText or MarshalText is that text. A struct is its fields joined by
// ':', nested structs as if their fields stood in their place. In a struct of
// several fields each field's text has '%' and ':' escaped, as %25 and %3A: not
// with a backslash, which patterns already give a meaning. A struct of one field
// is that field.
//
// A text marshaler has to give different texts to different keys. A key whose text does not
// read as that key, such as an invalid netip.Prefix, is an error, where the type has
// UnmarshalText. A marshaler that a struct has only from a field that it embeds leaves out the
// other fields, and is refused: reflection can't distinguish it from the struct's own.
//
// Everything else is refused. Floats have values that are equal and print differently, pointers
// may be different and point to the same, and a Stringer guarantees nothing.
package keys

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/delqhi/cache/internal/usercode"
)

// Encoding turns keys of type K into text and, where that is possible, back. It is
// safe for concurrent use.
type Encoding[K comparable] struct {
	append func(dst []byte, k K) ([]byte, error)
	decode func(encoded string) (K, bool) // nil: the encoding can't be decoded

	identical bool
}

// For returns the encoding of K. Its error names an alternative.
func For[K comparable]() (*Encoding[K], error) {
	typ := reflect.TypeFor[K]()
	if e := direct[K](); e != nil {
		return e, nil
	}
	fields, err := compile(typ, typ.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: set Source.Key", err)
	}
	e := &Encoding[K]{append: func(dst []byte, k K) ([]byte, error) {
		return appendPlain(dst, reflect.ValueOf(k), fields), nil
	}}
	if slices.ContainsFunc(fields, func(f field) bool { return f.text }) {
		e.append = func(dst []byte, k K) (out []byte, err error) {
			defer guard(dst, &out, &err)
			return appendFields(dst, reflect.ValueOf(k), fields)
		}
	}
	if len(fields) == 1 && fields[0].path == nil && !fields[0].text {
		e.decode = decoder[K](typ)
	}
	return e, nil
}

// Func is an encoding of the program's own.
func Func[K comparable](f func(K) string) *Encoding[K] {
	return &Encoding[K]{append: func(dst []byte, k K) (out []byte, err error) {
		defer guard(dst, &out, &err)
		return append(dst, f(k)...), nil
	}}
}

// guard is deferred around the program's own code.
func guard(dst []byte, out *[]byte, err *error) {
	if v := recover(); v != nil {
		*err, *out = usercode.Panic(v), dst
	}
}

// Append appends the encoded key. The error is that of a text marshaler, wrapped, or a
// *usercode.PanicError; dst then comes back as it was.
func (e *Encoding[K]) Append(dst []byte, k K) ([]byte, error) { return e.append(dst, k) }

// Reversible reports whether Decode can be used.
func (e *Encoding[K]) Reversible() bool { return e.decode != nil }

// Identical reports whether K is string and each key its own encoding.
func (e *Encoding[K]) Identical() bool { return e.identical }

// Decode returns the key that Append turns into encoded; ok is false if there is
// none.
func (e *Encoding[K]) Decode(encoded string) (k K, ok bool) {
	if e.decode == nil {
		return k, false
	}
	return e.decode(encoded)
}

// direct encodes the most frequent types without reflection.
func direct[K comparable]() *Encoding[K] {
	var e any
	switch any(*new(K)).(type) {
	case string:
		e = &Encoding[string]{
			append: func(dst []byte, k string) ([]byte, error) { return append(dst, k...), nil },
			decode: func(s string) (string, bool) { return s, true },

			identical: true,
		}
	case int:
		e = integer[int]()
	case int64:
		e = integer[int64]()
	case int32:
		e = integer[int32]()
	case uint64:
		e = unsigned[uint64]()
	case uint32:
		e = unsigned[uint32]()
	}
	if e == nil {
		return nil
	}
	return e.(*Encoding[K])
}

func integer[N int | int64 | int32]() *Encoding[N] {
	return &Encoding[N]{
		append: func(dst []byte, k N) ([]byte, error) { return strconv.AppendInt(dst, int64(k), 10), nil },
		decode: decoder[N](reflect.TypeFor[N]()),
	}
}

func unsigned[N uint64 | uint32]() *Encoding[N] {
	return &Encoding[N]{
		append: func(dst []byte, k N) ([]byte, error) { return strconv.AppendUint(dst, uint64(k), 10), nil },
		decode: decoder[N](reflect.TypeFor[N]()),
	}
}

// decoder reverses the encoding of a string, integer or bool type. Numbers are
// accepted only as Append writes them.
func decoder[K comparable](typ reflect.Type) func(string) (K, bool) {
	return func(s string) (k K, ok bool) {
		v := reflect.ValueOf(&k).Elem()
		switch {
		case typ.Kind() == reflect.String:
			v.SetString(s)
			return k, true
		case typ.Kind() == reflect.Bool:
			v.SetBool(s == "true")
			return k, s == "true" || s == "false"
		case v.CanInt():
			n, err := strconv.ParseInt(s, 10, typ.Bits())
			if err != nil || strconv.FormatInt(n, 10) != s {
				return k, false
			}
			v.SetInt(n)
		default:
			n, err := strconv.ParseUint(s, 10, typ.Bits())
			if err != nil || strconv.FormatUint(n, 10) != s {
				return k, false
			}
			v.SetUint(n)
		}
		return k, true
	}
}

// field is one part of a key that has a text of its own.
type field struct {
	path []int // from the key to it; nil: the key itself
	text bool  // by its text marshaler
}

var (
	appender  = reflect.TypeFor[encoding.TextAppender]()
	marshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// compile flattens a type into fields. name is used in the error.
func compile(typ reflect.Type, name string, path []int) ([]field, error) {
	kind := typ.Kind()
	if kind == reflect.Pointer || kind == reflect.Interface || kind == reflect.Chan || kind == reflect.UnsafePointer {
		return nil, fmt.Errorf("%s is a %v: two of them may differ and hold the same", name, kind)
	}
	if isText(typ) {
		if err := checkPromoted(typ, name); err != nil {
			return nil, err
		}
		return []field{{path: path, text: true}}, nil
	}
	switch kind {
	case reflect.String, reflect.Bool,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return []field{{path: path}}, nil
	case reflect.Struct:
		return compileStruct(typ, name, path)
	}
	return nil, fmt.Errorf("%s is a %v, which is no string, integer, bool, text marshaler or struct of those", name, kind)
}

func isText(typ reflect.Type) bool { return typ.Implements(appender) || typ.Implements(marshaler) }

// checkPromoted refuses a struct whose text may be that of an embedded field. Its
// own method would be safe, but a promoted one looks the same, and with
// struct{ netip.Addr; Port int } it gives all ports of an address one key.
func checkPromoted(typ reflect.Type, name string) error {
	if typ.Kind() != reflect.Struct {
		return nil
	}
	var embedded []reflect.StructField
	fields := 0
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Name == "_" {
			continue
		}
		fields++
		if f.Anonymous && isText(f.Type) {
			embedded = append(embedded, f)
		}
	}
	for _, f := range embedded {
		at := name + "." + f.Name
		if kind := f.Type.Kind(); kind == reflect.Pointer || kind == reflect.Interface {
			return fmt.Errorf("%s is a %v: two of them may differ and hold the same", at, kind)
		}
		if fields > 1 {
			return fmt.Errorf("the text of %s may be that of the embedded %s alone, which leaves out the other fields (one with a name is fine)", name, at)
		}
		if err := checkPromoted(f.Type, at); err != nil {
			return err
		}
	}
	return nil
}

func compileStruct(typ reflect.Type, name string, path []int) ([]field, error) {
	fields := []field{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Name == "_" {
			continue // == ignores it too
		}
		sub, err := compile(f.Type, name+"."+f.Name, append(path[:len(path):len(path)], i))
		if err != nil {
			return nil, err
		}
		if !f.IsExported() {
			for _, s := range sub {
				// What an embedded struct exports can be called, though the type that
				// is embedded is not exported itself.
				own := len(s.path) == len(path)+1
				if s.text && (own || !f.Anonymous) {
					return nil, fmt.Errorf("%s.%s is not exported, so that its text marshaler can't be called", name, f.Name)
				}
			}
		}
		fields = append(fields, sub...)
	}
	return fields, nil
}

// appendFields appends the fields of key. On an error dst comes back as it was.
func appendFields(dst []byte, key reflect.Value, fields []field) ([]byte, error) {
	start := len(dst)
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, ':')
		}
		v, at := f.of(key), len(dst)
		if f.text {
			var err error
			if dst, err = appendText(dst, v.Interface()); err != nil {
				return dst[:start], err
			}
		} else {
			dst = appendBasic(dst, v)
		}
		if len(fields) > 1 {
			dst = escape(dst, at)
		}
	}
	return dst, nil
}

// appendPlain is appendFields where no field has a text marshaler. Without the
// Interface in it the compiler can keep the key off the heap.
func appendPlain(dst []byte, key reflect.Value, fields []field) []byte {
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, ':')
		}
		at := len(dst)
		dst = appendBasic(dst, f.of(key))
		if len(fields) > 1 {
			dst = escape(dst, at)
		}
	}
	return dst
}

func (f *field) of(key reflect.Value) reflect.Value {
	for _, n := range f.path {
		key = key.Field(n)
	}
	return key
}

func appendBasic(dst []byte, v reflect.Value) []byte {
	switch {
	case v.Kind() == reflect.String:
		return append(dst, v.String()...)
	case v.Kind() == reflect.Bool:
		return strconv.AppendBool(dst, v.Bool())
	case v.CanInt():
		return strconv.AppendInt(dst, v.Int(), 10)
	}
	return strconv.AppendUint(dst, v.Uint(), 10)
}

// appendText appends the text of v. An AppendText that does not append must not corrupt the
// bytes in dst, which distinguish one cache's keys from another's: it gets only the capacity
// behind dst. Where it used that capacity, the text is copied onto itself.
func appendText(dst []byte, v any) ([]byte, error) {
	var text []byte
	var err error
	if a, ok := v.(encoding.TextAppender); ok {
		text, err = a.AppendText(dst[len(dst):])
	} else {
		text, err = v.(encoding.TextMarshaler).MarshalText()
	}
	if err != nil {
		return dst, fmt.Errorf("cache: encode the key: %w", usercode.Checked(err))
	}
	if err := checkText(v, text); err != nil {
		return dst, err
	}
	return append(dst, text...), nil
}

// escape escapes what was appended from at on. It shifts the bytes in place, from the end on,
// so that none is overwritten before it was read.
func escape(dst []byte, at int) []byte {
	more := 0
	for _, b := range dst[at:] {
		if b == '%' || b == ':' {
			more += len("%25") - 1
		}
	}
	if more == 0 {
		return dst
	}
	from := len(dst)
	dst = append(dst, make([]byte, more)...)
	for to := len(dst); to > from; {
		from--
		switch b := dst[from]; b {
		case '%':
			to -= copy(dst[to-3:], "%25")
		case ':':
			to -= copy(dst[to-3:], "%3A")
		default:
			to--
			dst[to] = b
		}
	}
	return dst
}

// Join encodes fields as a struct key of these fields is encoded; one field is encoded as a key
// of its own. The error names the position of a field that can't be a key.
func Join(fields ...any) (string, error) {
	var dst []byte
	var parts []string
	for i, f := range fields {
		if f == nil {
			return "", fmt.Errorf("field %d of the key is nil", i+1)
		}
		v := reflect.ValueOf(f)
		sub, err := compile(v.Type(), v.Type().String(), nil)
		if err != nil {
			return "", fmt.Errorf("field %d of the key: %w", i+1, err)
		}
		for _, s := range sub {
			part, err := appendFields(nil, v, []field{s})
			if err != nil {
				return "", fmt.Errorf("field %d of the key: %w", i+1, err)
			}
			parts = append(parts, string(part))
		}
	}
	for i, p := range parts {
		if i > 0 {
			dst = append(dst, ':')
		}
		at := len(dst)
		if dst = append(dst, p...); len(parts) > 1 {
			dst = escape(dst, at)
		}
	}
	return string(dst), nil
}

// QuotePattern escapes characters with a meaning in Redis patterns, so that the result matches
// s and nothing else.
func QuotePattern(s string) string { return quoter.Replace(s) }

var quoter = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)
