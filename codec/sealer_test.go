package codec_test

import (
	"testing"

	"github.com/delqhi/cache/codec"
)

// What was sealed opens under the same key and context only, and a mark is good for them
// only, in whatever order codecs wrap each other.
func TestASealIsBoundToItsContext(t *testing.T) {
	for name, wrap := range map[string]func(keys ...[]byte) codec.Codec{
		"encrypted": func(keys ...[]byte) codec.Codec { return codec.Encrypted(codec.JSON(), keys...) },
		"by AES":    func(keys ...[]byte) codec.Codec { return codec.EncryptedAESGCM(codec.JSON(), keys...) },
		"compressed inside": func(keys ...[]byte) codec.Codec {
			return codec.Encrypted(codec.Compressed(codec.JSON(), codec.Threshold(0)), keys...)
		},
		"compressed outside": func(keys ...[]byte) codec.Codec {
			return codec.Compressed(codec.Encrypted(codec.JSON(), keys...), codec.Threshold(0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			old, both, fresh := wrap(key(1)).(codec.Sealer), wrap(key(2), key(1)).(codec.Sealer), wrap(key(2)).(codec.Sealer)
			if !old.Seals() {
				t.Fatal("it does not seal")
			}
			data, err := old.MarshalIn("k", []byte("context"), []byte("before"), "value")
			if err != nil {
				t.Fatal(err)
			}
			data = data[len("before"):]
			plain := old.SealIn("k", []byte("context"), []byte("before"), []byte("plain"))[len("before"):]
			mark := old.Mark("k", []byte("context"))
			for _, c := range []struct {
				what         string
				s            codec.Sealer
				key, context string
				ok           bool
			}{
				{"the same", old, "k", "context", true}, {"rotated", both, "k", "context", true}, {"a dropped key", fresh, "k", "context", false},
				{"another Redis key", old, "l", "context", false}, {"another context", old, "k", "contexts", false}, {"no context", old, "k", "", false},
				{"the key moved into the context", old, "", "kcontext", false}, {"and back", old, "kcontext", "", false},
			} {
				var v string
				if err := c.s.UnmarshalIn(c.key, []byte(c.context), data, &v); (err == nil && v == "value") != c.ok {
					t.Errorf("%s: %q, %v", c.what, v, err)
				}
				if got, err := c.s.OpenIn(c.key, []byte(c.context), plain); (err == nil && string(got) == "plain") != c.ok {
					t.Errorf("%s: %q, %v", c.what, got, err)
				}
				if ok := c.s.Marked(c.key, []byte(c.context), mark); ok != c.ok {
					t.Errorf("%s: the mark is good: %v", c.what, ok)
				}
			}
			var v string
			if old.UnmarshalIn("k", []byte("context"), plain, &v) == nil {
				t.Error("plain bytes are read as a value")
			}
		})
	}
	for _, c := range []codec.Codec{codec.Compressed(codec.JSON()), codec.Encrypted(codec.JSON()), codec.Compressed(nil)} {
		if c.(codec.Sealer).Seals() {
			t.Errorf("%s: it says that it seals", c.Name())
		}
	}
}
