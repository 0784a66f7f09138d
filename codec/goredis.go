package codec

import (
	"reflect"

	"github.com/klauspost/compress/s2"
)

// DecodeGoRedisCache decodes a value that github.com/go-redis/cache, versions 8 and 9, has stored
// with its own Marshal, for [Legacy]: msgpack and a byte that says whether it is compressed. A
// []byte and a string are stored as they are, without that byte. Structs are read by their field
// names, or the names in their msgpack tags, as there. A value that is compressed is refused if it
// would be larger than 64 MiB.
func DecodeGoRedisCache(data []byte, v any) error {
	switch rv := reflect.ValueOf(v); {
	case rv.Kind() != reflect.Pointer || rv.IsNil():
		return errorf("can't decode into a %T", v)
	case rv.Type().Elem() == reflect.TypeFor[[]byte](), rv.Type().Elem() == reflect.TypeFor[string]():
		return raw{}.Unmarshal(data, v)
	}
	if len(data) == 0 {
		return errorf("a record of go-redis/cache is empty")
	}
	body, marker := data[:len(data)-1], data[len(data)-1]
	switch marker {
	case 0:
		return goRedisMsgpack.Unmarshal(body, v)
	case 1:
	default:
		return errorf("a record of go-redis/cache ends with %#x", marker)
	}
	n, err := s2.DecodedLen(body)
	if err != nil {
		return err
	}
	if n > defaultMaxSize || !checkBlock(body, n) {
		return s2.ErrCorrupt
	}
	plain, err := s2.Decode(make([]byte, n), body)
	if err != nil {
		return err
	}
	return goRedisMsgpack.Unmarshal(plain, v)
}

var goRedisMsgpack = Msgpack(Lossy())
