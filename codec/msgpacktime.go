package codec

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Timestamps of msgpack have no zone, and its package reads them in the zone of the reader:
// from one record a process read Friday and another one Thursday. Times that are not in UTC are
// therefore written as timestamps of 16 bytes, no standard length: the 12 of the standard, and
// the offset. Those of a standard length are in UTC.
//
// The package has one encoder and one decoder for a type, for all its users. Those that are
// registered here do for other users what the package does.

const (
	timestamp   = -1 // the extension in the specification
	zonedLength = 16
)

// ownBuffer and ownReader distinguish the encoders and decoders of this package from others.
type (
	ownBuffer struct{ bytes.Buffer }
	ownReader struct{ bytes.Reader }
)

func init() {
	msgpack.RegisterExtDecoder(timestamp, time.Time{}, decodeTimestamp)
	msgpack.Register(time.Time{}, encodeTime, nil)
	msgpack.Register(map[string]any(nil), encodeMap, nil)
}

func encodeTime(e *msgpack.Encoder, v reflect.Value) error {
	t := v.Interface().(time.Time)
	if _, own := e.Writer().(*ownBuffer); !own || t.Location() == time.UTC {
		return e.EncodeTime(t)
	}
	var b [zonedLength]byte
	_, offset := t.Zone()
	binary.BigEndian.PutUint32(b[:], uint32(t.Nanosecond()))
	binary.BigEndian.PutUint64(b[4:], uint64(t.Unix()))
	binary.BigEndian.PutUint32(b[12:], uint32(int32(offset)))
	if err := e.EncodeExtHeader(timestamp, len(b)); err != nil {
		return err
	}
	_, err := e.Writer().Write(b[:])
	return err
}

// encodeMap is needed because the package's own does not use the registered encoder of a time.
func encodeMap(e *msgpack.Encoder, v reflect.Value) error {
	m, ok := v.Interface().(map[string]any)
	if !ok { // one with a name of its own
		m = v.Convert(reflect.TypeFor[map[string]any]()).Interface().(map[string]any)
	}
	if _, own := e.Writer().(*ownBuffer); !own || m == nil {
		return e.EncodeMap(m)
	}
	if err := e.EncodeMapLen(len(m)); err != nil {
		return err
	}
	for k, v := range m {
		if err := e.EncodeString(k); err != nil {
			return err
		}
		if err := encodeTop(e, v); err != nil {
			return err
		}
	}
	return nil
}

// encodeTop encodes the contents of an any.
func encodeTop(e *msgpack.Encoder, v any) error {
	if t, ok := v.(time.Time); ok {
		return encodeTime(e, reflect.ValueOf(t))
	}
	return e.Encode(v)
}

// decodeTop decodes into v, a pointer.
func decodeTop(d *msgpack.Decoder, v any) error {
	if t, ok := v.(*time.Time); ok {
		return d.DecodeValue(reflect.ValueOf(t).Elem())
	}
	return d.Decode(v)
}

func decodeTimestamp(d *msgpack.Decoder, v reflect.Value, length int) error {
	var b [zonedLength]byte
	if length < 0 || length > len(b) {
		return errorf("a timestamp of %d bytes", length)
	}
	if err := d.ReadFull(b[:length]); err != nil {
		return err
	}
	var t time.Time
	switch length {
	case 4:
		t = time.Unix(int64(binary.BigEndian.Uint32(b[:])), 0)
	case 8:
		both := binary.BigEndian.Uint64(b[:])
		t = time.Unix(int64(both&(1<<34-1)), int64(both>>34))
	case 12, zonedLength:
		t = time.Unix(int64(binary.BigEndian.Uint64(b[4:])), int64(binary.BigEndian.Uint32(b[:])))
	default:
		return errorf("a timestamp of %d bytes", length)
	}
	if length == zonedLength {
		// As package time does: the zone of the reader, if it has that offset at that time.
		offset := int(int32(binary.BigEndian.Uint32(b[12:])))
		if _, local := t.Zone(); local != offset {
			t = t.In(time.FixedZone("", offset))
		}
	} else if _, own := d.Buffered().(*ownReader); own || t.IsZero() {
		t = t.UTC()
	}
	v.Set(reflect.ValueOf(t))
	return nil
}
