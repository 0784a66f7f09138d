package codec

import (
	"reflect"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
)

// Msgpack encodes with github.com/vmihailenco/msgpack: smaller than JSON and
// faster. Structs are maps of field names, so that fields may come and go. A number
// in a field of type any comes back as the narrowest type that holds it. A time keeps its
// offset from UTC, which standard timestamps lack: other readers know those in UTC only.
func Msgpack(opts ...MsgpackOption) Codec {
	c := new(msgpackCodec)
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

// Lossy accepts types with parts that do not survive encoding, such as unexported
// fields: the local tier then has what Redis has not.
func Lossy() LossyOption { return LossyOption{} }

func (LossyOption) applyJSON(c *jsonCodec)       { c.lossy = true }
func (LossyOption) applyMsgpack(c *msgpackCodec) { c.lossy = true }

type msgpackCodec struct{ lossy bool }

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

func (*msgpackCodec) Marshal(dst []byte, v any) (_ []byte, err error) {
	if tooDeep(reflect.ValueOf(v), maxValueDepth) {
		return dst, errorf("the value contains itself, or nests deeper than %d", maxValueDepth)
	}
	defer failed(&err)
	e := msgpackEncoders.Get().(*msgpackEncoder)
	e.buf.Reset()
	e.enc.Reset(&e.buf)
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

// failed turns a panic into an error: the decoder panics where a type does not fit what is
// there.
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

// tooDeep reports whether a value nests deeper than n, as one does that contains itself.
func tooDeep(v reflect.Value, n int) bool {
	if n == 0 {
		return true
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return !v.IsNil() && mayNest(v.Type()) && tooDeep(v.Elem(), n-1)
	case reflect.Slice, reflect.Array:
		if !mayNest(v.Type().Elem()) {
			return false
		}
		for i := range v.Len() {
			if tooDeep(v.Index(i), n-1) {
				return true
			}
		}
	case reflect.Map:
		if !mayNest(v.Type().Elem()) {
			return false
		}
		for it := v.MapRange(); it.Next(); {
			if tooDeep(it.Value(), n-1) {
				return true
			}
		}
	case reflect.Struct:
		if !mayNest(v.Type()) {
			return false
		}
		for i := range v.NumField() {
			if tooDeep(v.Field(i), n-1) {
				return true
			}
		}
	}
	return false
}

var nests sync.Map // of reflect.Type to bool

// mayNest reports whether values of a type can nest without bound: it refers to itself, or
// to an interface.
func mayNest(t reflect.Type) bool {
	if known, ok := nests.Load(t); ok {
		return known.(bool)
	}
	is := nestsIn(t, map[reflect.Type]bool{})
	nests.Store(t, is)
	return is
}

func nestsIn(t reflect.Type, around map[reflect.Type]bool) bool {
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map, reflect.Struct:
	default:
		return false
	}
	if around[t] {
		return true
	}
	around[t] = true
	defer delete(around, t)
	if t.Kind() != reflect.Struct {
		return nestsIn(t.Elem(), around)
	}
	for i := range t.NumField() {
		if nestsIn(t.Field(i).Type, around) {
			return true
		}
	}
	return false
}

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
	if c.lossy {
		return nil
	}
	return newTypeWalk(msgpackRules{}).check(t)
}
