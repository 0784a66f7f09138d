package codec

import (
	"encoding"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
)

// jsonFormat has the guards of JSON.
type jsonFormat struct {
	jsonRules
	useNumber bool // numbers in an any come back as they are
}

func (jsonFormat) met(reflect.Type) {}

func (jsonFormat) isNil(v reflect.Value) bool {
	if raw, ok := v.Interface().(json.RawMessage); ok {
		return raw == nil || string(raw) == "null"
	}
	return !encodesItself(v.Type(), jsonPairs) && v.Kind() != reflect.Interface && v.IsNil()
}

func (r jsonFormat) special(g *guards, t reflect.Type) guard {
	if t == reflect.TypeFor[time.Time]() {
		return wholeMinutes
	}
	return special(g, t)
}

// wholeMinutes: the text of a time has no seconds of its offset.
func wholeMinutes(v reflect.Value, _ int) error {
	if _, offset := v.Interface().(time.Time).Zone(); offset%60 != 0 {
		return errorf("a time whose offset from UTC is no whole minutes would come back as another time: use its method UTC")
	}
	return nil
}

func (r jsonFormat) decodes(t reflect.Type) bool {
	return r.useNumber && t == reflect.TypeFor[json.Number]()
}

// heldKey: all keys are text, and a number would come back as one.
func (jsonFormat) heldKey(t reflect.Type) bool { return t == reflect.TypeFor[string]() }

// number: a number in an interface is read as a float64, or as the text that was written.
func (r jsonFormat) number(t reflect.Type) guard {
	err := errorf("a number in an interface would come back as another one, since it is read as a float64: see codec.UseNumber")
	switch k := t.Kind(); {
	case k == reflect.Float32:
		return func(v reflect.Value, _ int) error {
			if x, _ := strconv.ParseFloat(strconv.FormatFloat(v.Float(), 'g', -1, 32), 64); x != v.Float() {
				return errorf("a float32 in an interface is written with the digits of a float32, and would come back as another float64: store a float64")
			}
			return nil
		}
	case r.useNumber:
	case reflect.Int <= k && k <= reflect.Int64:
		return func(v reflect.Value, _ int) error {
			if x := float64(v.Int()); x >= 1<<63 || int64(x) != v.Int() {
				return err
			}
			return nil
		}
	case reflect.Uint <= k && k <= reflect.Uintptr:
		return func(v reflect.Value, _ int) error {
			if x := float64(v.Uint()); x >= 1<<64 || uint64(x) != v.Uint() {
				return err
			}
			return nil
		}
	}
	return nil
}

// keys: a string is written as it is, also where it has a MarshalText, and a type with
// UnmarshalJSON is read by that, if it has an UnmarshalText, too.
func (r jsonFormat) keys(t reflect.Type) guard {
	k := t.Key()
	writes := k.Kind() != reflect.String && k.Implements(textPair[0])
	reads := k != reflect.TypeFor[time.Time]() && reflect.PointerTo(k).Implements(textPair[1]) &&
		(k.Kind() == reflect.String || reflect.PointerTo(k).Implements(jsonPair[1]))
	if !writes && !reads {
		return nil
	}
	var look guard
	if writes {
		look = r.special(&guards{format: r}, k)
	}
	return distinct(func(k reflect.Value) (string, error) {
		if look != nil {
			if err := look(k, 0); err != nil {
				return "", err
			}
		}
		text, err := keyText(k)
		if err != nil || !reads {
			return text, err
		}
		quoted, err := json.Marshal(text)
		if err != nil {
			return "", err
		}
		back := reflect.New(k.Type())
		if err := json.Unmarshal(quoted, back.Interface()); err == nil {
			if again, err := keyText(back.Elem()); err == nil && again == text {
				return text, nil
			}
		}
		return "", errorf("a key of a %v would come back as another one: it is not read as it is written", t)
	})
}

// keyText is the JSON form of a key that marshals as text.
func keyText(k reflect.Value) (string, error) {
	if k.Kind() == reflect.String {
		return k.String(), nil
	}
	text, err := k.Interface().(encoding.TextMarshaler).MarshalText()
	return string(text), err
}

func (r jsonFormat) structField(_ reflect.Type, f reflect.StructField) guard {
	switch t := f.Type; {
	case f.Anonymous && t.Kind() == reflect.Pointer && r.inlines(f) && mayBeEmpty(t.Elem()):
		return func(v reflect.Value, _ int) error {
			if v.IsNil() {
				return nil
			}
			if b, err := json.Marshal(v.Interface()); err == nil && string(b) == "{}" {
				return errorf("an embedded %v of which all fields are left out would come back nil", t)
			}
			return nil
		}
	case quoted(f) && t.Kind() == reflect.String:
		return isText
	case quoted(f) && t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.String:
		return func(v reflect.Value, depth int) error {
			if v.IsNil() {
				return nil
			}
			return isText(v.Elem(), depth)
		}
	case option(f, "json", "omitzero") && t.Kind() == reflect.Pointer && t.Implements(zeroer):
		return zeroPointer
	case option(f, "json", "omitzero") && (t.Kind() == reflect.Struct || t.Kind() == reflect.Array) && !t.Implements(zeroer):
		return zeroSign(t)
	}
	return nil
}

// zeroSign refuses a struct or array that is zero but for the sign of a number: left out, it
// would come back without. It is nil for those without such numbers.
func zeroSign(t reflect.Type) guard {
	if !hasFloat(t) {
		return nil
	}
	return func(v reflect.Value, _ int) error {
		if v.IsZero() && signed(v) {
			return errorf("a %v with a negative zero would be left out by the tag of its field, and come back without the sign", t)
		}
		return nil
	}
}

func hasFloat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Float32, reflect.Float64:
		return true
	case reflect.Array:
		return hasFloat(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if hasFloat(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}

// signed reports whether a struct or array, all of it zero, has a negative zero.
func signed(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		return math.Signbit(v.Float())
	case reflect.Array:
		for i := range v.Len() {
			if signed(v.Index(i)) {
				return true
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if signed(v.Field(i)) {
				return true
			}
		}
	}
	return false
}

var errNotUTF8 = errorf("the value has a string that is not UTF-8, which JSON can't hold")

// isText: a string within a string is escaped twice, so that its encoding can't be compared.
func isText(v reflect.Value, _ int) error {
	if !utf8.ValidString(v.String()) {
		return errNotUTF8
	}
	return nil
}

// mayBeEmpty reports whether a struct can be encoded without any field.
func mayBeEmpty(t reflect.Type) bool {
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Name == "_" || option(f, "json", "omitempty") || option(f, "json", "omitzero"):
		case jsonRules{}.inlines(f) && (f.Type.Kind() == reflect.Pointer || mayBeEmpty(f.Type)):
		default:
			return false
		}
	}
	return true
}
