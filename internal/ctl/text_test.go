package ctl_test

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/ctl"
)

// harmless reports whether a terminal prints s as it is.
func harmless(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })
}

// FuzzText checks that any bytes are printed as what a terminal does not obey, and that nothing
// of them is lost.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a", "a b", `"a"`, `a\b`, "\x1b[31m", "\u202e", "\u009b", "\xff", "\ufffd", "\U000e0001", "ü", "日本"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := ctl.Quote(s)
		if !harmless(q) || !harmless(ctl.Printable(s)) {
			t.Errorf("%q is printed as %q and %q", s, q, ctl.Printable(s))
		}
		if back, err := ctl.Unquoted(q); err != nil || back != s {
			t.Errorf("%q is printed as %s, which is read as %q, %v", s, q, back, err)
		}
		data, err := json.Marshal(ctl.Text(s))
		if err != nil {
			t.Fatal(err)
		}
		safe := ctl.SafeJSON(string(data))
		if !harmless(safe) {
			t.Errorf("%q is %q in JSON", s, safe)
		}
		var v any
		if err := json.Unmarshal([]byte(safe), &v); err != nil {
			t.Fatalf("%q is %s, which is no JSON: %v", s, safe, err)
		}
		if m, ok := v.(map[string]any); ok {
			raw, err := base64.StdEncoding.DecodeString(m["base64"].(string))
			v = string(raw)
			if err != nil {
				t.Error(err)
			}
		}
		if v != s {
			t.Errorf("%q is %s in JSON", s, safe)
		}
	})
}

// FuzzValue checks that any payload can be shown.
func FuzzValue(f *testing.F) {
	for _, c := range []codec.Codec{codec.JSON(), codec.Msgpack(), codec.Compressed(codec.JSON(), codec.Threshold(0)), codec.Compressed(codec.Msgpack(), codec.Threshold(0))} {
		b, err := c.Marshal(nil, map[string]any{"name": "Ann", "list": []any{"a", strings.Repeat("b", 100), nil, true}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("text"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		d := ctl.DecodeValue(payload, 0, "")
		_, shown := d.Shown()
		if shown != "" && !json.Valid([]byte(shown)) {
			t.Errorf("%q is shown as %s", payload, shown)
		}
		if shown == "" && d.Base64 != base64.StdEncoding.EncodeToString(payload) {
			t.Errorf("%q is shown as %q", payload, d.Base64)
		}
	})
}

func TestCodecsAreRecognised(t *testing.T) {
	val := map[string]any{"name": "Ann", "list": []any{"a", strings.Repeat("b", 100)}}
	want, err := json.Marshal(val)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]codec.Codec{
		"json": codec.JSON(), "msgpack": codec.Msgpack(),
		"s2(json)":    codec.Compressed(codec.JSON(), codec.Threshold(0)),
		"s2(msgpack)": codec.Compressed(codec.Msgpack(), codec.Threshold(0)),
	} {
		for _, c := range []codec.Codec{c, codec.Compressed(codec.JSON())} { // the second: too small to be compressed
			if c.Name() == "s2(json)" && name != "s2(json)" {
				continue
			}
			b, err := c.Marshal(nil, val)
			if err != nil {
				t.Fatal(err)
			}
			if as, shown := ctl.DecodeValue(b, 0, "").Shown(); as != name || shown != string(want) {
				t.Errorf("%s is taken for %q: %s", name, as, shown)
			}
		}
	}
	for text, name := range map[string]string{"hello, world\n": "raw", "\x00\x01\x02\xff": ""} {
		if as, _ := ctl.DecodeValue([]byte(text), 0, "").Shown(); as != name {
			t.Errorf("%q is taken for %q, want %q", text, as, name)
		}
	}
	key := make([]byte, 32)
	b, err := codec.Encrypted(codec.JSON(), key).Marshal(nil, val)
	if err != nil {
		t.Fatal(err)
	}
	if as, shown := ctl.DecodeValue(b, 0, "").Shown(); as != "" || shown != "" {
		t.Errorf("an encrypted value is taken for %q: %s", as, shown)
	}
}
