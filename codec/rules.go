package codec

import (
	"cmp"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/vmihailenco/msgpack/v5"
)

var (
	jsonPair   = [2]reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.Unmarshaler]()}
	textPair   = [2]reflect.Type{reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()}
	binaryPair = [2]reflect.Type{reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler]()}
	mpPair     = [2]reflect.Type{reflect.TypeFor[msgpack.Marshaler](), reflect.TypeFor[msgpack.Unmarshaler]()}
	customPair = [2]reflect.Type{reflect.TypeFor[msgpack.CustomEncoder](), reflect.TypeFor[msgpack.CustomDecoder]()}

	jsonPairs    = [][2]reflect.Type{jsonPair, textPair}
	msgpackPairs = [][2]reflect.Type{customPair, mpPair, binaryPair, textPair}
)

type jsonRules struct{}

func (jsonRules) pairs() [][2]reflect.Type { return jsonPairs }

func (jsonRules) marshaler(t reflect.Type) (bool, error) { return paired(t, jsonPairs) }

func (jsonRules) name(f reflect.StructField) string {
	if f.Tag.Get("json") == "-" {
		return ""
	}
	return cmp.Or(jsonName(f), f.Name)
}

// jsonName is the name that a tag gives, if JSON accepts it.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	for _, r := range name {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return ""
		}
	}
	return name
}

// option reports whether a tag has an option.
func option(f reflect.StructField, key, name string) bool {
	_, options, _ := strings.Cut(f.Tag.Get(key), ",")
	return slices.Contains(strings.Split(options, ","), name)
}

func (r jsonRules) names(f reflect.StructField, inlined bool) []string {
	if inlined {
		return nil
	}
	return []string{r.name(f)}
}

func (jsonRules) field(_ reflect.Type, f reflect.StructField) error {
	if quoted(f) && touchesItself(f.Type, jsonPairs) {
		return errorf("the option string of its tag keeps a %v, which encodes itself, from being decoded: leave it away", f.Type)
	}
	return nil
}

// quoted reports whether JSON writes a field as a string.
func quoted(f reflect.StructField) bool {
	t := f.Type
	if t.Name() == "" && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	k := t.Kind()
	return option(f, "json", "string") && (k == reflect.String || reflect.Bool <= k && k <= reflect.Float64)
}

func (jsonRules) inlines(f reflect.StructField) bool {
	return f.Anonymous && jsonName(f) == "" && structOrPointer(f.Type)
}

func (jsonRules) inline(reflect.StructField) error { return nil }

func (jsonRules) list(reflect.Type) error { return nil }

func structOrPointer(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct
}

// key: strings are written without their MarshalText, and read by UnmarshalText: see guards.
func (jsonRules) key(t reflect.Type) error {
	switch {
	case t.Kind() == reflect.String:
		return nil
	case t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface:
		return errorf("JSON can't have %v as a map's key: %s", t, remedy)
	}
	if is, err := paired(t, [][2]reflect.Type{textPair}); is || err != nil {
		return err
	}
	if reflect.Int <= t.Kind() && t.Kind() <= reflect.Uintptr {
		return nil
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

func (msgpackRules) pairs() [][2]reflect.Type { return msgpackPairs }

func (msgpackRules) marshaler(t reflect.Type) (bool, error) {
	if t == reflect.TypeFor[time.Time]() {
		return true, nil
	}
	is, err := paired(t, msgpackPairs)
	if is && t.Kind() == reflect.Pointer && encodesItself(t.Elem(), msgpackPairs) {
		// By the methods of the one or of the other, whichever was found first.
		return paired(t.Elem(), msgpackPairs)
	}
	return is, err
}

func (msgpackRules) name(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("msgpack"), ",")
	if name == "-" {
		return ""
	}
	return cmp.Or(name, f.Name)
}

// names: an embedded struct is found by its own name as well, and a field with an alias by that.
func (r msgpackRules) names(f reflect.StructField, inlined bool) []string {
	names := []string{r.name(f)}
	if _, alias, ok := strings.Cut(f.Tag.Get("msgpack"), ",alias:"); ok && !inlined {
		alias, _, _ = strings.Cut(alias, ",")
		names = append(names, alias)
	}
	return names
}

func (msgpackRules) field(in reflect.Type, f reflect.StructField) error {
	if t := f.Type; omitted(in, f) && touchesItself(t, msgpackPairs) && !t.Implements(zeroer) && omittable(t) {
		return errorf("the option omitempty of its tag would leave out every %v, which msgpack takes for empty: leave the option away", t)
	}
	return nil
}

// omitted reports whether msgpack leaves out a field of a struct that is empty.
func omitted(in reflect.Type, f reflect.StructField) bool {
	whole, ok := in.FieldByName("_msgpack")
	return option(f, "msgpack", "omitempty") || ok && option(whole, "msgpack", "omitempty")
}

// omittable reports whether msgpack takes a struct for empty that has none of its omittable
// fields.
func omittable(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if (f.IsExported() || f.Anonymous) && f.Tag.Get("msgpack") != "-" && !omitted(t, f) {
			return false
		}
	}
	return true
}

func (r msgpackRules) inlines(f reflect.StructField) bool {
	if !f.Anonymous || !structOrPointer(f.Type) || option(f, "msgpack", "noinline") {
		return false
	}
	inner := f.Type
	if inner.Kind() == reflect.Pointer {
		inner = inner.Elem()
	}
	return option(f, "msgpack", "inline") || inner != reflect.TypeFor[time.Time]() && !touchesItself(inner, msgpackPairs)
}

func (r msgpackRules) key(t reflect.Type) error {
	if _, err := r.marshaler(t); err != nil {
		return err
	}
	k := t.Kind()
	if k == reflect.String || k == reflect.Bool || reflect.Int <= k && k < reflect.Uintptr {
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
