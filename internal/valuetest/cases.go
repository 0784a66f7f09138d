package valuetest

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"time"
)

// A Case is a value, and which of the formats keep it: the others refuse its type, or it.
type Case struct {
	Value         any
	JSON, Msgpack bool
}

// Cases returns new values each time.
func Cases() []Case {
	var cases []Case
	add := func(json, msgpack bool, vals ...any) {
		for _, v := range vals {
			cases = append(cases, Case{v, json, msgpack})
		}
	}
	both := func(vals ...any) { add(true, true, vals...) }
	none := func(vals ...any) { add(false, false, vals...) }
	onlyJSON := func(vals ...any) { add(true, false, vals...) }
	onlyMsgpack := func(vals ...any) { add(false, true, vals...) }
	scalars(both, none, onlyJSON, onlyMsgpack)
	containers(both, none, onlyJSON, onlyMsgpack)
	structs(both, none, onlyJSON, onlyMsgpack)
	library(both, none, onlyJSON, onlyMsgpack)
	methods(both, none, onlyJSON, onlyMsgpack)
	untyped(both, none, onlyJSON, onlyMsgpack)
	return cases
}

type adder = func(vals ...any)

func to[T any](v T) *T { return &v }

func scalars(both, none, onlyJSON, onlyMsgpack adder) {
	both(true, false, int(-1), int8(math.MinInt8), int16(math.MinInt16), int32(math.MinInt32), int64(math.MinInt64), int64(math.MaxInt64),
		uint(1), uint8(255), uint16(math.MaxUint16), uint32(math.MaxUint32), uint64(math.MaxUint64),
		float32(math.MaxFloat32), float32(0.1), math.SmallestNonzeroFloat64, math.MaxFloat64, math.Copysign(0, -1), 0.1,
		"", "a", "ü\u2028<&>\x00\ufffd", `\ufffd \\ufffd`, 'x',
		Bool(true), Int(-5), Uint8(5), Float(0.5), String("s"))
	onlyJSON(uintptr(7))
	onlyMsgpack(math.NaN(), math.Inf(1), float32(math.Inf(-1)), Float(math.NaN()), "\xff", String("a\xc0\xaf"), []float64{1, math.NaN()}, Opt[float64]{V: math.Inf(-1)})
	none(complex64(1i), 1i, []complex128{1i}, make(chan int), func() {}, struct{ F func() }{}, struct{ C chan int }{})
}

func containers(both, none, onlyJSON, onlyMsgpack adder) {
	one := 1
	both([]int(nil), []int{}, []int{1}, Ints(nil), Ints{}, Ints{2}, []string(nil), []string{}, []string{""}, Strings(nil), Strings{}, Strings{"x"},
		[]byte(nil), []byte{}, []byte{0, 255}, Bytes(nil), Bytes{}, Bytes{1}, Octets(nil), Octets{}, Octets{1, 255}, []Uint8{3},
		[][]byte{nil, {}, {1}}, [][]int{nil, {}, {1}}, []bool{true}, []float32{0.5}, []rune("ü"), []*int{nil, &one},
		[0]int{}, [3]int{1, 2, 3}, Array{1}, [2]string{"a"}, [4]byte{1, 2}, [0]byte{}, [2][]int{nil, {}}, [2][4]byte{{1}, {2}},
		map[string]int(nil), map[string]int{}, map[string]int{"": 1, "a": 2}, Words(nil), Words{}, Words{"a": "b"}, Flags(nil), Flags{}, Flags{"a": true},
		map[String]Bytes{"k": {1}, "e": {}, "n": nil}, map[int8]string{-1: "a"}, map[uint64]bool{math.MaxUint64: true}, ByInt(nil), ByInt{}, ByInt{-3: "c"},
		map[string][]string{"nil": nil, "empty": {}}, map[string]map[string]int{"nil": nil, "empty": {}}, map[string]*int{"nil": nil, "one": &one},
		map[string][2]byte{"a": {1, 2}}, map[int]Point{1: {2, 3}},
		(*int)(nil), &one, to("s"), to([]int{}), to(map[string]int{}), to([]byte{1}), (*Point)(nil), &Point{1, 2}, to(to(1)), (**int)(nil), to(Ints{1}), to([2]int{1}),
		to[any](1))
	onlyMsgpack(map[string]int{"\xff": 1}, map[String]string{"k": "\xff"}, []string{"\xff"}, map[bool]int{true: 1, false: 2})
	onlyJSON([2]Uint8{1, 2}, map[uintptr]int{1: 1}, map[netip.Addr]string{netip.MustParseAddr("::1"): "a", netip.MustParseAddr("1.2.3.4"): "b"},
		map[time.Time]int{time.Unix(0, 0).UTC(): 1, time.Unix(0, 5).UTC(): 2}, map[TextValue]int{{"a"}: 1, {"b"}: 2})
	none(map[float64]int{1: 1}, map[[2]int]int{{1, 2}: 1}, map[any]int{1: 1}, map[Point]int{{}: 1}, map[*int]int{&one: 1}, map[*TextValue]int{{"a"}: 1},
		map[AddrAnd]int{{Port: 1}: 1}, map[Folded]int{{"A"}: 1, {"a"}: 2}, map[TextOnly]int{1: 1}, map[ReadsOnly]int{1: 1},
		map[JSONPointer]int{{1}: 1},
		to([]int(nil)), to(map[string]int(nil)), to((*int)(nil)), to[any](nil), to[any]((*int)(nil)), to(Bytes(nil)), struct{ P *[]int }{to([]int(nil))})
}

func structs(both, none, onlyJSON, onlyMsgpack adder) {
	loop := &Node{V: 1}
	loop.Next = loop
	n := Int(3)
	both(struct{}{}, Point{1, -2}, Point3{Point{1, 2}, 3}, Hidden3{point{1, 2}, 3}, []Point3{{Z: 1}}, map[string]Point3{"a": {Z: 1}},
		Meta{}, Meta{Owner: "o", Tags: []string{"t"}, Attrs: map[string]string{"a": ""}, At: time.Unix(5, 0).UTC(), Ptr: &Point{}}, Meta{Tags: []string{}, Attrs: map[string]string{}},
		Tagged{A: 1, B: `"q" \ufffd`, C: math.MinInt64, D: to("d"), E: true}, Tagged{D: to("null")}, Tagged{},
		AsArray{A: 1, B: "b"}, AsArray{C: []int{}}, OmitAll{A: 1, F: 2, V: "x"}, OmitAll{}, Interned{A: "x", B: "x", C: "x", M: map[string]any{"x": "x"}}, Interned{B: ""},
		Node{V: 1, Next: &Node{V: 2}, Kids: []Node{{V: 3, Kids: []Node{}}}, Named: map[string]*Node{"a": {V: 4}, "nil": nil}}, Mutual{&Laum{Back: []Mutual{{}}}},
		Pair[int, []string]{1, []string{"a"}}, Pair[Pair[string, *int], map[string]Point]{First: Pair[string, *int]{"x", nil}, Second: map[string]Point{"p": {1, 2}}},
		List[string]{"a", &List[string]{Head: "b"}}, Opt[Opt[[]byte]]{V: Opt[[]byte]{V: []byte{}}},
		Nils{}, Nils{S: []int{}, M: map[string]int{}, P: to(0), B: []byte{}, SS: [][]string{nil, {}}, MM: map[string]map[string][]int{"a": nil, "b": {}, "c": {"x": nil, "y": {}}}},
		Embeds{String: "s", Int: &n, Ints: Ints{}}, Embeds{},
		Zeros{}, Zeros{At: to(time.Unix(1, 0).UTC()), V: "x"})
	both(OmitZero{}, OmitZero{V: Opt[float64]{V: 1}, L: [2]float32{0, 0.1}})
	onlyMsgpack(OmitZero{V: Opt[float64]{V: math.Copysign(0, -1)}}, OmitZero{L: [2]float32{1: float32(math.Copysign(0, -1))}})
	onlyJSON(OmitOwn{}, OmitOwn{netip.MustParseAddr("::1")}, WithPoint{}, WithPoint{Point: &Point{}, N: 1}, WithMeta{}, WithMeta{Meta: &Meta{Owner: "o"}}, OmitAll{V: 0}, OmitAll{F: math.Copysign(0, -1)}, Zeros{V: false})
	onlyMsgpack(Tagged{B: "a\xff"}, Tagged{D: to("\xff")})
	none(loop, *loop, WithMeta{Meta: &Meta{}}, WithMeta{Meta: &Meta{Tags: []string{}}}, struct{ a int }{1}, struct {
		A int `json:"-" msgpack:"-"`
	}{1}, struct {
		*point
		N int
	}{}, Zeros{At: &time.Time{}}, struct {
		N json.Marshaler
	}{})
}

func library(both, none, onlyJSON, onlyMsgpack adder) {
	paris := time.FixedZone("CET", 3600)
	lmt := time.FixedZone("LMT", 561)
	bigInt, _ := new(big.Int).SetString("-123456789012345678901234567890", 10)
	u, _ := url.Parse("https://u:p@h:1/a%2Fb?q=1#f")
	_, ipNet, _ := net.ParseCIDR("10.0.0.0/8")
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, paris)
	both(time.Time{}, time.Now(), time.Now().UTC(), at, &at, (*time.Time)(nil), []time.Time{at}, Moment{at}, map[string]time.Time{"a": at}, time.Date(1, 1, 1, 0, 0, 0, 0, paris), time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
		EmbedsTime{at}, Opt[time.Time]{V: at.Round(0)},
		time.Duration(-5), time.Month(3), net.HardwareAddr{1, 2}, json.Number(""), json.Number("12345678901234567890.5"), struct{ N json.Number }{"1e400"},
		bigInt, (*big.Int)(nil), []*big.Int{bigInt, nil, new(big.Int)}, big.NewRat(1, 3), big.NewFloat(0.5), new(big.Float).SetPrec(64).Quo(big.NewFloat(1), big.NewFloat(3)), (*big.Float)(nil),
		netip.Addr{}, netip.MustParseAddr("fe80::1%eth0"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParseAddrPort("[::1]:80"),
		net.ParseIP("1.2.3.4"), net.IP(nil), net.IPv4(1, 2, 3, 4).To4(), ipNet,
		sql.NullString{}, sql.NullString{String: "a", Valid: true}, sql.NullTime{Time: at, Valid: true}, sql.NullInt64{Int64: math.MaxInt64, Valid: true}, sql.Null[[]byte]{V: []byte{}, Valid: true})
	onlyMsgpack(time.Date(1850, 1, 1, 0, 0, 0, 0, lmt), Moment{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, EmbedsTime{time.Date(1850, 1, 1, 0, 0, 0, 0, lmt)}, []*time.Time{to(time.Date(1850, 1, 1, 0, 0, 0, 0, lmt))},
		u, (*url.URL)(nil), struct{ U *url.URL }{u}, json.RawMessage{}, json.Number("no number"), json.RawMessage(`{"a"`),
		to(json.RawMessage("null")))
	both(map[time.Month]int{1: 1}, slog.LevelWarn, map[slog.Level]int{slog.LevelInfo: 1})
	both(json.RawMessage(`{ "a": [1, 2] }`), struct{ R json.RawMessage }{json.RawMessage(`"x"`)}, json.RawMessage(`"\ufffd"`), json.RawMessage(`[1e999, "\u0041"]`))
	both(json.RawMessage(nil), struct{ R json.RawMessage }{})
	none(big.Int{}, struct{ N big.Int }{}, *u, to(json.RawMessage(nil)), big.NewFloat(0.1), new(big.Float).SetPrec(300).Quo(big.NewFloat(1), big.NewFloat(3)))
}

func methods(both, none, onlyJSON, onlyMsgpack adder) {
	at := time.Unix(1, 0).UTC()
	both(TextValue{"s"}, &TextValue{"s"}, (*TextValue)(nil), []TextValue{{"a"}}, map[string]TextValue{"a": {"b"}}, map[string]*TextValue{"nil": nil},
		TextString("x"), TextEnum(1), []TextEnum{0, 1}, Pair[TextString, *TextEnum]{"a", to(TextEnum(0))}, Upper("abc"), JSONSlice{"a"}, map[TextString]int{"a": 1}, map[Upper]int{"abc": 1}, map[TextEnum]int{0: 1, 1: 2})
	onlyJSON(TextPtr{"s"}, JSONValue{1}, &JSONValue{2}, []*JSONPointer{{1}, nil}, &JSONPointer{3}, struct{ V *JSONValue }{}, map[string]JSONValue{"a": {1}})
	onlyMsgpack(BinaryValue{1}, &BinaryValue{2}, []BinaryValue{{3}}, MsgpackValue{1}, &MsgpackValue{2}, CustomValue{3}, []*CustomValue{{4}, nil}, map[string]CustomValue{"a": {1}})
	none(JSONPointer{1}, struct{ V JSONPointer }{}, ValueDecoder{1}, Mixed{"s"}, TextOnly(1), ReadsOnly(1),
		EventOf{at, "n"}, &EventOf{at, "n"}, []EventOf{{at, "n"}}, Amount{big.NewInt(1), "EUR"}, &Amount{big.NewInt(1), "EUR"}, Amount2{Currency: "EUR"}, &Amount2{Currency: "EUR"},
		OnlyInt{big.NewInt(1)}, Deep{N: 1}, AddrAnd{Port: 1}, Forced{}, ViaInterface{&JSONValue{1}}, [1]Codec{&JSONValue{1}})
	onlyMsgpack(RawAnd{N: 1}, Ambiguous{A{at}, B{at}}, &Ambiguous{})
}

// untyped are values that interfaces hold: plain data comes back, all else is refused.
func untyped(both, none, onlyJSON, onlyMsgpack adder) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 7200))
	self := map[string]any{}
	self["self"] = self
	ring := []any{nil}
	ring[0] = ring
	var deep any
	for range 20_000 {
		deep = []any{deep}
	}
	hold := func(add adder, vals ...any) {
		for _, v := range vals {
			add(Opt[any]{V: v}, map[string]any{"v": v}, []any{v}, Dict{"v": v}, []Dict{{"v": v}}, Pair[Any, *Dict]{v, &Dict{"v": v}}, []Any{v}, map[string][]Any{"v": {v}}, [1]any{v}, []any{[]any{v}}, []any{map[string]any{"v": v}}, [][]any{{v}}, struct{ P *Opt[Any] }{&Opt[Any]{V: v}})
		}
	}
	hold(both, nil, true, 0, -1, int8(-3), int16(300), int32(-1<<31), int64(1<<53), uint(5), uint8(3), uint16(9), uint32(1<<31), uint64(1<<60), 0.5, math.Copysign(0, -1), math.MaxFloat64, math.SmallestNonzeroFloat64, 0.1, float32(0.5), 'x', "s", "", "\ufffd",
		[]any{}, []any{nil, 1, "a", []any{map[string]any{}}}, map[string]any{}, map[string]any{"a": nil, "b": map[string]any{"c": []any{1.5}}},
		[]any(nil), map[string]any(nil), []string(nil), map[string]int(nil), [][]int{nil, {}, {1}}, map[string][]string{"nil": nil, "empty": {}, "a": {"b"}},
		map[string]int{"a": 1}, map[string]string{}, map[string]map[string]bool{"a": {"b": true}}, []int{1}, []int64{}, []string{"a"}, []float64{0.1}, []bool{true}, []map[string]any{{"a": []int{1}}, nil},
		[2]int{1, 2}, [0]string{}, [2][]string{{"a"}, nil}, []any{[]any{[]string{"x"}}})
	both(Dict(nil), Dict{}, map[string]Dict{"nil": nil, "empty": {}}, []Dict{nil, {}}, []any(nil), map[string]any(nil), []Any(nil), map[string]Any{"nil": nil}, Nils{A: "a"}, to[Any]("a"))
	hold(onlyMsgpack, math.NaN(), math.Inf(-1), float32(0.1), "\xff", map[string]any{"\xff": 1}, []any{"\xff"}, map[string]string{"a": "\xff"},
		int64(1<<53+1), uint64(math.MaxUint64), int64(math.MaxInt64), []int64{1<<62 + 1}, []float32{0.1},
		map[int]string{1: "a"}, map[int64]any{-1: []any{}}, map[uint8]int{200: 1}, map[uint64]int{math.MaxUint64: 1, 1: 2}, map[bool]int{true: 1}, map[float64]any{0.5: 1}, map[float32]int{0.1: 1}, map[int]map[bool][]int{1: {true: {1}}},
		map[any]any{}, map[any]any{1: 2, int16(300): 3, "a": 4, true: 5, 0.5: 6}, map[any]string{"a": "b"}, []map[any]any{nil, {1: map[any]any{2: nil}}},
		[]byte("abc"), []byte(nil), []byte{}, [][]byte{{1}, {}, nil}, map[string][]byte{"a": {}}, at, []time.Time{at, {}}, map[string]time.Time{"at": at}, [1]time.Time{at}, time.Date(1850, 1, 1, 0, 0, 0, 0, time.FixedZone("", 61)))
	onlyMsgpack(map[string]Dict{"in": {"at": at, "in": []time.Time{at}}}, Pair[Dict, *Dict]{Dict{"at": at}, &Dict{"at": at}})
	hold(onlyJSON, uintptr(1))
	one, text := 1, "a"
	hold(none, 1i, make(chan int), func() {}, self, ring, deep,
		struct{ a int }{1}, &struct{ a int }{1}, struct{}{}, struct{ A int }{1}, Point{1, 2}, []Point{{}}, [1]Point{}, map[string]Point{"a": {}}, &Point{1, 2}, map[string]*Point{"nil": nil}, map[string]struct{}{"a": {}}, Node{V: 1}, Opt[int]{V: 1}, List[int]{Head: 1},
		&one, &text, (*int)(nil), to(&one), []*int{&one}, map[string]*int{"a": nil}, to([]int{1}), to(map[string]any{}), to[any](1), &at,
		Words{"a": "b"}, Flags{}, Dict{}, Dict(nil), []Dict{{}}, map[string]Dict{}, String("x"), Int(1), Uint8(1), Bool(true), Float(1), Bytes{1}, Octets{1}, Ints{}, Strings(nil), Array{1}, []String{"a"}, [2]Uint8{1}, map[String]int{"a": 1}, map[Int]int{1: 1}, [][]Uint8{{1}}, []Any{1}, time.Duration(1), time.Month(1), slog.LevelWarn,
		TextString("x"), TextEnum(1), TextValue{"s"}, &TextValue{"s"}, TextPtr{"s"}, JSONValue{1}, &JSONPointer{1}, JSONSlice{"a"}, Upper("a"), BinaryValue{1}, &MsgpackValue{1}, CustomValue{1}, Mixed{"s"}, TextOnly(1), map[TextEnum]int{0: 1}, map[TextString]int{"a": 1}, Folds{{"A"}: 1, {"a"}: 2},
		json.RawMessage(`1`), json.RawMessage(nil), []json.RawMessage{}, big.Int{}, big.NewInt(1), big.NewRat(1, 3), big.NewFloat(1), []*big.Rat{big.NewRat(1, 2)}, netip.MustParseAddr("::1"), map[netip.Addr]int{}, net.ParseIP("1.2.3.4"), &url.URL{Path: "/a"}, sql.NullString{}, sql.Null[int]{}, EventOf{at, "n"}, &at, map[time.Time]int{at: 1},
		errors.New("e"), []error{nil}, []error{errors.New("e")}, []fmt.Stringer{nil}, []fmt.Stringer{at}, map[string]error{}, &json.SyntaxError{Offset: 1},
		map[any]any{1: 1, int8(1): 2}, map[any]any{nil: 1}, map[any]int{[1]int{1}: 1}, map[any]int{Int(1): 1}, map[any]any{at: 1}, map[[2]int]int{{}: 1}, map[any]any{uintptr(1): 1}, map[*int]int{})
}

// Folds is a map whose keys may be encoded alike.
type Folds map[Folded]int
