package ctl

import (
	stdbytes "bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/usercode"
)

// A record has no name of its codec and of the type of its value, only a hash of both. The
// codecs of this library are recognised by the form of what they write; the hash confirms the
// guess where the type is one that has a name everywhere, or that the operator has named.

// decodedValue is a value as far as it can be shown.
type decodedValue struct {
	Codec    string          `json:"codec"`         // "" for one that is not known
	Sure     bool            `json:"codec_is_sure"` // the hash in the record confirms it
	TypeName string          `json:"type_name,omitempty"`
	JSON     json.RawMessage `json:"json,omitempty"`
	Base64   string          `json:"base64,omitempty"`
	Size     int             `json:"size"`
	hidden   bool
}

// maxShown bounds what a compressed value may grow to.
const maxShown = 64 << 20

// commonTypes are types of values that are written alike in every program; the names are those
// of the type's description in a fingerprint.
var commonTypes = []string{
	"string", "[]uint8", "int", "int64", "int32", "uint64", "uint32", "bool", "float64", "float32",
	"interface {}", "map[string]interface {}", "map[string]string", "[]string", "[]int", "[]int64", "[]interface {}",
}

var codecNames = func() (list []string) {
	plain := []string{"json", "msgpack", "raw"}
	for _, n := range plain {
		list = append(list, n, "s2("+n+")")
	}
	for _, n := range list {
		for _, by := range []string{"xchacha20poly1305", "aes256gcm"} {
			list = append(list, by+"("+n+")", "s2("+by+"("+n+"))")
		}
	}
	return list
}()

// identify finds the codec and the type that have a fingerprint. typ is a type that the operator
// has named, as in "example.com/shop.User", "*example.com/shop.User", or "".
func identify(fingerprint uint64, typ string) (codecName, typeName string, ok bool) {
	types := commonTypes
	if typ != "" {
		types = []string{strings.ReplaceAll(typ, "[]byte", "[]uint8"), typ}
	}
	for _, t := range types {
		for _, c := range codecNames {
			if xxhash.Sum64String(c+"\x00"+t) == fingerprint {
				return c, t, true
			}
		}
	}
	return "", "", false
}

// decodeValue decodes the payload of a value.
func decodeValue(payload []byte, fingerprint uint64, typ string) decodedValue {
	d := decodedValue{Size: len(payload)}
	d.Codec, d.TypeName, d.Sure = identify(fingerprint, typ)
	if !d.Sure {
		d.Codec = guess(payload)
	}
	if v, ok := decodeAs(d.Codec, payload); ok {
		d.JSON = v
	} else {
		d.Base64 = base64.StdEncoding.EncodeToString(payload)
	}
	return d
}

// guess recognises a codec by what it writes, "" if it can't. The order matters: what is JSON is
// most probably that.
func guess(payload []byte) string {
	for _, c := range []string{"json", "s2(json)", "s2(msgpack)", "s2(raw)", "raw", "msgpack"} {
		if c == "s2(raw)" && (len(payload) == 0 || payload[0] != 1) {
			continue // an uncompressed text behind a zero is as probably something else
		}
		if c == "s2(msgpack)" && len(payload) < 3 {
			continue
		}
		if _, ok := decodeAs(c, payload); ok {
			return c
		}
	}
	return ""
}

// decodeAs returns the JSON of what a codec has written.
func decodeAs(name string, payload []byte) (v json.RawMessage, ok bool) {
	switch name {
	case "json":
		var b stdbytes.Buffer
		if json.Compact(&b, payload) != nil || !utf8.Valid(payload) {
			return nil, false
		}
		return b.Bytes(), true
	case "raw":
		if !utf8.Valid(payload) || strings.ContainsFunc(string(payload), func(r rune) bool {
			return !strconv.IsPrint(r) && r != '\n' && r != '\t' && r != '\r'
		}) {
			return nil, false
		}
		v, err := json.Marshal(string(payload))
		return v, err == nil
	case "msgpack":
		var val any
		err := usercode.Call(func() error { return codec.Msgpack().Unmarshal(payload, &val) })
		if err != nil {
			return nil, false
		}
		v, err := json.Marshal(jsonable(val))
		return v, err == nil
	}
	if inner, is := strings.CutPrefix(name, "s2("); is {
		var plain []byte
		c := codec.Compressed(codec.Raw(), codec.MaxSize(maxShown))
		if c.Unmarshal(payload, &plain) != nil {
			return nil, false
		}
		return decodeAs(strings.TrimSuffix(inner, ")"), plain)
	}
	return nil, false
}

// jsonable makes a value of Msgpack one that JSON can write: maps with keys of any type get
// their texts.
func jsonable(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = jsonable(e)
		}
		return out
	case map[any]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[fmt.Sprint(k)] = jsonable(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = jsonable(e)
		}
		return out
	}
	return v
}
