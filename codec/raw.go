package codec

import (
	"fmt"
	"reflect"
)

// Raw is for values that are bytes already: strings, []byte and types of these
// kinds. Encoding copies nothing but into the record; decoding copies once, and
// not at all for a value read from Redis, whose reply the value then keeps. A nil
// slice comes back empty, not nil.
func Raw() Codec { return raw{} }

type raw struct{}

func (raw) Name() string { return "raw" }

func (raw) Marshal(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case []byte:
		return append(dst, v...), nil
	case string:
		return append(dst, v...), nil
	}
	switch rv := reflect.ValueOf(v); {
	case rv.IsValid() && rv.Kind() == reflect.String:
		return append(dst, rv.String()...), nil
	case rv.IsValid() && isBytes(rv.Type()):
		return append(dst, rv.Bytes()...), nil
	}
	return dst, fmt.Errorf("codec: Raw can't encode a %T", v)
}

func (r raw) Unmarshal(data []byte, v any) error {
	if s, ok := v.(*string); ok {
		*s = string(data)
		return nil
	}
	return r.UnmarshalOwned(append([]byte{}, data...), v)
}

// UnmarshalOwned is Unmarshal of data that the caller gives away and that is not modified any
// more: a []byte may be data itself.
func (raw) UnmarshalOwned(data []byte, v any) error {
	switch v := v.(type) {
	case *[]byte:
		*v = data[:len(data):len(data)]
		return nil
	case *string:
		*v = string(data)
		return nil
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("codec: Raw can't decode into a %T", v)
	}
	switch rv = rv.Elem(); {
	case rv.Kind() == reflect.String:
		rv.SetString(string(data))
	case isBytes(rv.Type()):
		rv.SetBytes(data[:len(data):len(data)])
	default:
		return fmt.Errorf("codec: Raw can't decode into a %T", v)
	}
	return nil
}

func (raw) CheckType(t reflect.Type) error {
	if t == nil || t.Kind() != reflect.String && !isBytes(t) {
		return fmt.Errorf("codec: Raw holds strings and []byte, not %v: use codec.JSON or codec.Msgpack", t)
	}
	return nil
}

func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

func errorf(format string, args ...any) error { return fmt.Errorf("codec: "+format, args...) }
