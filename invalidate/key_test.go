package invalidate_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/delqhi/cache/invalidate"
)

type failing struct{}

func (failing) MarshalText() ([]byte, error) { return nil, errors.New("boom") }

func TestKeyEncodesAsACacheDoes(t *testing.T) {
	type key struct {
		Tenant string
		IP     netip.Addr
		ID     int64
	}
	ip := netip.MustParseAddr("::1")
	for want, got := range map[string]string{
		"":                         invalidate.Key(),
		"a:b%":                     invalidate.Key("a:b%"),
		"-7":                       invalidate.Key(int8(-7)),
		"a%3Ab%25:true:7":          invalidate.Key("a:b%", true, uint16(7)),
		"acme:%3A%3A1:-7":          invalidate.Key(key{"acme", ip, -7}),
		"acme:%3A%3A1:-7:north":    invalidate.Key(key{"acme", ip, -7}, "north"),
		"acme%3A:%3A%3A1:0:::\xff": invalidate.Key("acme:", ip, 0, "", "", "\xff"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestKeyPanicsForWhatCannotBeAKey(t *testing.T) {
	for part, fields := range map[string][]any{
		"float64": {1.5}, "field 2 of the key is nil": {"a", nil}, "field 1 of the key: *int is a ptr": {new(int)}, "[]uint8": {[]byte("a")}, "boom": {"a", failing{}},
	} {
		func() {
			defer func() {
				text, ok := recover().(string)
				if !ok || !strings.HasPrefix(text, "invalidate.Key: ") || !strings.Contains(text, part) {
					t.Errorf("%v: the panic %q does not name %s", fields, text, part)
				}
			}()
			t.Errorf("%v is the key %q", fields, invalidate.Key(fields...))
		}()
	}
}

func TestQuotePatternEscapesWhatPatternsGiveAMeaning(t *testing.T) {
	if got, want := invalidate.QuotePattern(`a*b?c[d]e\f:%`), `a\*b\?c\[d\]e\\f:%`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
