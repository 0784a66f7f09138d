// Package codec turns values into bytes and back.
//
// A cache has one [Codec]. JSON is the default, Raw that for strings and []byte.
// Compressed and Encrypted wrap another codec:
//
//	codec.Encrypted(codec.Compressed(codec.Msgpack()), key)
//
// In this order, since encrypted bytes can't be compressed.
//
// [Legacy] also reads what another cache has stored under the same keys. Protocol buffers have a
// codec in the module github.com/delqhi/cache/codec/proto.
//
// The local tier holds values as they are, Redis holds their encodings. A codec that silently
// loses a part of a value makes the two disagree; the codecs of this package detect that by the
// type, and cache.New refuses it. The option [Lossy] accepts the loss.
//
// To write a codec, implement [Codec] or use [Func], and have package codectest
// check it.
package codec

import "reflect"

// Codec turns values of a cache's type V into bytes and back. It is used by many
// goroutines at once.
type Codec interface {
	// Name is part of a record's type fingerprint: values written under another name are
	// misses. It must never change.
	Name() string
	// Marshal appends the encoded v, a V, to dst.
	Marshal(dst []byte, v any) ([]byte, error)
	// Unmarshal decodes data into v, a *V. It must neither modify data nor keep
	// any part of it.
	Unmarshal(data []byte, v any) error
}

// TypeChecker is implemented by codecs that can determine beforehand which types they can't
// encode. cache.New calls it.
type TypeChecker interface {
	CheckType(t reflect.Type) error
}

// KeyBound is implemented by codecs that bind the bytes to the Redis key they are stored under,
// as Encrypted does. The cache then calls these methods only.
type KeyBound interface {
	MarshalFor(redisKey string, dst []byte, v any) ([]byte, error)
	UnmarshalFor(redisKey string, data []byte, v any) error
}

// Sealer is implemented by codecs that authenticate, as Encrypted does. If Seals reports true,
// the cache seals everything that it relies on: values, the metadata in their records,
// absences, failures, leases, and the entries of a write-behind queue. A codec that wraps
// another one must pass these methods on; otherwise only the values are sealed, and bound to
// nothing but their Redis keys.
//
// Bytes sealed under a Redis key and a context open under no other ones.
type Sealer interface {
	Seals() bool
	// MarshalIn and UnmarshalIn are those of [KeyBound] with a context in addition.
	MarshalIn(redisKey string, context, dst []byte, v any) ([]byte, error)
	UnmarshalIn(redisKey string, context, data []byte, v any) error
	// SealIn appends plain, sealed; OpenIn returns it.
	SealIn(redisKey string, context, dst, plain []byte) []byte
	OpenIn(redisKey string, context, data []byte) ([]byte, error)
	// Mark authenticates a context in few bytes, and Marked reports whether mark is that of any
	// of the keys.
	Mark(redisKey string, context []byte) [8]byte
	Marked(redisKey string, context []byte, mark [8]byte) bool
}

// sealer returns c if it seals.
func sealer(c Codec) (Sealer, bool) {
	s, ok := c.(Sealer)
	return s, ok && s.Seals()
}

// checkInner is CheckType of a codec that is wrapped.
func checkInner(wrapper string, inner Codec, t reflect.Type) error {
	if isNil(inner) {
		return errorf("%s wraps nil: give it a codec, such as codec.JSON()", wrapper)
	}
	if _, ok := inner.(*legacy); ok {
		return errorf("%s wraps Legacy, which must be the outermost codec", wrapper)
	}
	if c, ok := inner.(TypeChecker); ok {
		return c.CheckType(t)
	}
	return nil
}

func isNil(c Codec) bool {
	if c == nil {
		return true
	}
	v := reflect.ValueOf(c)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// marshalIn calls the method that a codec prefers; context is nil if there is none.
func marshalIn(c Codec, redisKey string, context, dst []byte, v any) ([]byte, error) {
	if s, ok := sealer(c); ok && context != nil {
		return s.MarshalIn(redisKey, context, dst, v)
	}
	return marshalFor(c, redisKey, dst, v)
}

func unmarshalIn(c Codec, redisKey string, context, data []byte, v any) error {
	if s, ok := sealer(c); ok && context != nil {
		return s.UnmarshalIn(redisKey, context, data, v)
	}
	return unmarshalFor(c, redisKey, data, v)
}

// marshalFor calls the method that a codec prefers.
func marshalFor(c Codec, redisKey string, dst []byte, v any) ([]byte, error) {
	if kb, ok := c.(KeyBound); ok {
		return kb.MarshalFor(redisKey, dst, v)
	}
	return c.Marshal(dst, v)
}

func unmarshalFor(c Codec, redisKey string, data []byte, v any) error {
	if kb, ok := c.(KeyBound); ok {
		return kb.UnmarshalFor(redisKey, data, v)
	}
	return c.Unmarshal(data, v)
}

func innerName(c Codec) string {
	if isNil(c) {
		return "nil"
	}
	return c.Name()
}
