package keys

import (
	"encoding"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

type (
	promoted struct {
		netip.Addr
		Port int
	}
	wrapped     struct{ netip.Addr }
	deep        struct{ promoted }
	byPointer   struct{ *netip.Addr }
	byInterface struct{ encoding.TextMarshaler }
	base        struct{ ID netip.Addr }
	embedsBase  struct {
		base
		N int
	}
	hidesAddr struct {
		base netip.Addr
		N    int
	}
	hidesBase struct {
		b base
		N int
	}
	embedsHidden struct {
		text
		N int
	}
	two struct { // neither method is promoted: they are ambiguous
		netip.Addr
		netip.Prefix
	}
	pointerOnly struct{ N int }
	code        int
	overwriting struct{ N int }
)

func (*pointerOnly) MarshalText() ([]byte, error) { return []byte("pointer"), nil }
func (code) MarshalText() ([]byte, error)         { return []byte("a:b%"), nil }
func (code) String() string                       { return "Stringer" }

// AppendText breaks its contract in the worst way: it writes over what is there.
func (o overwriting) AppendText(b []byte) ([]byte, error) { return append(b[:0], "own"...), nil }

var errHalf = errors.New("half")

// Only their types matter.
var _, _ = hidesAddr{}.base, hidesBase{}.b

type half struct{ N int }

func (half) AppendText(b []byte) ([]byte, error) { return append(b, "half"...), errHalf }

func TestAPromotedMarshalerDoesNotSwallowOtherFields(t *testing.T) {
	for name, err := range map[string]error{
		"keys.promoted":                            second(For[promoted]()),
		"keys.deep.promoted":                       second(For[deep]()),
		"keys.byPointer.Addr is a ptr":             second(For[byPointer]()),
		"byInterface.TextMarshaler is a interface": second(For[byInterface]()),
		"keys.embedsHidden":                        second(For[embedsHidden]()),
	} {
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "Source.Key") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Join("a", promoted{}); err == nil || !strings.Contains(err.Error(), "field 2") {
		t.Errorf("Join: %v", err)
	}
	one, two4 := netip.MustParseAddr("::1"), netip.MustParsePrefix("10.0.0.0/8")
	if got := enc(t, wrapped{one}); got != "::1" {
		t.Errorf("alone it loses nothing, and is %q", got)
	}
	if got := enc(t, two{one, two4}); got != "%3A%3A1:10.0.0.0/8" {
		t.Errorf("without a promoted method the fields count: %q", got)
	}
}

func TestMarshalersOfFieldsAreCalledWhereTheyCanBe(t *testing.T) {
	if got := enc(t, embedsBase{base{netip.MustParseAddr("1.2.3.4")}, 5}); got != "1.2.3.4:5" {
		t.Errorf("an exported field of an embedded type: %q", got)
	}
	for name, err := range map[string]error{"hidesAddr.base": second(For[hidesAddr]()), "hidesBase.b": second(For[hidesBase]())} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAMarshalerComesBeforeTheKind(t *testing.T) {
	if got := enc(t, code(3)); got != "a:b%" {
		t.Errorf("an integer with a marshaler: %q", got)
	}
	if got := enc(t, struct{ A, B code }{1, 2}); got != "a%3Ab%25:a%3Ab%25" {
		t.Errorf("as fields: %q", got)
	}
	if first(For[code]()).Reversible() {
		t.Error("a marshaler can't be reversed")
	}
	if got := enc(t, pointerOnly{7}); got != "7" {
		t.Errorf("a marshaler of the pointer is not that of the value: %q", got)
	}
}

func TestABrokenAppenderCannotTouchThePrefix(t *testing.T) {
	e := first(For[overwriting]())
	for _, room := range []int{0, 2, 100} {
		prefix := slices.Grow([]byte("cache:"), room)
		got, err := e.Append(prefix, overwriting{})
		if err != nil || string(got) != "cache:own" {
			t.Errorf("with room for %d: %q, %v", room, got, err)
		}
	}
}

func TestTheErrorOfAMarshalerIsWrapped(t *testing.T) {
	type keyed struct {
		S string
		H half
	}
	e := first(For[keyed]())
	dst, err := e.Append([]byte("pre"), keyed{S: "s"})
	if !errors.Is(err, errHalf) || string(dst) != "pre" {
		t.Errorf("%q, %v", dst, err)
	}
	if _, err := Join("s", half{}); !errors.Is(err, errHalf) {
		t.Errorf("Join: %v", err)
	}
}
