package codec

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// rules is what a format does with types.
type rules interface {
	// marshaler reports whether values of t encode themselves. The error says why
	// they then can't be decoded, or not be encoded.
	marshaler(t reflect.Type) (bool, error)
	// name returns the name of a field in the format, "" for one that is left out.
	name(f reflect.StructField) string
	// key returns an error if t can't be a map's key.
	key(t reflect.Type) error
	// inlines reports whether the fields of an embedded struct take part in the
	// names of the struct around it.
	inlines(f reflect.StructField) bool
	// inline returns an error if an embedded field that is inlined does not come back.
	inline(f reflect.StructField) error
	// list returns an error if a pointer, slice or array can't be encoded.
	list(t reflect.Type) error
	kind(k reflect.Kind) bool
}

// typeWalk looks for parts of a type that a format loses in silence.
type typeWalk struct {
	rules
	seen    map[reflect.Type]bool
	inlined map[reflect.Type]bool // the structs whose fields are being looked at
}

func newTypeWalk(r rules) *typeWalk {
	return &typeWalk{rules: r, seen: map[reflect.Type]bool{}, inlined: map[reflect.Type]bool{}}
}

const remedy = "give it a tag or a marshaler, or accept the loss with codec.Lossy()"

func (w *typeWalk) check(t reflect.Type) error {
	if t == nil {
		return errorf("a value needs a type")
	}
	return w.visit(t, t.String())
}

func (w *typeWalk) visit(t reflect.Type, path string) error {
	if w.seen[t] {
		return nil
	}
	w.seen[t] = true
	if is, err := w.marshaler(t); is || err != nil {
		if err != nil {
			return errorf("%s: %w", path, err)
		}
		return w.promoted(t, path)
	}
	if !w.kind(t.Kind()) {
		return errorf("%s is a %v, which can't be encoded: %s", path, t.Kind(), remedy)
	}
	switch t.Kind() {
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return errorf("%s is the interface %v, which can't be decoded: %s", path, t, remedy)
		}
	case reflect.Pointer, reflect.Slice, reflect.Array:
		if err := w.list(t); err != nil {
			return errorf("%s: %w", path, err)
		}
		return w.visit(t.Elem(), path)
	case reflect.Map:
		if err := w.key(t.Key()); err != nil {
			return errorf("%s: %w", path, err)
		}
		return w.visit(t.Elem(), path)
	case reflect.Struct:
		return w.fields(t, path, map[string]string{})
	}
	return nil
}

// fields visits the fields of a struct; names are those that the struct around an
// embedded one has so far, with their paths.
func (w *typeWalk) fields(t reflect.Type, path string, names map[string]string) error {
	if w.inlined[t] {
		return errorf("%s embeds itself: give the embedded field a name", path)
	}
	w.inlined[t] = true
	defer delete(w.inlined, t)
	for i := range t.NumField() {
		f := t.Field(i)
		at := path + "." + f.Name
		if f.Name == "_" || f.Name == "_msgpack" {
			continue
		}
		if f.Anonymous && !f.IsExported() && f.Type.Kind() == reflect.Pointer {
			return errorf("%s is an embedded pointer to an unexported struct, which can't be decoded: %s", at, remedy)
		}
		if !f.IsExported() && !(f.Anonymous && f.Type.Kind() == reflect.Struct) {
			return errorf("%s is not exported and would be lost: %s", at, remedy)
		}
		name := w.name(f)
		if name == "" {
			return errorf("%s is left out by its tag and would be lost: %s", at, remedy)
		}
		if w.inlines(f) {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if is, _ := w.marshaler(inner); !is {
				if err := w.inline(f); err != nil {
					return errorf("%s: %w", at, err)
				}
				if err := w.fields(inner, at, names); err != nil {
					return err
				}
				continue
			}
		}
		if other, twice := names[name]; twice {
			return errorf("%s and %s have the same name %q, and one would be lost: %s", other, at, name, remedy)
		}
		names[name] = at
		if err := w.visit(f.Type, at); err != nil {
			return err
		}
	}
	return nil
}

// promoted refuses a struct whose methods may be those of an embedded field, which then
// encodes that field alone. A method of the struct's own would be fine, and looks the same.
func (w *typeWalk) promoted(t reflect.Type, path string) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.NumField() < 2 {
		return nil
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.Anonymous {
			continue
		}
		if is, _ := w.marshaler(f.Type); is || f.Type.Kind() == reflect.Interface && f.Type.NumMethod() > 0 {
			return errorf("%s may be encoded as the embedded %s alone, whose methods it has, and the other fields would be lost: give %s a name", path, f.Name, f.Name)
		}
	}
	return nil
}

// pair judges a type by an interface for encoding and one for decoding. Values are
// encoded as they are, not by address: a method of the pointer is not found.
func pair(t reflect.Type, enc, dec reflect.Type) (is bool, err error) {
	encodes, decodes := t.Implements(enc), reflect.PointerTo(t).Implements(dec) || t.Implements(dec)
	switch {
	case encodes && decodes:
		return true, nil
	case encodes:
		return false, errorf("%v has %s and lacks %s: %s", t, method(enc), method(dec), remedy)
	case t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface && reflect.PointerTo(t).Implements(enc):
		return false, errorf("%s of %v has a pointer receiver, and values are encoded by value: use a *%v, or %s", method(enc), t, t, remedy)
	case decodes && t.Kind() != reflect.Pointer:
		return false, errorf("%v has %s and lacks %s: %s", t, method(dec), method(enc), remedy)
	}
	return false, nil
}

func method(iface reflect.Type) string { return iface.Method(0).Name }

// pairs returns the first pair that a type has.
func pairs(t reflect.Type, list ...[2]reflect.Type) (bool, error) {
	var first error
	for _, p := range list {
		is, err := pair(t, p[0], p[1])
		if is {
			return true, nil
		}
		if err != nil && first == nil {
			first = err
		}
	}
	return false, first
}

var (
	jsonPair   = [2]reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.Unmarshaler]()}
	textPair   = [2]reflect.Type{reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()}
	binaryPair = [2]reflect.Type{reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler]()}
	mpPair     = [2]reflect.Type{reflect.TypeFor[msgpack.Marshaler](), reflect.TypeFor[msgpack.Unmarshaler]()}
	customPair = [2]reflect.Type{reflect.TypeFor[msgpack.CustomEncoder](), reflect.TypeFor[msgpack.CustomDecoder]()}
)

type jsonRules struct{}

func (jsonRules) marshaler(t reflect.Type) (bool, error) { return pairs(t, jsonPair, textPair) }

func (jsonRules) name(f reflect.StructField) string { return tagName(f, "json") }

// tagName is the name in a tag, else the field's own, and "" for "-".
func tagName(f reflect.StructField, key string) string {
	tag := f.Tag.Get(key)
	name, _, _ := strings.Cut(tag, ",")
	switch {
	case tag == "-" || key == "msgpack" && name == "-":
		return ""
	case name == "":
		return f.Name
	}
	return name
}

func (jsonRules) inlines(f reflect.StructField) bool {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return f.Anonymous && name == "" && structOrPointer(f.Type)
}

func (jsonRules) inline(reflect.StructField) error { return nil }

func (jsonRules) list(reflect.Type) error { return nil }

func structOrPointer(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct
}

func (jsonRules) key(t reflect.Type) error {
	switch {
	case t.Kind() == reflect.String, reflect.Int <= t.Kind() && t.Kind() <= reflect.Uintptr:
		return nil
	}
	if is, err := pair(t, textPair[0], textPair[1]); is || err != nil {
		return err
	}
	return errorf("JSON can't have %v as a map's key: %s", t, remedy)
}

func (jsonRules) kind(k reflect.Kind) bool {
	switch k {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		return false
	}
	return true
}

type msgpackRules struct{ jsonRules }

func (msgpackRules) marshaler(t reflect.Type) (bool, error) {
	if t == reflect.TypeFor[time.Time]() {
		return true, nil
	}
	return pairs(t, customPair, mpPair, binaryPair, textPair)
}

func (msgpackRules) name(f reflect.StructField) string { return tagName(f, "msgpack") }

func (msgpackRules) inlines(f reflect.StructField) bool {
	return f.Anonymous && structOrPointer(f.Type) && !strings.Contains(f.Tag.Get("msgpack"), "noinline")
}

func (msgpackRules) key(t reflect.Type) error {
	switch {
	case t.Kind() == reflect.String, t.Kind() == reflect.Bool, reflect.Int <= t.Kind() && t.Kind() < reflect.Uintptr:
		return nil
	}
	return errorf("msgpack can't have %v as a map's key: %s", t, remedy)
}

func (msgpackRules) inline(f reflect.StructField) error {
	if f.Type.Kind() == reflect.Pointer {
		return errorf("an embedded nil pointer would come back as a pointer to an empty struct: give it a name, or embed it without the pointer")
	}
	return nil
}

func (msgpackRules) list(t reflect.Type) error {
	if t.Kind() == reflect.Array && t.Elem().Kind() == reflect.Uint8 && t.Elem() != reflect.TypeFor[byte]() {
		return errorf("msgpack can't encode an array of %v: %s", t.Elem(), remedy)
	}
	return nil
}

func (r msgpackRules) kind(k reflect.Kind) bool {
	return k != reflect.Uintptr && r.jsonRules.kind(k)
}
