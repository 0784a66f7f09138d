package codec_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/codec"
	"github.com/klauspost/compress/s2"
	"github.com/vmihailenco/msgpack/v5"
)

// goRedisCache makes of a value what go-redis/cache stores; migration has the test with the
// module itself.
func goRedisCache(t testing.TB, v any, compressed bool) []byte {
	t.Helper()
	b, err := msgpack.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if compressed {
		return append(s2.Encode(nil, b), 1)
	}
	return append(b, 0)
}

func TestRecordsOfGoRedisCacheAreRead(t *testing.T) {
	type user struct {
		ID     int64
		Name   string `msgpack:"n"`
		Tags   []string
		At     time.Time
		hidden int
	}
	at := time.Date(2026, 11, 29, 12, 0, 0, 5, time.UTC)
	want := user{ID: 7, Name: strings.Repeat("Ada ", 100), Tags: []string{"a"}, At: at}
	for _, compressed := range []bool{false, true} {
		data := goRedisCache(t, &want, compressed)
		before := bytes.Clone(data)
		var got user
		if err := codec.DecodeGoRedisCache(data, &got); err != nil || got.ID != want.ID || got.Name != want.Name || !got.At.Equal(at) || got.hidden != 0 {
			t.Errorf("compressed %v: %+v, %v", compressed, got, err)
		}
		var ptr *user
		if err := codec.DecodeGoRedisCache(data, &ptr); err != nil || ptr == nil || ptr.ID != want.ID {
			t.Errorf("compressed %v: %+v, %v", compressed, ptr, err)
		}
		if !bytes.Equal(data, before) {
			t.Error("the input is modified")
		}
	}
	var n int
	if err := codec.DecodeGoRedisCache(goRedisCache(t, 42, false), &n); err != nil || n != 42 {
		t.Error(n, err)
	}
	var s string
	if err := codec.DecodeGoRedisCache([]byte("as it is\x01"), &s); err != nil || s != "as it is\x01" {
		t.Errorf("%q, %v", s, err)
	}
	data := []byte("bytes")
	var b []byte
	if err := codec.DecodeGoRedisCache(data, &b); err != nil || string(b) != "bytes" {
		t.Errorf("%q, %v", b, err)
	}
	if data[0] = 'B'; string(b) != "bytes" {
		t.Error("the input is kept")
	}
}

func TestWhatIsNoneOfGoRedisCacheIsRefused(t *testing.T) {
	good := goRedisCache(t, map[string]any{"a": 1}, false)
	bomb := append(s2.Encode(nil, make([]byte, 65<<20)), 1)
	for name, data := range map[string][]byte{
		"nothing": {}, "the marker alone": {0}, "another marker": append(bytes.Clone(good[:len(good)-1]), 2),
		"cut off": good[:len(good)-2], "no block": {1, 2, 3, 1}, "a bomb": bomb, "JSON": []byte(`{"a":1}`),
		"a record of this library": []byte("\xC5dq\x01\x01\x00\x00\x00"), "a false size": {0xff, 0xff, 0xff, 0x1f, 0, 1},
	} {
		var v map[string]any
		if err := codec.DecodeGoRedisCache(data, &v); err == nil {
			t.Errorf("%s: %v", name, v)
		}
	}
	for _, target := range []any{nil, map[string]any{}, (*int)(nil)} {
		if err := codec.DecodeGoRedisCache(good, target); err == nil {
			t.Errorf("it decodes into a %T", target)
		}
	}
}

func TestTheMistakesOfLegacyAreFound(t *testing.T) {
	decode := codec.JSON().Unmarshal
	for name, c := range map[string]codec.Codec{
		"nil": codec.Legacy(nil, decode), "no function": codec.Legacy(codec.JSON(), nil), "a type": codec.Legacy(codec.Raw(), decode),
		"sealed": codec.Legacy(codec.Encrypted(codec.JSON(), key(1)), decode), "sealed inside": codec.Legacy(codec.Compressed(codec.EncryptedAESGCM(codec.JSON(), key(1))), decode),
		"inside": codec.Compressed(codec.Legacy(codec.JSON(), decode)), "encrypted": codec.Encrypted(codec.Legacy(codec.JSON(), decode), key(1)),
		"twice": codec.Legacy(codec.Legacy(codec.JSON(), decode), decode), "a life": codec.Legacy(codec.JSON(), decode, codec.StoredFor(0)),
	} {
		if err := c.(codec.TypeChecker).CheckType(reflect.TypeFor[int]()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := codec.Legacy(codec.Compressed(codec.JSON()), decode, codec.StoredFor(time.Hour), codec.TagsBySource(), nil)
	if err := c.(codec.TypeChecker).CheckType(reflect.TypeFor[int]()); err != nil {
		t.Error(err)
	}
	if c.Name() != "s2(json)" {
		t.Errorf("its name is %q", c.Name())
	}
}

func FuzzGoRedisCache(f *testing.F) {
	for _, v := range []any{1, "s", []int{1, 2}, map[string]any{"a": []any{1, nil, 2.5}}, full} {
		f.Add(goRedisCache(f, v, false))
		f.Add(goRedisCache(f, v, true))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		for _, target := range []any{new(string), new([]byte), new(any), new(record), new([]int), new(map[string]*inner)} {
			_ = codec.DecodeGoRedisCache(data, target)
		}
		if !bytes.Equal(before, data) {
			t.Fatal("the input is modified")
		}
	})
}

func ExampleDecodeGoRedisCache() {
	stored, _ := msgpack.Marshal(map[string]int{"stock": 3}) // by go-redis/cache,
	stored = append(stored, 0)                               // not compressed
	var v map[string]int
	err := codec.DecodeGoRedisCache(stored, &v)
	fmt.Println(v, err)
	// Output: map[stock:3] <nil>
}
