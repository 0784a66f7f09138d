package codec

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"sync"
)

// JSON encodes with encoding/json, without escaping HTML. A value comes back equal, or its type
// is refused by CheckType, or the value is by Marshal. Equal has these exceptions:
//
//   - the contents of an interface of type any, in whatever place. Their type is not in the
//     record, so that only plain data is accepted: nil, booleans, numbers, strings, and
//     slices, arrays, and maps with strings as keys, of plain data, all of types without
//     names. It comes back as JSON decodes it: a number as float64 (json.Number with
//     [UseNumber], which is itself accepted then), a list as []any, a map as map[string]any, a
//     nil one as nil. All else is refused by Marshal: structs, pointers, types with names (a
//     time.Duration, say), []byte, types that encode themselves (a time.Time, say), and a
//     number that float64 can't hold;
//   - a time, which keeps its instant and its offset from UTC, without the name of the zone
//     and the monotonic clock;
//   - an empty slice or map in a field with omitempty, and a value that is zero by its
//     IsZero in one with omitzero: those come back nil, and as the zero value;
//   - a json.RawMessage, which loses its white space, and comes back as null if it is nil;
//     an empty json.Number, which comes back as 0;
//   - types that encode themselves, which come back as their own methods decode them.
func JSON(opts ...JSONOption) Codec {
	c := new(jsonCodec)
	for _, o := range opts {
		if o != nil {
			o.applyJSON(c)
		}
	}
	c.guards.format, c.guards.maxDepth = jsonFormat{useNumber: c.useNumber}, maxDepth
	return c
}

// JSONOption changes [JSON]: [Lossy], [UseNumber], [DisallowUnknownFields].
type JSONOption interface{ applyJSON(*jsonCodec) }

type jsonOption func(*jsonCodec)

func (f jsonOption) applyJSON(c *jsonCodec) { f(c) }

// UseNumber decodes numbers in fields of type any as json.Number.
func UseNumber() JSONOption { return jsonOption(func(c *jsonCodec) { c.useNumber = true }) }

// DisallowUnknownFields makes a record with a field that V lacks a miss.
func DisallowUnknownFields() JSONOption { return jsonOption(func(c *jsonCodec) { c.strict = true }) }

type jsonCodec struct {
	useNumber, strict bool
	guards            guards
}

func (*jsonCodec) Name() string { return "json" }

// jsonEncoder keeps a buffer and its encoder together.
type jsonEncoder struct {
	buf bytes.Buffer
	enc *json.Encoder
}

var jsonEncoders = sync.Pool{New: func() any {
	e := new(jsonEncoder)
	e.enc = json.NewEncoder(&e.buf)
	e.enc.SetEscapeHTML(false)
	return e
}}

// maxPooled prevents one huge value from holding memory for ever.
const maxPooled = 64 << 10

func (c *jsonCodec) Marshal(dst []byte, v any) ([]byte, error) {
	if !c.guards.lossy {
		if err := c.guards.check(v); err != nil {
			return dst, err
		}
	}
	e := jsonEncoders.Get().(*jsonEncoder)
	e.buf.Reset()
	if err := e.enc.Encode(v); err != nil {
		// Not back to the pool: an encoder keeps some errors.
		return dst, err
	}
	b := e.buf.Bytes()
	if replaced(b) && !comesBack(v, b) {
		return dst, errNotUTF8
	}
	dst = append(dst, b[:len(b)-1]...) // without the newline
	if e.buf.Cap() <= maxPooled {
		jsonEncoders.Put(e)
	}
	return dst, nil
}

// replaced reports whether the encoder has replaced invalid UTF-8 by U+FFFD: it does so by an
// escape, and writes a U+FFFD that was there before unescaped.
func replaced(b []byte) bool {
	mark := []byte(`\ufffd`)
	for at := 0; ; at++ {
		i := bytes.Index(b[at:], mark)
		if i < 0 {
			return false
		}
		at += i
		before := at // an escaped backslash is no escape
		for before > 0 && b[before-1] == '\\' {
			before--
		}
		if (at-before)%2 == 0 {
			return true
		}
	}
}

// comesBack reports whether the encoding of v stays the same when it is decoded and encoded
// again: the escapes may be those of a json.RawMessage, for example.
func comesBack(v any, b []byte) bool {
	if v == nil {
		return true
	}
	back := reflect.New(reflect.TypeOf(v))
	if json.Unmarshal(b, back.Interface()) != nil {
		return false
	}
	var again bytes.Buffer
	enc := json.NewEncoder(&again)
	enc.SetEscapeHTML(false)
	return enc.Encode(back.Elem().Interface()) == nil && bytes.Equal(again.Bytes(), b)
}

func (c *jsonCodec) Unmarshal(data []byte, v any) error {
	if !c.useNumber && !c.strict {
		return json.Unmarshal(data, v)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if c.useNumber {
		d.UseNumber()
	}
	if c.strict {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errorf("JSON is followed by something else")
	}
	return nil
}

func (c *jsonCodec) CheckType(t reflect.Type) error {
	if c.guards.lossy {
		return nil
	}
	return newTypeWalk(jsonRules{}).check(t)
}
