// Package proto is a codec for protocol buffers, for caches of messages:
//
//	users, err := cache.New[int64, *userpb.User](rdb, "users", cache.WithCodec(proto.Codec()))
//
// It is a module of its own, so that google.golang.org/protobuf is no dependency of programs
// without it.
package proto

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/delqhi/cache/codec"
	"google.golang.org/protobuf/proto"
)

// Codec encodes messages in the binary format of protocol buffers. V is the pointer type that
// protoc-gen-go generates, such as *userpb.User; cache.New refuses others, structs of messages and
// the interface proto.Message included.
//
// A value comes back equal, by proto.Equal. Fields that the reader does not know are kept, and
// written again, so that programs with an older and a newer schema may share a cache; a record is
// a miss if it lacks a field that a proto2 schema requires. Not encoded are a nil message, which
// would come back as an empty one, one that lacks a required field, and strings that are not
// UTF-8: the write returns an error. Encoding is deterministic within one build of the program.
//
// Values of the local tier are shared by all readers, as always: do not modify a message that was
// read from the cache, or use cache.WithCloning.
//
// It can be wrapped: codec.Compressed(proto.Codec()).
func Codec() codec.Codec { return protobuf{} }

type protobuf struct{}

func (protobuf) Name() string { return "proto" }

var marshal = proto.MarshalOptions{Deterministic: true}

func (protobuf) Marshal(dst []byte, v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return dst, fmt.Errorf("proto: a %T is no message", v)
	}
	if !m.ProtoReflect().IsValid() {
		return dst, errNil
	}
	out, err := marshal.MarshalAppend(dst, m)
	if err != nil {
		return dst, err
	}
	return out, nil
}

var errNil = errors.New("proto: a nil message would come back as an empty one")

func (protobuf) Unmarshal(data []byte, v any) error {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() || check(target.Type().Elem()) != nil {
		return fmt.Errorf("proto: can't decode into a %T", v)
	}
	m := reflect.New(target.Type().Elem().Elem())
	// The decoder copies what it keeps of data.
	if err := proto.Unmarshal(data, m.Interface().(proto.Message)); err != nil {
		return err
	}
	target.Elem().Set(m)
	return nil
}

func (protobuf) CheckType(t reflect.Type) error { return check(t) }

var message = reflect.TypeFor[proto.Message]()

func check(t reflect.Type) error {
	switch {
	case t == nil:
		return errors.New("proto: nil is no message")
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct && t.Implements(message):
		return nil
	case t.Kind() == reflect.Struct && reflect.PointerTo(t).Implements(message):
		return fmt.Errorf("proto: a message must not be copied: use *%v in place of %v", t, t)
	}
	return fmt.Errorf("proto: %v is no message as protoc-gen-go generates it", t)
}
