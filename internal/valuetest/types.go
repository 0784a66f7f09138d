package valuetest

import (
	"encoding/json"
	"errors"
	"math/big"
	"net/netip"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Types of every kind. Their names say what they are.
type (
	Bool    bool
	Int     int
	Uint8   uint8
	Float   float64
	String  string
	Bytes   []byte
	Octets  []Uint8
	Ints    []int
	Strings []string
	Dict    map[string]any
	Words   map[string]string
	Flags   map[string]bool
	ByInt   map[Int]String
	Array   [3]int
	Moment  struct{ At time.Time }
	Ptr     *int
	Any     any

	Point  struct{ X, Y int }
	Point3 struct {
		Point
		Z int
	}
	point   struct{ X, Y int }
	Hidden3 struct {
		point
		Z int
	}
	Meta struct {
		Owner string            `json:"owner,omitempty" msgpack:"owner,omitempty"`
		Tags  []string          `json:"tags,omitempty" msgpack:"tags,omitempty"`
		Attrs map[string]string `json:"attrs,omitempty" msgpack:"attrs,omitempty"`
		At    time.Time         `json:"at,omitzero" msgpack:"at,omitempty"`
		Ptr   *Point            `json:"ptr,omitempty" msgpack:"ptr,omitempty"`
	}
	WithMeta struct {
		*Meta
		N int
	}
	WithPoint struct {
		*Point
		N int
	}
	Tagged struct {
		A int     `json:"x" msgpack:"y"`
		B string  `json:"b,string" msgpack:"b"`
		C int64   `json:",string"`
		D *string `json:"d,string"`
		E bool    `json:"e,string,omitempty"`
	}
	AsArray struct {
		//lint:ignore U1000 read by reflection
		_msgpack struct{} `msgpack:",as_array"`
		A        int
		B        string
		C        []int
	}
	OmitAll struct {
		//lint:ignore U1000 read by reflection
		_msgpack struct{} `msgpack:",omitempty"`
		A        int
		F        float64
		V        any
	}
	Interned struct {
		A string `msgpack:",intern"`
		B any    `msgpack:",intern"`
		C string
		M map[string]any
	}
	Zeros struct {
		At *time.Time `json:",omitzero" msgpack:",omitempty"`
		V  any        `json:",omitempty" msgpack:",omitempty"`
	}
	OmitZero struct {
		V Opt[float64] `json:",omitzero"`
		L [2]float32   `json:",omitzero"`
	}
	OmitOwn struct {
		A netip.Addr `json:",omitzero" msgpack:",omitempty"`
	}
	Node struct {
		V     int
		Next  *Node
		Kids  []Node
		Named map[string]*Node
	}
	Mutual         struct{ Other *Laum }
	Laum           struct{ Back []Mutual }
	Pair[A, B any] struct {
		First  A
		Second B
	}
	List[T any] struct {
		Head T
		Tail *List[T]
	}
	Opt[T any] struct {
		V  T
		OK bool
	}
	Nils struct {
		S  []int
		M  map[string]int
		P  *int
		B  []byte
		SS [][]string
		MM map[string]map[string][]int
		A  any
	}
	Embeds struct {
		String
		*Int
		Ints
	}
)

// What encodes itself.
type (
	JSONValue    struct{ n int }
	JSONPointer  struct{ n int }
	TextValue    struct{ s string }
	TextString   string
	TextEnum     int
	BinaryValue  struct{ b byte }
	MsgpackValue struct{ n int }
	CustomValue  struct{ n int }
	Upper        string             // its text is in upper case, and read as lower case
	TextOnly     int                // has no UnmarshalText
	ReadsOnly    int                // has no MarshalText
	Mixed        struct{ S string } // encodes as text, decodes as JSON
	TextPtr      struct{ S string } // text by value, binary by pointer
	ValueDecoder struct{ N int }
	Folded       struct{ S string } // keys fold
	JSONSlice    []string

	EmbedsTime struct{ time.Time }
	EventOf    struct {
		time.Time
		Name string
	}
	Amount struct {
		*big.Int
		Currency string
	}
	Amount2 struct {
		big.Int
		Currency string
	}
	OnlyInt   struct{ *big.Int }
	A         struct{ time.Time }
	B         struct{ time.Time }
	Ambiguous struct {
		A
		B
	}
	Forced struct {
		A `msgpack:",inline"`
		B `msgpack:",inline"`
	}
	Deep struct {
		EmbedsTime
		N int
	}
	RawAnd struct {
		json.RawMessage
		N int
	}
	AddrAnd struct {
		netip.Addr
		Port int
	}
	Codec interface {
		json.Marshaler
		json.Unmarshaler
	}
	ViaInterface struct{ Codec }
)

func (v JSONValue) MarshalJSON() ([]byte, error)    { return json.Marshal([]int{v.n}) }
func (v *JSONValue) UnmarshalJSON(b []byte) error   { return into(b, &v.n) }
func (v *JSONPointer) MarshalJSON() ([]byte, error) { return json.Marshal([]int{v.n}) }
func (v *JSONPointer) UnmarshalJSON(b []byte) error { return into(b, &v.n) }
func (v TextValue) MarshalText() ([]byte, error)    { return []byte("<" + v.s + ">"), nil }
func (v *TextValue) UnmarshalText(b []byte) error   { v.s = strings.Trim(string(b), "<>"); return nil }
func (v TextString) MarshalText() ([]byte, error)   { return []byte("<" + v + ">"), nil }
func (v *TextString) UnmarshalText(b []byte) error {
	*v = TextString(strings.Trim(string(b), "<>"))
	return nil
}
func (v TextEnum) MarshalText() ([]byte, error) { return []byte([]string{"zero", "one"}[v]), nil }
func (v *TextEnum) UnmarshalText(b []byte) error {
	*v = TextEnum(strings.Count(string(b), "one"))
	return nil
}
func (v BinaryValue) MarshalBinary() ([]byte, error)  { return []byte{v.b}, nil }
func (v *BinaryValue) UnmarshalBinary(b []byte) error { v.b = b[0]; return nil }
func (v MsgpackValue) MarshalMsgpack() ([]byte, error) {
	return msgpack.Marshal(v.n)
}
func (v *MsgpackValue) UnmarshalMsgpack(b []byte) error      { return msgpack.Unmarshal(b, &v.n) }
func (v CustomValue) EncodeMsgpack(e *msgpack.Encoder) error { return e.EncodeInt(int64(v.n)) }
func (v *CustomValue) DecodeMsgpack(d *msgpack.Decoder) error {
	n, err := d.DecodeInt()
	v.n = n
	return err
}
func (v Upper) MarshalText() ([]byte, error)        { return []byte(strings.ToUpper(string(v))), nil }
func (v *Upper) UnmarshalText(b []byte) error       { *v = Upper(strings.ToLower(string(b))); return nil }
func (TextOnly) MarshalText() ([]byte, error)       { return []byte("7"), nil }
func (v *ReadsOnly) UnmarshalText(b []byte) error   { *v = ReadsOnly(len(b)); return nil }
func (v Mixed) MarshalText() ([]byte, error)        { return []byte(v.S), nil }
func (v *Mixed) UnmarshalText(b []byte) error       { v.S = string(b); return nil }
func (v *Mixed) UnmarshalJSON(b []byte) error       { v.S = string(b); return nil }
func (v *Mixed) UnmarshalBinary(b []byte) error     { v.S = "b" + string(b); return nil }
func (v TextPtr) MarshalText() ([]byte, error)      { return []byte(v.S), nil }
func (v *TextPtr) UnmarshalText(b []byte) error     { v.S = string(b); return nil }
func (v *TextPtr) MarshalBinary() ([]byte, error)   { return []byte(v.S), nil }
func (v *TextPtr) UnmarshalBinary(b []byte) error   { v.S = "b" + string(b); return nil }
func (v ValueDecoder) MarshalText() ([]byte, error) { return []byte("x"), nil }

//lint:ignore SA4005 the mistake that is meant
func (v ValueDecoder) UnmarshalText([]byte) error { v.N = 1; return nil }

func (v Folded) MarshalText() ([]byte, error)    { return []byte(strings.ToLower(v.S)), nil }
func (v *Folded) UnmarshalText(b []byte) error   { v.S = string(b); return nil }
func (v JSONSlice) MarshalJSON() ([]byte, error) { return json.Marshal(struct{ L []string }{v}) }
func (v *JSONSlice) UnmarshalJSON(b []byte) error {
	var s struct{ L []string }
	err := json.Unmarshal(b, &s)
	*v = s.L
	return err
}

func into(b []byte, n *int) error {
	var list []int
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	if len(list) != 1 {
		return errors.New("not one")
	}
	*n = list[0]
	return nil
}
