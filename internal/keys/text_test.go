package keys

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// folded reads what it writes, but as another key.
type folded struct{ s string }

func (f folded) MarshalText() ([]byte, error)  { return []byte(strings.ToLower(f.s)), nil }
func (f *folded) UnmarshalText(b []byte) error { f.s = string(b); return nil }

// level has a name for some of its values only.
type level int

func (l level) MarshalText() ([]byte, error) {
	if l == 1 {
		return []byte("one"), nil
	}
	return []byte("unknown"), nil
}

func (l *level) UnmarshalText(b []byte) error {
	if string(b) != "one" {
		return errors.New("unknown")
	}
	*l = 1
	return nil
}

// reference compares by address.
type reference struct{ p *string }

func (r reference) MarshalText() ([]byte, error)  { return []byte(*r.p), nil }
func (r *reference) UnmarshalText(b []byte) error { s := string(b); r.p = &s; return nil }

// scaled are equal by a method.
type scaled struct{ n, scale int }

func (s scaled) MarshalText() ([]byte, error)  { return bytes.Repeat([]byte("i"), s.n*s.scale), nil }
func (s *scaled) UnmarshalText(b []byte) error { *s = scaled{len(b), 1}; return nil }
func (s scaled) Equal(t scaled) bool           { return s.n*s.scale == t.n*t.scale }

type id [4]byte

func (d id) MarshalText() ([]byte, error)  { return hex.AppendEncode(nil, d[:]), nil }
func (d *id) UnmarshalText(b []byte) error { _, err := hex.Decode(d[:], b); clear(b); return err }

func encodes[K comparable](t *testing.T, k K) (string, error) {
	t.Helper()
	b, err := first(For[K]()).Append([]byte("pre:"), k)
	if err != nil && string(b) != "pre:" {
		t.Errorf("an error leaves %q", b)
	}
	return string(b), err
}

func refused[K comparable](t *testing.T, keys ...K) {
	t.Helper()
	for _, k := range keys {
		if text, err := encodes(t, k); err == nil || !strings.Contains(err.Error(), "Source.Key") {
			t.Errorf("%T %v is %q, %v", k, k, text, err)
		}
	}
}

// apart checks that different keys have different texts.
func apart[K comparable](t *testing.T, keys ...K) {
	t.Helper()
	seen := map[string]K{}
	for _, k := range keys {
		text, err := encodes(t, k)
		if other, twice := seen[text]; err != nil || twice {
			t.Errorf("%T %v is %q, as is %v; %v", k, k, text, other, err)
		}
		seen[text] = k
	}
}

func TestKeysWhoseTextIsThatOfOthersAreRefused(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1")
	refused(t, netip.PrefixFrom(a, -1), netip.PrefixFrom(b, 129))
	refused(t, netip.AddrPortFrom(netip.Addr{}, 80), netip.AddrPortFrom(netip.Addr{}, 81))
	refused(t, struct {
		N int
		P netip.Prefix
	}{1, netip.PrefixFrom(a, 33)})
	refused(t, struct{ netip.Prefix }{netip.PrefixFrom(a, -1)}, struct{ netip.Prefix }{netip.PrefixFrom(b, -1)})
	refused(t, struct{ netip.AddrPort }{netip.AddrPortFrom(netip.Addr{}, 80)})
	refused(t, folded{"A"}, folded{"aB"})
	refused(t, level(0), level(2))
	if _, err := Join("a", netip.PrefixFrom(a, -1)); err == nil {
		t.Error("Join takes an invalid prefix")
	}
	apart(t, netip.Prefix{}, netip.PrefixFrom(a, 8), netip.PrefixFrom(a, 0), netip.PrefixFrom(b, 0), netip.PrefixFrom(netip.AddrFrom16(a.As16()), 100))
	apart(t, netip.AddrPort{}, netip.AddrPortFrom(a, 0), netip.AddrPortFrom(b, 80))
	apart(t, netip.Addr{}, a, b, netip.AddrFrom16(a.As16()), netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("fe80::1%25"))
	apart(t, struct{ netip.Addr }{}, struct{ netip.Addr }{b})
	apart(t, folded{"a"}, folded{""})
	apart(t, level(1))
	s := "s"
	apart(t, reference{&s})
	apart(t, scaled{2, 3}, scaled{5, 1})
	apart(t, id{}, id{1}, id{0, 1})
	apart(t, time.Time{}, time.Now(), time.Unix(0, 0).UTC(), time.Unix(0, 0).In(time.FixedZone("", 3600)))
}

func BenchmarkTextThatIsReadBack(b *testing.B) {
	e, buf := first(For[id]()), make([]byte, 0, 100)
	for b.Loop() {
		_, _ = e.Append(buf, id{1, 2, 3, 4})
	}
}
