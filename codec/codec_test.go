package codec_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/codec/codectest"
)

type inner struct {
	A int8
	B []string
	C map[string]float64
}

type Base struct{ Kind string }

type record struct {
	Base
	ID    int64
	Name  string
	At    time.Time
	Tags  []string
	Sub   *inner
	Addr  netip.Addr
	Bytes []byte
	Set   map[int]bool
	Fixed [3]uint16
	Ratio float64
}

var (
	full = record{
		Base: Base{"k"}, ID: math.MinInt64, Name: "a <b> & ü\x00", At: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Tags: []string{"x", ""}, Sub: &inner{A: -1, B: []string{"b"}, C: map[string]float64{"c": 0.5}},
		Addr: netip.MustParseAddr("::1"), Bytes: []byte{0, 255}, Set: map[int]bool{-3: true}, Fixed: [3]uint16{1, 2, 65535}, Ratio: 1e300,
	}
	empty = record{At: time.Unix(0, 0).UTC()}
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func codecs() map[string]codec.Codec {
	return map[string]codec.Codec{
		"json": codec.JSON(), "json strict": codec.JSON(codec.UseNumber(), codec.DisallowUnknownFields()),
		"msgpack": codec.Msgpack(), "s2": codec.Compressed(codec.JSON(), codec.Threshold(0)),
		"s2 high": codec.Compressed(codec.Msgpack()), "encrypted": codec.Encrypted(codec.JSON(), key(1)),
		"all":        codec.Encrypted(codec.Compressed(codec.Msgpack(), codec.Threshold(10)), key(1), key(2)),
		"inside out": codec.Compressed(codec.Encrypted(codec.JSON(), key(1)), codec.Threshold(0)),
		"zstd":       codec.Compressed(codec.JSON(), codec.Threshold(0), codec.Zstd()),
		"zstd high":  codec.Compressed(codec.Msgpack(), codec.Zstd()),
		"aes":        codec.EncryptedAESGCM(codec.JSON(), key(1)),
		"aes, zstd":  codec.EncryptedAESGCM(codec.Compressed(codec.Msgpack(), codec.Threshold(10), codec.Zstd()), key(1), key(2)),
		"legacy":     codec.Legacy(codec.JSON(), codec.DecodeGoRedisCache),
	}
}

func TestEveryCodecConforms(t *testing.T) {
	big := record{Name: strings.Repeat("compress me ", 1000), At: empty.At}
	for name, c := range codecs() {
		t.Run(name, func(t *testing.T) {
			records := []record{empty, full, big}
			if strings.Contains(c.Name(), "msgpack") {
				for i := range records { // it keeps the moment, not the zone
					records[i].At = records[i].At.Local()
				}
			}
			codectest.Run(t, c, records[0], records[1], records[2], "s", 1, int64(-1), []string{"a"}, map[string]int{"a": 1}, &inner{A: 1})
		})
	}
	codectest.Run(t, codec.Raw(), []byte("x"), []byte{}, "", "string", json.RawMessage("{}"))
	codectest.Run(t, codec.Compressed(codec.Raw(), codec.Threshold(0)), []byte("x"), strings.Repeat("a", 5000))
}

func TestNamesTellWhatIsInside(t *testing.T) {
	for want, c := range map[string]codec.Codec{
		"json": codec.JSON(), "msgpack": codec.Msgpack(), "raw": codec.Raw(), "s2(raw)": codec.Compressed(codec.Raw()),
		"xchacha20poly1305(s2(json))": codec.Encrypted(codec.Compressed(codec.JSON()), key(1)), "s2(nil)": codec.Compressed(nil),
		"aes256gcm(s2(msgpack))": codec.EncryptedAESGCM(codec.Compressed(codec.Msgpack(), codec.Zstd()), key(1)),
	} {
		if got := c.Name(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

type (
	hidden struct{ a int }
	left   struct {
		A int `json:"-" msgpack:"-"`
	}
	chanField struct{ C chan int }
	fn        struct{ F func() }
	iface     struct{ E error }
	deep      struct{ L []map[string]*hidden }
	shadow    struct {
		Base
		Kind int
	}
	onlyEncodes struct{ X int }
	byPointer   struct{ N big.Int }
	embedsPtr   struct{ *hiddenBase }
	hiddenBase  struct{ A int }
	complexOne  struct{ C complex128 }
	keyed       struct{ M map[[2]int]int }
	tree        struct {
		V    int
		Kids []*tree
	}
	blank struct {
		_ int
		A int
	}
	anyField struct{ V any }
	embeds   struct{ Base }
)

func (onlyEncodes) MarshalJSON() ([]byte, error)    { return []byte("1"), nil }
func (onlyEncodes) MarshalMsgpack() ([]byte, error) { return []byte{1}, nil }

func TestTypesThatWouldLoseSomethingAreRefused(t *testing.T) {
	_ = hidden{}.a
	for _, c := range []codec.Codec{codec.JSON(), codec.Msgpack(), codec.Compressed(codec.JSON()), codec.Encrypted(codec.Msgpack(), key(1))} {
		check := c.(codec.TypeChecker).CheckType
		for path, v := range map[string]any{
			"hidden.a": hidden{}, "left.A": left{}, "chanField.C": chanField{}, "fn.F": fn{}, "iface.E": iface{}, "deep.L.a": deep{},
			"onlyEncodes": onlyEncodes{}, "byPointer.N": byPointer{}, "embedsPtr": embedsPtr{},
			"complexOne.C": complexOne{}, "keyed.M": keyed{},
		} {
			err := check(reflect.TypeOf(v))
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "Lossy") {
				t.Errorf("%s: %T: %v", c.Name(), v, err)
			}
		}
		for _, v := range []any{
			full, &full, tree{}, blank{}, anyField{}, embeds{}, 1, "s", []byte{}, map[string]any{}, time.Time{}, [2]bool{},
			struct{}{}, []*big.Float{}, netip.Addr{},
		} {
			if err := check(reflect.TypeOf(v)); err != nil {
				t.Errorf("%s: %T is refused: %v", c.Name(), v, err)
			}
		}
	}
	// Built at run time: vet knows that fields of one name are a mistake.
	twice := reflect.StructOf([]reflect.StructField{
		{Name: "A", Type: reflect.TypeFor[int](), Tag: `json:"x" msgpack:"x"`}, {Name: "B", Type: reflect.TypeFor[int](), Tag: `json:"x" msgpack:"x"`},
	})
	dash := reflect.StructOf([]reflect.StructField{{Name: "A", Type: reflect.TypeFor[int](), Tag: `json:"-,"`}})
	if err := codec.JSON().(codec.TypeChecker).CheckType(dash); err != nil {
		t.Errorf(`a field named "-": %v`, err)
	}
	for _, c := range []codec.Codec{codec.JSON(), codec.Msgpack()} {
		if err := c.(codec.TypeChecker).CheckType(twice); err == nil {
			t.Errorf("%s: two fields of one name", c.Name())
		}
	}
	if err := codec.JSON().(codec.TypeChecker).CheckType(reflect.TypeFor[shadow]()); err == nil {
		t.Error("a field that hides an embedded one")
	}
	for _, c := range []codec.Codec{codec.JSON(codec.Lossy()), codec.Msgpack(codec.Lossy())} {
		if err := c.(codec.TypeChecker).CheckType(reflect.TypeFor[hidden]()); err != nil {
			t.Errorf("%s: Lossy: %v", c.Name(), err)
		}
	}
}

func TestTheMistakesOfWrappersAreFound(t *testing.T) {
	typ := reflect.TypeFor[string]()
	for name, c := range map[string]codec.Codec{
		"Compressed(nil)": codec.Compressed(nil), "threshold": codec.Compressed(codec.JSON(), codec.Threshold(-1)),
		"max size": codec.Compressed(codec.JSON(), codec.MaxSize(0)), "Encrypted(nil)": codec.Encrypted(nil, key(1)),
		"no key": codec.Encrypted(codec.JSON()), "short key": codec.Encrypted(codec.JSON(), key(1), []byte("short")),
		"no key for AES": codec.EncryptedAESGCM(codec.JSON()), "a key for AES-128": codec.EncryptedAESGCM(codec.JSON(), key(1)[:16]),
		"no name": codec.Func("", nil, nil), "no functions": codec.Func("x", nil, nil),
		"inner": codec.Compressed(codec.Func("x", nil, nil)),
	} {
		if err := c.(codec.TypeChecker).CheckType(typ); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := codec.Encrypted(codec.JSON()).Marshal(nil, 1); err == nil {
		t.Error("encrypted without a key")
	}
}

func TestADecompressionBombIsRefusedUnopened(t *testing.T) {
	writer := codec.Compressed(codec.Raw(), codec.Threshold(0))
	reader := codec.Compressed(codec.Raw(), codec.MaxSize(1<<20))
	bomb, err := writer.Marshal(nil, make([]byte, 32<<20))
	if err != nil {
		t.Fatal(err)
	}
	var v []byte
	if err := reader.Unmarshal(bomb, &v); err == nil || v != nil {
		t.Errorf("%d bytes came out of %d: %v", len(v), len(bomb), err)
	}
	// A length that the block can't have is believed as little.
	lie := append([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f}, 1, 2, 3)
	if n := testing.AllocsPerRun(1, func() { err = reader.Unmarshal(lie, &v) }); err == nil || n > 20 {
		t.Errorf("%v, %v allocations", err, n)
	}
	if _, err := reader.Marshal(nil, make([]byte, 1<<20+1)); err == nil {
		t.Error("it writes what it would not read")
	}
}

func TestMsgpackThatClaimsTooMuchIsRefused(t *testing.T) {
	c := codec.Msgpack()
	for name, data := range map[string][]byte{
		"array": {0xdd, 0xff, 0xff, 0xff, 0xff}, "map": {0xdf, 0xff, 0xff, 0xff, 0xff}, "string": {0xdb, 0xff, 0xff, 0xff, 0xff},
		"binary": {0xc6, 0xff, 0xff, 0xff, 0xff}, "never used": {0xc1}, "nothing": {}, "nested": bytes.Repeat([]byte{0x91}, 1<<20),
		"trailing": {0x01, 0x01}, "extension": {0xc9, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		for _, target := range []any{new(any), new([]int), new(map[string]any), new(string), new(record), new([]byte)} {
			if err := c.Unmarshal(data, target); err == nil {
				t.Errorf("%s is accepted into a %T", name, target)
			}
		}
	}
}

func TestEncryptionRotatesBindsAndHides(t *testing.T) {
	for name, encrypted := range map[string]func(codec.Codec, ...[]byte) codec.Codec{"XChaCha20-Poly1305": codec.Encrypted, "AES-256-GCM": codec.EncryptedAESGCM} {
		t.Run(name, func(t *testing.T) { rotatesBindsAndHides(t, encrypted) })
	}
}

func rotatesBindsAndHides(t *testing.T, encrypted func(codec.Codec, ...[]byte) codec.Codec) {
	old := encrypted(codec.JSON(), key(1)).(codec.KeyBound)
	both := encrypted(codec.JSON(), key(2), key(1)).(codec.KeyBound)
	fresh := encrypted(codec.JSON(), key(2)).(codec.KeyBound)
	seal := func(c codec.KeyBound, rk string) []byte {
		t.Helper()
		b, err := c.MarshalFor(rk, nil, "the secret")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	open := func(c codec.KeyBound, rk string, b []byte) error {
		var v string
		err := c.UnmarshalFor(rk, b, &v)
		if err == nil && v != "the secret" {
			t.Errorf("it reads %q", v)
		}
		return err
	}
	a := seal(old, "k")
	if bytes.Contains(a, []byte("secret")) {
		t.Error("the plain text shows")
	}
	if bytes.Equal(a, seal(old, "k")) {
		t.Error("the same value is sealed the same way twice: the nonce is used again")
	}
	for name, err := range map[string]error{
		"the same key": open(old, "k", a), "rotated": open(both, "k", a), "the first encrypts": open(fresh, "k", seal(both, "k")),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"a dropped key": open(fresh, "k", a), "another Redis key": open(old, "l", a),
		"another codec inside": open(encrypted(codec.Msgpack(), key(1)).(codec.KeyBound), "k", a),
	} {
		if err == nil {
			t.Errorf("%s opens it", name)
		}
	}
	for i := range a {
		b := bytes.Clone(a)
		b[i] ^= 1
		if open(old, "k", b) == nil {
			t.Errorf("byte %d was changed and that was not noticed", i)
		}
	}
}

func TestRawCopiesNoMoreThanItMust(t *testing.T) {
	c := codec.Raw()
	owned := c.(interface{ UnmarshalOwned([]byte, any) error })
	data := []byte("some bytes")
	var b []byte
	if err := owned.UnmarshalOwned(data, &b); err != nil || &b[0] != &data[0] {
		t.Error("owned bytes are copied", err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = owned.UnmarshalOwned(data, &b) }); n != 0 {
		t.Errorf("owned: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _ = c.Unmarshal(data, &b) }); n != 1 {
		t.Errorf("borrowed: %v allocations", n)
	}
	buf := make([]byte, 0, 100)
	var v any = data
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Marshal(buf, v) }); n != 0 {
		t.Errorf("Marshal: %v allocations", n)
	}
	var nothing []byte
	if err := c.Unmarshal(nil, &nothing); err != nil || nothing == nil {
		t.Error("nil must read back as empty", err)
	}
	for _, target := range []any{new(int), nil, b, new([]int), (*string)(nil)} {
		func() {
			defer func() {
				if r := recover(); r != nil && target != (*string)(nil) {
					t.Errorf("%T: %v", target, r)
				}
			}()
			if s, ok := target.(*string); ok && s == nil {
				return
			}
			if err := c.Unmarshal(data, target); err == nil {
				t.Errorf("it decodes into a %T", target)
			}
		}()
	}
	if _, err := c.Marshal(nil, 7); err == nil {
		t.Error("it encodes a number")
	}
}

// Buffers are used again: what one value leaves in them must not show in another.
func TestPooledBuffersNeverLeak(t *testing.T) {
	for name, c := range codecs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var wg sync.WaitGroup
			for g := range 8 {
				wg.Go(func() {
					mine := fmt.Sprintf("<%d>", g)
					for i := range 100 {
						want := strings.Repeat(mine, 1+(i*37)%500)
						data, err := c.Marshal(nil, want)
						if err != nil {
							t.Error(err)
							return
						}
						var got string
						if err := c.Unmarshal(data, &got); err != nil || got != want {
							t.Errorf("goroutine %d reads %.20q, %v", g, got, err)
							return
						}
						if err := c.Unmarshal(data[:len(data)/2], &got); err == nil && len(data) > 40 {
							t.Errorf("half a record is accepted as %.20q", got)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func FuzzUnmarshal(f *testing.F) {
	all := codecs()
	all["raw"] = codec.Raw()
	for _, c := range all {
		for _, v := range []any{"s", 1, []int{1}} {
			if b, err := c.Marshal(nil, v); err == nil {
				f.Add(b)
			}
		}
	}
	b, _ := codec.Msgpack().Marshal(nil, full)
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		for name, c := range all {
			for _, target := range []any{new(string), new(any), new(record), new([]record), new(map[string]any)} {
				_ = c.Unmarshal(data, target)
			}
			if !bytes.Equal(before, data) {
				t.Fatalf("%s modifies its input", name)
			}
		}
	})
}

func ExampleEncrypted() {
	oldKey, newKey := key(1), key(2) // from a key store
	before := codec.Encrypted(codec.JSON(), oldKey)
	during := codec.Encrypted(codec.JSON(), newKey, oldKey)

	record, _ := before.Marshal(nil, "written before the rotation")
	var v string
	err := during.Unmarshal(record, &v)
	fmt.Println(v, err)
	// Output: written before the rotation <nil>
}

func ExampleFunc() {
	c := codec.Func("celsius",
		func(dst []byte, v any) ([]byte, error) { return fmt.Appendf(dst, "%g", v.(float64)), nil },
		func(data []byte, v any) error {
			_, err := fmt.Sscanf(string(data), "%g", v.(*float64))
			return err
		})
	data, _ := c.Marshal(nil, 36.6)
	fmt.Printf("%s %s\n", c.Name(), data)
	// Output: celsius 36.6
}
