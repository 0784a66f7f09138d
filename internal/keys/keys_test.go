package keys

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"path"
	"strings"
	"testing"
	"time"
)

type (
	pair   struct{ A, B string }
	triple struct{ A, B, C string }
	mixed  struct {
		Tenant string
		id     int64
		On     bool
	}
	nested struct {
		P pair
		N uint8
	}
	embedding struct {
		pair
		C string
	}
	single struct{ S string }
	blank  struct {
		_ [4]byte
		S string
	}
	text   struct{ s string }
	withIP struct {
		IP   netip.Addr
		Port uint16
	}
	failing struct{ N int }
	Name    string
)

func (x text) AppendText(b []byte) ([]byte, error) { return append(b, "<"+x.s+">"...), nil }
func (failing) MarshalText() ([]byte, error)       { return nil, errors.New("boom") }

func enc[K comparable](t testing.TB, k K) string {
	t.Helper()
	e, err := For[K]()
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.Append([]byte("pre:"), k)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(string(b), "pre:")
}

func TestKeysAreEncodedAsDocumented(t *testing.T) {
	for want, got := range map[string]string{
		"a:b%*":                enc(t, "a:b%*"),
		"-9223372036854775808": enc(t, int64(math.MinInt64)),
		"18446744073709551615": enc(t, uint64(math.MaxUint64)),
		"7":                    enc(t, uint8(7)),
		"true":                 enc(t, true),
		"named":                enc(t, Name("named")),
		"a%3Ab:c%25":           enc(t, pair{"a:b", "c%"}),
		"acme:-42:true":        enc(t, mixed{"acme", -42, true}),
		"x:y:255":              enc(t, nested{pair{"x", "y"}, 255}),
		"p:q:r":                enc(t, embedding{pair{"p", "q"}, "r"}),
		"as:it:is":             enc(t, single{"as:it:is"}),
		"only:this":            enc(t, blank{S: "only:this"}),
		"":                     enc(t, struct{}{}),
		"<t>":                  enc(t, text{"t"}),
		"::1":                  enc(t, netip.MustParseAddr("::1")),
		"%3A%3A1:80":           enc(t, withIP{netip.MustParseAddr("::1"), 80}),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	if got := enc(t, day); got != "2026-01-02T00:00:00Z" {
		t.Error(got)
	}
}

func TestWhatCannotBeAKeyIsRefused(t *testing.T) {
	type bad struct {
		OK  string
		Bad struct{ F float64 }
	}
	type hidden struct{ ip netip.Addr }
	_ = hidden{}.ip
	for part, err := range map[string]error{
		"float64": second(For[float64]()), "pointer": second(For[*time.Time]()), "array": second(For[[2]int]()), "chan": second(For[chan int]()),
		"interface": second(For[any]()), "bad.Bad.F": second(For[bad]()), "hidden.ip": second(For[hidden]()), "complex": second(For[complex64]()),
	} {
		if err == nil || !strings.Contains(err.Error(), strings.Split(part, " ")[0]) && part != "pointer" || !strings.Contains(fmt.Sprint(err), "Source.Key") {
			t.Errorf("%s: %v", part, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// alphabet is of what might be confused.
var alphabet = []string{"", ":", "%", "%3A", "%25", "a", "b", "\\", "*", "?", "[", "]", "\x00", "\xff", " ", "ü", "\n", "{", "}", "a:b", "::"}

func word(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(4) {
		b.WriteString(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}

func TestDifferentKeysNeverCollide(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	distinct(t, func() string { return word(r) })
	distinct(t, func() pair { return pair{word(r), word(r)} })
	distinct(t, func() triple { return triple{word(r), word(r), word(r)} })
	distinct(t, func() mixed { return mixed{word(r), r.Int64N(5) - 2, r.IntN(2) == 0} })
	distinct(t, func() nested { return nested{pair{word(r), word(r)}, uint8(r.IntN(256))} })
	distinct(t, func() embedding { return embedding{pair{word(r), word(r)}, word(r)} })
	distinct(t, func() int64 { return r.Int64() - math.MaxInt64/2 })
	distinct(t, func() int8 { return int8(r.IntN(256) - 128) })
	distinct(t, func() uint64 { return r.Uint64() })
	distinct(t, func() withIP {
		return withIP{netip.AddrFrom4([4]byte{byte(r.IntN(4)), 0, 0, byte(r.IntN(4))}), uint16(r.IntN(3))}
	})
}

func distinct[K comparable](t *testing.T, next func() K) {
	t.Helper()
	seen := map[string]K{}
	for range 20_000 {
		k := next()
		s := enc(t, k)
		if other, ok := seen[s]; ok && other != k {
			t.Fatalf("%#v and %#v are both %q", k, other, s)
		}
		seen[s] = k
	}
}

func TestDecodeReversesEncode(t *testing.T) {
	reversible(t, "", "a:b", "\xff")
	reversible(t, Name("n"))
	reversible(t, 0, -1, math.MaxInt, math.MinInt)
	reversible(t, int8(-128), 127)
	reversible(t, uint64(math.MaxUint64), 0)
	reversible(t, uintptr(1))
	reversible(t, true, false)
	for _, s := range []string{"007", "+7", "-0", "", " 1", "1 ", "300", "1e3", "0x1"} {
		e, _ := For[int8]()
		if k, ok := e.Decode(s); ok {
			t.Errorf("%q decodes to %d", s, k)
		}
	}
	b, _ := For[bool]()
	if _, ok := b.Decode("TRUE"); ok {
		t.Error("TRUE is no encoded bool")
	}
	for _, r := range []bool{first(For[pair]()).Reversible(), first(For[text]()).Reversible(), Func(func(s string) string { return s }).Reversible()} {
		if r {
			t.Error("only plain strings, integers and bools are reversible")
		}
	}
}

func first[T any](v T, _ error) T { return v }

func reversible[K comparable](t *testing.T, ks ...K) {
	t.Helper()
	e, err := For[K]()
	if err != nil || !e.Reversible() {
		t.Fatalf("%T is not reversible: %v", *new(K), err)
	}
	for _, k := range ks {
		if got, ok := e.Decode(enc(t, k)); !ok || got != k {
			t.Errorf("%v comes back as %v, %v", k, got, ok)
		}
	}
}

func TestAFailingMarshalerLeavesTheBufferAsItWas(t *testing.T) {
	e, err := For[failing]()
	if err != nil {
		t.Fatal(err)
	}
	dst, err := e.Append([]byte("pre"), failing{})
	if err == nil || string(dst) != "pre" || !strings.Contains(err.Error(), "boom") {
		t.Errorf("%q, %v", dst, err)
	}
}

func TestJoinEncodesAsAStructDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		a, b, n := word(r), word(r), r.Int64()
		for _, c := range []struct {
			want string
			got  []any
		}{
			{enc(t, a), []any{a}}, {enc(t, n), []any{n}}, {enc(t, pair{a, b}), []any{a, b}}, {enc(t, mixed{a, n, true}), []any{a, n, true}},
			{enc(t, pair{a, b}), []any{pair{a, b}}}, {enc(t, nested{pair{a, b}, 3}), []any{pair{a, b}, uint8(3)}}, {enc(t, single{a}), []any{a}},
		} {
			if got, err := Join(c.got...); err != nil || got != c.want {
				t.Fatalf("Join(%q) is %q, %v; a struct is %q", c.got, got, err, c.want)
			}
		}
	}
	for _, f := range []any{nil, 1.5, []string{"a"}, failing{}} {
		if _, err := Join("a", f); err == nil {
			t.Errorf("%T is accepted", f)
		}
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, 100)
	s, i := first(For[string]()), first(For[int64]())
	if n := testing.AllocsPerRun(100, func() {
		_, _ = s.Append(buf, "key")
		_, _ = i.Append(buf, 12345678)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("a:b", "c", "a", "b:c")
	f.Add("%", "3A", "%3A", "")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		if x, y := enc(t, pair{a, b}), enc(t, pair{c, d}); (x == y) != (a == c && b == d) {
			t.Fatalf("%q %q and %q %q: %q %q", a, b, c, d, x, y)
		}
		e := first(For[int]())
		if k, ok := e.Decode(a); ok && enc(t, k) != a {
			t.Fatalf("%q decodes to %d, which is %q", a, k, enc(t, k))
		}
		// path.Match agrees with Redis on escaped text without slashes.
		if q := QuotePattern(a); !strings.Contains(a+b, "/") {
			if ok, err := path.Match(q, a); !ok || err != nil {
				t.Fatalf("the pattern %q does not match %q: %v", q, a, err)
			}
			if ok, _ := path.Match(q, b); ok != (a == b) {
				t.Fatalf("the pattern %q for %q matches %q: %v", q, a, b, ok)
			}
		}
	})
}
