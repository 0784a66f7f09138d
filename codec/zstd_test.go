package codec_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/klauspost/compress/zstd"
)

// Whatever a codec writes, it reads what it wrote with other settings before.
func TestRecordsOfEitherCompressionAreRead(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	var words strings.Builder
	for range 5000 {
		words.WriteString([]string{"alpha ", "beta ", "gamma", "delta; ", "epsilon, "}[rnd.IntN(5)])
	}
	text := words.String()
	s2, zs := codec.Compressed(codec.JSON()), codec.Compressed(codec.JSON(), codec.Zstd())
	if s2.Name() != zs.Name() {
		t.Fatalf("the names are %q and %q: records of one are misses to the other", s2.Name(), zs.Name())
	}
	size := map[codec.Codec]int{}
	for _, writer := range []codec.Codec{s2, zs} {
		data, err := writer.Marshal([]byte("before"), text)
		if err != nil || !bytes.HasPrefix(data, []byte("before")) {
			t.Fatal(err)
		}
		data = data[len("before"):]
		size[writer] = len(data)
		for _, reader := range []codec.Codec{s2, zs} {
			var v string
			if err := reader.Unmarshal(data, &v); err != nil || v != text {
				t.Errorf("%d bytes of %d: %v", len(v), len(text), err)
			}
		}
	}
	if size[zs] >= size[s2] || size[zs] >= len(text)/7 {
		t.Errorf("%d bytes with Zstd, %d with S2, of %d", size[zs], size[s2], len(text))
	}
	if small, _ := zs.Marshal(nil, "small"); string(small) != "\x00\"small\"" {
		t.Errorf("a small value became %q", small)
	}
}

func TestAZstdBombIsRefusedUnopened(t *testing.T) {
	redistest.Thorough(t)
	writer := codec.Compressed(codec.Raw(), codec.Threshold(0), codec.Zstd())
	reader := codec.Compressed(codec.Raw(), codec.MaxSize(1<<20))
	bomb, err := writer.Marshal(nil, make([]byte, 32<<20))
	if err != nil || len(bomb) > 1<<14 {
		t.Fatal(len(bomb), err)
	}
	var v []byte
	if err := reader.Unmarshal(bomb, &v); err == nil || v != nil {
		t.Errorf("%d bytes came out of %d: %v", len(v), len(bomb), err)
	}
	// A size in the header that the blocks can't make up is not believed: nothing is allocated for it.
	reader = codec.Compressed(codec.Raw(), codec.MaxSize(1<<30))
	small, err := writer.Marshal(nil, bytes.Repeat([]byte("abcd"), 10_000))
	if err != nil || small[0] != 2 {
		t.Fatal(err)
	}
	var h zstd.Header
	if err := h.Decode(small[1:]); err != nil || !h.HasFCS {
		t.Fatal(h, err)
	}
	lie := binary.LittleEndian.AppendUint32([]byte{2, 0x28, 0xb5, 0x2f, 0xfd, 0xa0}, 1<<30)
	lie = append(lie, small[1+h.HeaderSize:]...)
	if n := testing.Benchmark(func(b *testing.B) {
		for range b.N {
			if reader.Unmarshal(lie, &v) == nil {
				b.Fatal("it is accepted")
			}
		}
	}).AllocedBytesPerOp(); n > 1<<20 {
		t.Errorf("a false size costs %d bytes", n)
	}
}

// The first ones would make a stream, but are not what a record is.
func TestOnlyOneFrameThatSaysItsSizeIsARecord(t *testing.T) {
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	one := e.EncodeAll([]byte(strings.Repeat("frame", 100)), nil)
	var stream bytes.Buffer
	w, _ := zstd.NewWriter(&stream)
	if _, err := w.Write([]byte(strings.Repeat("stream", 50_000))); err != nil || w.Flush() != nil || w.Close() != nil {
		t.Fatal(err)
	}
	c := codec.Compressed(codec.Raw())
	var v []byte
	if err := c.Unmarshal(append([]byte{2}, one...), &v); err != nil || string(v) != strings.Repeat("frame", 100) {
		t.Errorf("a frame with a checksum: %v", err)
	}
	for name, data := range map[string][]byte{
		"nothing": {}, "two frames": append(bytes.Clone(one), one...), "no size": stream.Bytes(), "cut off": one[:len(one)-5],
		"followed by a byte": append(bytes.Clone(one), 0), "skippable": append([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7}, one...),
		"no blocks": one[:6],
	} {
		if err := c.Unmarshal(append([]byte{2}, data...), &v); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		b := append([]byte{2}, one...)
		b[1+rnd.IntN(len(one))] ^= byte(1 + rnd.IntN(255))
		_ = c.Unmarshal(b, &v) // an error or some value
	}
}

func FuzzZstd(f *testing.F) {
	writer := codec.Compressed(codec.Raw(), codec.Threshold(0), codec.Zstd())
	for _, v := range []string{"", "a", strings.Repeat("abc", 100), strings.Repeat("x", 300_000)} {
		b, err := writer.Marshal(nil, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[1:])
	}
	c := codec.Compressed(codec.Raw(), codec.MaxSize(1<<20))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var v []byte
		if err := c.Unmarshal(append([]byte{2}, frame...), &v); err == nil && len(v) > 1<<20 {
			t.Fatalf("%d bytes came out of %d", len(v), len(frame))
		}
	})
}

func ExampleZstd() {
	report := strings.Repeat("Reports repeat their words, and Zstandard finds more of that. ", 100)
	for _, c := range []codec.Codec{codec.Compressed(codec.Raw()), codec.Compressed(codec.Raw(), codec.Zstd())} {
		data, _ := c.Marshal(nil, report)
		var v string
		err := codec.Compressed(codec.Raw()).Unmarshal(data, &v) // either reads both
		fmt.Println(c.Name(), len(data) < len(report)/20, v == report, err)
	}
	// Output:
	// s2(raw) true true <nil>
	// s2(raw) true true <nil>
}
