package codec

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// One encoder and one decoder serve all codecs, and goroutines at once. Neither starts a
// goroutine of its own. What a record may decompress to is checked before.
var (
	zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true)) // the size is always there; a record has a checksum
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	})
	zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true))
		if err != nil {
			panic(err)
		}
		return d
	})
)

// packZstd compresses out from start on, where the marker is, if that makes it smaller.
func (c *compressed) packZstd(out []byte, start int) []byte {
	p := scratch.Get().(*[]byte)
	body := out[start+1:]
	packed := zstdEncoder().EncodeAll(body, (*p)[:0])
	if len(packed) < len(body) {
		out[start] = packedZstd
		out = append(out[:start+1], packed...)
	}
	putScratch(p, packed)
	return out
}

func (c *compressed) unmarshalZstd(redisKey string, context, body []byte, v any) error {
	n, err := zstdLen(body, c.maxSize)
	if err != nil {
		return err
	}
	p := scratch.Get().(*[]byte)
	buf := (*p)[:0]
	if cap(buf) < n {
		buf = make([]byte, 0, n)
	}
	out, err := zstdDecoder().DecodeAll(body, buf)
	if err == nil && len(out) != n {
		err = errZstd
	}
	if err == nil {
		err = unmarshalIn(c.inner, redisKey, context, out, v)
	}
	putScratch(p, out)
	return err
}

var errZstd = errorf("a record is not one frame of Zstandard that says its size")

// maxZstdBlock is what a block decompresses to at most.
const maxZstdBlock = 128 << 10

// zstdLen returns the size that a record decompresses to, as its frame's header says. It refuses
// more than most, and walks the blocks, without decoding them, to see that they can make up that
// size: a corrupt header must not make the reader allocate it. A record is one frame, as
// [zstd.Encoder.EncodeAll] makes it, with its size and without a dictionary.
func zstdLen(record []byte, most int) (n int, err error) {
	var h zstd.Header
	if err := h.Decode(record); err != nil {
		return 0, errZstd
	}
	if h.Skippable || !h.HasFCS || h.DictionaryID != 0 || h.HeaderSize > len(record) {
		return 0, errZstd
	}
	if h.FrameContentSize > uint64(most) {
		return 0, errorf("a record would decompress to %d bytes, and codec.MaxSize allows %d", h.FrameContentSize, most)
	}
	n = int(h.FrameContentSize)
	src := record[h.HeaderSize:]
	least, greatest := 0, 0
	for last := false; !last; {
		if len(src) < 3 {
			return 0, errZstd
		}
		head := little(src[:3])
		last = head&1 != 0
		size, length := int(head>>3), 0
		switch src = src[3:]; head >> 1 & 3 {
		case 0: // as it is
			length = size
			least += size
		case 1: // one byte, repeated
			length = size
			least += size
			size = 1
		case 2: // compressed
			length = maxZstdBlock
		default:
			return 0, errZstd
		}
		if size > len(src) || size > maxZstdBlock || length > maxZstdBlock {
			return 0, errZstd
		}
		src, greatest = src[size:], greatest+length
		if least > n {
			return 0, errZstd
		}
	}
	if h.HasCheckSum {
		if len(src) < 4 {
			return 0, errZstd
		}
		src = src[4:]
	}
	if len(src) > 0 || n < least || n > greatest {
		return 0, errZstd
	}
	return n, nil
}
