package codec

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
)

// blocks are what the encoders make of texts that differ in how they compress.
func blocks() map[string][]byte {
	rnd := rand.New(rand.NewPCG(1, 1))
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	var words strings.Builder
	for range 20_000 {
		words.WriteString([]string{"alpha ", "beta ", "gamma-", "\n", "0123456789"}[rnd.IntN(5)])
	}
	out := map[string][]byte{}
	for name, text := range map[string][]byte{
		"nothing": {}, "one": {7}, "short": []byte("abcabcabcabc"), "zeros": make([]byte, 17<<20), "noise": noise, "words": []byte(words.String()),
		"far": append(append(bytes.Clone(noise), make([]byte, 70_000)...), noise...), "period 3": bytes.Repeat([]byte("abc"), 100_000),
	} {
		out[name+", fast"] = s2.Encode(nil, text)
		out[name+", better"] = s2.EncodeBetter(nil, text)
		out[name+", best"] = s2.EncodeBest(nil, text)
		out[name+", snappy"] = s2.EncodeSnappy(nil, text)
	}
	return out
}

// The walk accepts exactly what the decoder does.
func TestABlockIsAcceptedIfItDecodes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	for name, block := range blocks() {
		n, err := s2.DecodedLen(block)
		if err != nil || !checkBlock(block, n) {
			t.Errorf("%s: a good block is refused (%v)", name, err)
		}
		if len(block) > 10_000 && n > 1<<20 {
			continue
		}
		for range 60 {
			agree(t, damaged(rnd, block))
		}
	}
}

// damaged is a block with some bytes changed, cut off or added.
func damaged(rnd *rand.Rand, block []byte) []byte {
	b := bytes.Clone(block)
	for range 1 + rnd.IntN(3) {
		switch at := rnd.IntN(len(b)); rnd.IntN(4) {
		case 0:
			b = b[:max(at, 1)]
		case 1:
			b = append(b, byte(rnd.Uint32()))
		default:
			b[at] ^= byte(1 + rnd.IntN(255))
		}
	}
	return b
}

func agree(t *testing.T, block []byte) {
	t.Helper()
	n, err := s2.DecodedLen(block)
	if err != nil || n > 1<<20 {
		return
	}
	_, err = s2.Decode(nil, block)
	if ok := checkBlock(block, n); ok != (err == nil) {
		t.Fatalf("%x… of %d bytes to %d: the walk says %v, the decoder %v", block[:min(len(block), 40)], len(block), n, ok, err)
	}
}

func FuzzBlock(f *testing.F) {
	for _, b := range blocks() {
		if len(b) < 2000 {
			f.Add(b)
		}
	}
	for _, b := range [][]byte{{0}, {1, 0xf0}, {5, 0xfc, 1, 2, 3, 4}, {4, 0, 'a', 1, 0}, {4, 0, 'a', 0x15, 0, 9}} {
		f.Add(b)
	}
	f.Fuzz(agree)
}

// What is corrupt costs no memory, whatever length it claims.
func TestACorruptCompressedRecordCostsNothing(t *testing.T) {
	c := Compressed(Raw()).(*compressed)
	value := bytes.Repeat([]byte("some text "), 1000)
	good, err := c.Marshal(nil, value)
	if err != nil || good[0] != packed {
		t.Fatal(err)
	}
	_, head := binary.Uvarint(good[1:])
	claims := func(n uint64) []byte {
		return append(binary.AppendUvarint([]byte{packed}, n), good[1+head:]...)
	}
	for name, record := range map[string][]byte{
		"a length beyond the block": claims(64 << 20), "nothing follows": claims(64 << 20)[:5], "cut off": good[:len(good)-3],
		"zeros": append(binary.AppendUvarint([]byte{packed}, 64<<20), make([]byte, 100)...), "one less": claims(uint64(len(value)) - 1),
		"ones": append(binary.AppendUvarint([]byte{packed}, 64<<20), bytes.Repeat([]byte{0xff}, 100)...),
	} {
		var v []byte
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := c.Unmarshal(record, &v)
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; err == nil || spent > 64<<10 {
			t.Errorf("%s: %v after %d bytes", name, err, spent)
		}
	}
}
