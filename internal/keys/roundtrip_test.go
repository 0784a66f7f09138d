package keys

import (
	"math"
	"math/rand/v2"
	"testing"
	"testing/quick"
)

type (
	named8  int8
	namedU  uint
	flag    bool
	address struct {
		Street string
		No     uint16
	}
)

// checkRoundTrip checks both ways: what Append writes, Decode reads; what Decode
// accepts, Append writes.
func checkRoundTrip[K comparable](t *testing.T, k K, encoded string) {
	t.Helper()
	e := first(For[K]())
	if got, ok := e.Decode(enc(t, k)); !ok || got != k {
		t.Errorf("%T %v comes back as %v, %v", k, k, got, ok)
	}
	if got, ok := e.Decode(encoded); ok && enc(t, got) != encoded {
		t.Errorf("%T: %q decodes to %v, which is %q", k, encoded, got, enc(t, got))
	}
}

func FuzzRoundTrip(f *testing.F) {
	for _, s := range []string{"", "0", "-0", "+1", "007", "-128", "128", "18446744073709551615", "18446744073709551616", "true", "False", "\x00\xff"} {
		f.Add(s, int64(math.MinInt64))
	}
	f.Fuzz(func(t *testing.T, s string, n int64) {
		checkRoundTrip(t, s, s)
		checkRoundTrip(t, Name(s), s)
		checkRoundTrip(t, int(n), s)
		checkRoundTrip(t, int8(n), s)
		checkRoundTrip(t, int16(n), s)
		checkRoundTrip(t, int32(n), s)
		checkRoundTrip(t, n, s)
		checkRoundTrip(t, uint(n), s)
		checkRoundTrip(t, uint8(n), s)
		checkRoundTrip(t, uint16(n), s)
		checkRoundTrip(t, uint32(n), s)
		checkRoundTrip(t, uint64(n), s)
		checkRoundTrip(t, uintptr(n), s)
		checkRoundTrip(t, named8(n), s)
		checkRoundTrip(t, namedU(n), s)
		checkRoundTrip(t, n%2 == 0, s)
		checkRoundTrip(t, flag(n%2 == 0), s)
	})
}

func TestIntegersOfEveryWidthAreInDecimal(t *testing.T) {
	for _, same := range [][2]string{
		{enc(t, int8(-128)), "-128"}, {enc(t, int16(math.MinInt16)), "-32768"}, {enc(t, int32(math.MinInt32)), "-2147483648"},
		{enc(t, uint8(255)), "255"}, {enc(t, uint16(math.MaxUint16)), "65535"}, {enc(t, uint32(math.MaxUint32)), "4294967295"},
		{enc(t, int64(math.MaxInt64)), "9223372036854775807"}, {enc(t, uintptr(0)), "0"},
	} {
		if same[0] != same[1] {
			t.Errorf("%q, want %q", same[0], same[1])
		}
	}
	unique := func(a, b int64) bool { return (enc(t, a) == enc(t, b)) == (a == b) }
	if err := quick.Check(unique, nil); err != nil {
		t.Error(err)
	}
}

// escape works in place: compare it with the obvious way.
func TestEscapeEqualsReplacing(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 5000 {
		s, before := word(r), word(r)
		want := before
		for i := range len(s) {
			switch s[i] {
			case '%':
				want += "%25"
			case ':':
				want += "%3A"
			default:
				want += s[i : i+1]
			}
		}
		if got := string(escape([]byte(before+s), len(before))); got != want {
			t.Fatalf("%q after %q becomes %q, want %q", s, before, got, want)
		}
	}
}

func TestAppendAllocatesNothingForNamedTypesAndStructs(t *testing.T) {
	buf := make([]byte, 0, 100)
	name, small, at := first(For[Name]()), first(For[namedU]()), first(For[address]())
	for what, f := range map[string]func(){
		"a named string":  func() { _, _ = name.Append(buf, "key") },
		"a named integer": func() { _, _ = small.Append(buf, 12345678) },
		"a struct":        func() { _, _ = at.Append(buf, address{"50% street: east", 4711}) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}
