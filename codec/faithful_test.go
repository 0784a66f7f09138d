package codec

import (
	"encoding/json"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

type embedsOther struct {
	*embedsBack
	X int
}

type embedsBack struct {
	*embedsOther
	Y int
}

type node struct {
	Parent *node
	Kids   []*node
	Any    any
}

type octet uint8

// What a format would change in silence is refused by its type.
func TestTypesThatWouldChangeAreRefused(t *testing.T) {
	type event struct {
		time.Time
		Name string
	}
	type amount struct {
		*big.Int
		Currency string
	}
	type raw struct {
		json.RawMessage
		Name string
	}
	type inner struct{ E map[string][]event }
	for _, c := range []Codec{JSON(), Msgpack(), Compressed(JSON()), Compressed(Msgpack())} {
		for _, v := range []any{event{}, &event{}, amount{}, inner{}, embedsOther{}, embedsBack{}} {
			if err := c.(TypeChecker).CheckType(reflect.TypeOf(v)); err == nil {
				t.Errorf("%s accepts %T", c.Name(), v)
			}
		}
	}
	if err := JSON().(TypeChecker).CheckType(reflect.TypeFor[raw]()); err == nil {
		t.Error("JSON accepts a struct that is encoded as the RawMessage it embeds")
	}
	type pointer struct {
		*Base
		N int
	}
	for _, v := range []any{pointer{}, [2]octet{}} {
		if err := Msgpack().(TypeChecker).CheckType(reflect.TypeOf(v)); err == nil {
			t.Errorf("msgpack accepts %T", v)
		}
	}
}

type Base struct{ Kind string }

// What depends on the value is an error of the encoder, or comes back.
func TestValuesThatWouldChangeAreRefused(t *testing.T) {
	ring := &node{}
	ring.Kids = []*node{{Parent: ring}}
	self := map[string]any{}
	self["self"] = self
	for _, v := range []any{ring, node{Any: ring}, self} {
		for _, c := range []Codec{JSON(), Msgpack()} {
			if _, err := c.Marshal(nil, v); err == nil {
				t.Errorf("%s encodes a %T that contains itself", c.Name(), v)
			}
		}
	}
	for _, v := range []any{"\xff", map[string]int{"\xff": 1}, []any{"\xc0\xaf"}, struct{ S string }{"a\xffb"}, "\\\xff", `\` + "\xff"} {
		if data, err := JSON().Marshal(nil, v); err == nil {
			t.Errorf("JSON encodes %q as %s", v, data)
		}
	}
	for _, s := range []string{"\ufffd", `\ufffd`, `\\ufffd`, "a\\\ufffd", "ü", strings.Repeat(`\ufffd`, 100)} {
		var back string
		if data, err := JSON().Marshal(nil, s); err != nil {
			t.Errorf("%q: %v", s, err)
		} else if err = JSON().Unmarshal(data, &back); err != nil || back != s {
			t.Errorf("%q reads as %q, %v", s, back, err)
		}
	}
}

func TestMsgpackReadsWhatItWrites(t *testing.T) {
	for _, v := range []map[string]any{
		{"byID": map[int]string{1: "a"}}, {"set": map[bool]int{true: 1}}, {"names": map[string]int{"a": 1}}, {"empty": map[int]int{}},
		{"nested": map[string]any{"m": map[int]any{1: map[string]string{"a": "b"}}}},
	} {
		data, err := Msgpack().Marshal(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		var back map[string]any
		if err := Msgpack().Unmarshal(data, &back); err != nil || len(back) != 1 {
			t.Errorf("%v reads as %v, %v", v, back, err)
		}
	}
}

func TestADecoderThatDoesNotFitReturnsAnError(t *testing.T) {
	type before struct{ At *time.Time }
	type after struct{ At time.Time }
	data, err := Msgpack().Marshal(nil, before{})
	if err != nil {
		t.Fatal(err)
	}
	_ = Msgpack().Unmarshal(data, new(after)) // and no panic
}
