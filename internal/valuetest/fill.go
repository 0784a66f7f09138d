package valuetest

import (
	"encoding/json"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"time"
)

// From makes a type and a value of it of bytes: the same of the same bytes.
func From(data []byte) any {
	m := &maker{data: data}
	v := reflect.New(m.typ(3)).Elem()
	m.fill(v, 4)
	return v.Interface()
}

type maker struct{ data []byte }

func (m *maker) byte() byte {
	if len(m.data) == 0 {
		return 0
	}
	b := m.data[0]
	m.data = m.data[1:]
	return b
}

func (m *maker) uint() (n uint64) {
	size := m.byte() % 9
	for range size {
		n = n<<8 | uint64(m.byte())
	}
	return n
}

func (m *maker) text() string {
	n := min(int(m.byte())%12, len(m.data))
	s := string(m.data[:n])
	m.data = m.data[n:]
	return s
}

// basic are the types that others are made of.
var basic = func() []reflect.Type {
	seen := map[reflect.Type]bool{}
	var list []reflect.Type
	for _, c := range Cases() {
		if t := reflect.TypeOf(c.Value); !seen[t] && t.Kind() != reflect.Func && t != reflect.TypeFor[ViaInterface]() {
			seen[t] = true
			list = append(list, t)
		}
	}
	return append(list, reflect.TypeFor[any](), reflect.TypeFor[any](), reflect.TypeFor[Any]())
}()

var tags = []string{"", "", "", `json:",omitempty" msgpack:",omitempty"`, `json:",omitzero" msgpack:"a"`, `json:",string"`, `json:"x" msgpack:"x"`, `json:"-" msgpack:"-"`, `msgpack:",intern"`, `json:"a\\b"`, `msgpack:"y,alias:x"`, `json:"-,"`}

func (m *maker) typ(depth int) reflect.Type {
	k := m.byte() % 12
	if depth == 0 || k < 5 {
		return basic[(int(m.byte())<<8|int(m.byte()))%len(basic)]
	}
	switch k {
	case 5:
		return reflect.PointerTo(m.typ(depth - 1))
	case 6:
		return reflect.SliceOf(m.typ(depth - 1))
	case 7:
		if t := m.typ(depth - 1); t.Size() < 1<<10 {
			return reflect.ArrayOf(int(m.byte()%3), t)
		}
	case 8, 9:
		if k := m.typ(0); k.Comparable() {
			return reflect.MapOf(k, m.typ(depth-1))
		}
	default:
		var fields []reflect.StructField
		for i := range m.byte() % 4 {
			fields = append(fields, reflect.StructField{Name: string('A' + rune(i)), Type: m.typ(depth - 1), Tag: reflect.StructTag(tags[int(m.byte())%len(tags)])})
		}
		return reflect.StructOf(fields)
	}
	return reflect.TypeFor[string]()
}

// fill sets what reflection can set.
func (m *maker) fill(v reflect.Value, depth int) {
	if !v.CanSet() || len(m.data) == 0 {
		return
	}
	if m.own(v) {
		return
	}
	n := int(m.byte()%4) - 1 // -1: nil
	if depth == 0 {
		n = -1
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(m.byte()%2 == 1)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(m.uint()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		v.SetUint(m.uint())
	case reflect.Float32, reflect.Float64:
		v.SetFloat([]float64{float64(m.uint()), 1 / float64(m.uint()), -0.1, -1 / (1 / float64(m.byte()))}[m.byte()%4])
	case reflect.String:
		v.SetString(m.text())
	case reflect.Pointer:
		if n >= 0 {
			v.Set(reflect.New(v.Type().Elem()))
			m.fill(v.Elem(), depth-1)
		}
	case reflect.Slice:
		if n >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				m.fill(v.Index(i), depth-1)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			m.fill(v.Index(i), depth-1)
		}
	case reflect.Map:
		if n >= 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				m.entry(v, depth-1)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			m.fill(v.Field(i), depth-1)
		}
	case reflect.Interface:
		if n >= 0 {
			in := reflect.New(m.typ(min(depth-1, 2))).Elem()
			m.fill(in, depth-1)
			if in.Type().Implements(v.Type()) {
				v.Set(in)
			}
		}
	}
}

func (m *maker) entry(v reflect.Value, depth int) {
	key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
	m.fill(key, min(depth, 1))
	m.fill(val, depth)
	defer func() { _ = recover() }() // a key that can't be compared
	v.SetMapIndex(key, val)
}

// own fills types of which reflection sees nothing.
func (m *maker) own(v reflect.Value) bool {
	switch p := v.Addr().Interface().(type) {
	case *time.Time:
		*p = time.Unix(int64(m.uint()>>24), int64(m.byte()))
		switch m.byte() % 4 {
		case 0:
			*p = p.UTC()
		case 1:
			*p = p.In(time.FixedZone("Z", (int(m.byte())-128)*300))
		case 2:
			*p = p.In(time.FixedZone("", int(m.byte())))
		}
	case **big.Int:
		*p = new(big.Int).Lsh(big.NewInt(int64(m.uint())), uint(m.byte()))
	case **big.Float:
		*p = new(big.Float).SetPrec(uint(m.byte())).Quo(big.NewFloat(1), big.NewFloat(float64(1+m.byte())))
	case **url.URL:
		*p, _ = url.Parse("https://h/" + url.PathEscape(m.text()))
	case *netip.Addr:
		*p = netip.AddrFrom4([4]byte{m.byte(), 1, 2, 3})
	case *json.RawMessage:
		*p, _ = json.Marshal(m.text())
	case *json.Number:
		*p = json.Number(big.NewInt(int64(m.uint())).String())
	case *TextEnum:
		*p = TextEnum(m.byte() % 2)
	case *Upper, *TextString, **Node, *Node, *Mixed, *Folded: // what their own methods change is theirs
	default:
		return false
	}
	return true
}
