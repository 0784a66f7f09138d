package codec

import (
	"reflect"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
)

// Msgpack encodes with github.com/vmihailenco/msgpack: smaller than JSON and faster. Structs
// are maps of field names, so that fields may be added and removed. A value comes back equal,
// or its type is refused by CheckType, or the value is by Marshal. Equal has these exceptions:
//
//   - the contents of an interface of type any, in whatever place. Their type is not in the
//     record, so that only plain data is accepted: nil, booleans, numbers, strings, []byte,
//     time.Time, and slices, arrays, and maps with strings, numbers or booleans as keys, of
//     plain data, all but time.Time of types without names. It comes back as msgpack decodes
//     it: an integer as the narrowest type that holds it, a list as []any (of bytes: as
//     []byte), a map as map[string]any if all keys are strings, else as map[any]any, a nil one
//     as nil. All else is refused by Marshal: structs, pointers, types with other names (a
//     time.Duration, say), and other types that encode themselves;
//   - a time, which keeps its instant and its offset from UTC, without the name of the zone
//     and the monotonic clock. Standard timestamps lack the offset: other programs can read
//     times that are not in UTC only if they support this form;
//   - an empty slice or map in a field with omitempty, which comes back nil, and a value that
//     is zero by its IsZero there;
//   - types that encode themselves, which come back as their own methods decode them.
func Msgpack(opts ...MsgpackOption) Codec {
	c := &msgpackCodec{guards{format: msgpackFormat{}, maxDepth: maxValueDepth}}
	for _, o := range opts {
		if o != nil {
			o.applyMsgpack(c)
		}
	}
	return c
}

// MsgpackOption changes [Msgpack]: [Lossy].
type MsgpackOption interface{ applyMsgpack(*msgpackCodec) }

// LossyOption is the type of [Lossy], an option of both JSON and Msgpack.
type LossyOption struct{}

// Lossy accepts types with parts that do not survive encoding, such as unexported fields: the
// local tier then has parts that Redis does not have.
func Lossy() LossyOption { return LossyOption{} }

func (LossyOption) applyJSON(c *jsonCodec)       { c.guards.lossy = true }
func (LossyOption) applyMsgpack(c *msgpackCodec) { c.guards.lossy = true }

type msgpackCodec struct{ guards guards }

func (*msgpackCodec) Name() string { return "msgpack" }

type msgpackEncoder struct {
	buf ownBuffer
	enc *msgpack.Encoder
}

var msgpackEncoders = sync.Pool{New: func() any {
	e := new(msgpackEncoder)
	e.enc = msgpack.NewEncoder(&e.buf)
	return e
}}

func (c *msgpackCodec) Marshal(dst []byte, v any) (_ []byte, err error) {
	defer failed(&err)
	if err := c.guards.check(v); err != nil {
		return dst, err
	}
	e := msgpackEncoders.Get().(*msgpackEncoder)
	e.buf.Reset()
	e.enc.Reset(&e.buf)
	e.enc.SetCustomStructTag(structTag)
	e.enc.UseCompactInts(true)
	e.enc.UseCompactFloats(false)
	if err := encodeTop(e.enc, v); err != nil {
		return dst, err
	}
	dst = append(dst, e.buf.Bytes()...)
	if e.buf.Cap() <= maxPooled {
		msgpackEncoders.Put(e)
	}
	return dst, nil
}

type msgpackDecoder struct {
	r   ownReader
	dec *msgpack.Decoder
}

var msgpackDecoders = sync.Pool{New: func() any {
	d := new(msgpackDecoder)
	d.dec = msgpack.NewDecoder(&d.r)
	return d
}}

// failed turns a panic into an error: the decoder panics where a type does not fit the data.
func failed(err *error) {
	if v := recover(); v != nil {
		*err = errorf("msgpack: %v", v)
	}
}

// untypedMap decodes a map into an any: as a map[string]any if all keys are strings.
func untypedMap(d *msgpack.Decoder) (any, error) {
	m, err := d.DecodeUntypedMap()
	if err != nil {
		return nil, err
	}
	named := make(map[string]any, len(m))
	for k, v := range m {
		s, ok := k.(string)
		if !ok {
			return m, nil
		}
		named[s] = v
	}
	return named, nil
}

// maxValueDepth is how deep a value may nest that is encoded.
const maxValueDepth = 1000

// structTag is a tag that no field has: the package caches structs by it, so that those cached
// under it come from this codec only, after msgpackFormat.met.
const structTag = "\x00"

func (*msgpackCodec) Unmarshal(data []byte, v any) (err error) {
	defer failed(&err)
	if err := plausible(data); err != nil {
		return err
	}
	d := msgpackDecoders.Get().(*msgpackDecoder)
	d.r.Reset(data)
	d.dec.Reset(&d.r)
	d.dec.SetMapDecoder(untypedMap)
	err = decodeTop(d.dec, v)
	if err == nil && d.r.Len() > 0 {
		err = errorf("msgpack is followed by %d bytes", d.r.Len())
	}
	d.r.Reset(nil)
	msgpackDecoders.Put(d)
	return err
}

func (c *msgpackCodec) CheckType(t reflect.Type) error {
	if c.guards.lossy {
		return nil
	}
	return newTypeWalk(msgpackRules{}).check(t)
}
