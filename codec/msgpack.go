package codec

import (
	"bytes"
	"reflect"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
)

// Msgpack encodes with github.com/vmihailenco/msgpack: smaller than JSON and
// faster. Structs are maps of field names, so that fields may come and go. A number
// in a field of type any comes back as the narrowest type that holds it.
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
	buf bytes.Buffer
	enc *msgpack.Encoder
}

var msgpackEncoders = sync.Pool{New: func() any {
	e := new(msgpackEncoder)
	e.enc = msgpack.NewEncoder(&e.buf)
	return e
}}

func (*msgpackCodec) Marshal(dst []byte, v any) ([]byte, error) {
	e := msgpackEncoders.Get().(*msgpackEncoder)
	e.buf.Reset()
	e.enc.Reset(&e.buf)
	e.enc.UseCompactInts(true)
	e.enc.UseCompactFloats(false)
	if err := e.enc.Encode(v); err != nil {
		return dst, err
	}
	dst = append(dst, e.buf.Bytes()...)
	if e.buf.Cap() <= maxPooled {
		msgpackEncoders.Put(e)
	}
	return dst, nil
}

type msgpackDecoder struct {
	r   bytes.Reader
	dec *msgpack.Decoder
}

var msgpackDecoders = sync.Pool{New: func() any {
	d := new(msgpackDecoder)
	d.dec = msgpack.NewDecoder(&d.r)
	return d
}}

func (*msgpackCodec) Unmarshal(data []byte, v any) error {
	if err := plausible(data); err != nil {
		return err
	}
	d := msgpackDecoders.Get().(*msgpackDecoder)
	d.r.Reset(data)
	d.dec.Reset(&d.r)
	err := d.dec.Decode(v)
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
