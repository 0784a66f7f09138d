package codec

import (
	"reflect"
	"sync"

	"github.com/klauspost/compress/s2"
)

const (
	defaultThreshold = 1 << 10
	defaultMaxSize   = 64 << 20

	// Markers, which a record begins with.
	plain      = 0 // not compressed
	packed     = 1 // by S2
	packedZstd = 2
)

// Compressed compresses the encodings of inner where that makes them smaller, with S2, or with
// Zstandard by the option [Zstd]. It reads the records of both, whatever it writes. Reading is
// bounded: a record that would decompress to more than MaxSize is an error before anything is
// allocated, and so is a corrupt one of S2; for one of Zstandard no more is allocated than its
// blocks may decompress to.
func Compressed(inner Codec, opts ...CompressedOption) Codec {
	c := &compressed{inner: inner, threshold: defaultThreshold, maxSize: defaultMaxSize}
	for _, o := range opts {
		if o != nil {
			o(c)
		}
	}
	return c
}

// CompressedOption changes [Compressed].
type CompressedOption func(*compressed)

// Threshold is the size in bytes from which on compression is tried. The default
// is 1 KiB.
func Threshold(n int) CompressedOption { return func(c *compressed) { c.threshold = n } }

// MaxSize bounds what a record may decompress to, in bytes. The default is 64 MiB.
func MaxSize(n int) CompressedOption { return func(c *compressed) { c.maxSize = n } }

// Zstd writes records with Zstandard (RFC 8878), which takes several times as long as S2 and
// makes texts smaller than that: for large values that are written seldom, and where the memory
// of Redis is what is short.
//
// The name of the codec, and with it the type of the records, stays the same, so that a cache
// keeps its records when the option is added or removed. Programs with an older version of this
// library take records of Zstandard for corrupt, which are misses: add the option when all of
// them are gone.
func Zstd() CompressedOption { return func(c *compressed) { c.zstd = true } }

type compressed struct {
	inner              Codec
	threshold, maxSize int
	zstd               bool
}

func (c *compressed) Name() string { return "s2(" + innerName(c.inner) + ")" }

func (c *compressed) Marshal(dst []byte, v any) ([]byte, error) { return c.MarshalFor("", dst, v) }

func (c *compressed) Unmarshal(data []byte, v any) error { return c.UnmarshalFor("", data, v) }

// scratch holds buffers between uses. Their contents never leave: results are copied out.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

func putScratch(p *[]byte, b []byte) {
	if cap(b) <= 1<<20 {
		*p = b[:0]
		scratch.Put(p)
	}
}

func (c *compressed) MarshalFor(redisKey string, dst []byte, v any) ([]byte, error) {
	return c.MarshalIn(redisKey, nil, dst, v)
}

func (c *compressed) UnmarshalFor(redisKey string, data []byte, v any) error {
	return c.UnmarshalIn(redisKey, nil, data, v)
}

// Compressed seals if inner does.

func (c *compressed) Seals() bool {
	_, ok := sealer(c.inner)
	return ok
}

func (c *compressed) SealIn(redisKey string, context, dst, plain []byte) []byte {
	return c.inner.(Sealer).SealIn(redisKey, context, dst, plain)
}

func (c *compressed) OpenIn(redisKey string, context, data []byte) ([]byte, error) {
	return c.inner.(Sealer).OpenIn(redisKey, context, data)
}

func (c *compressed) Mark(redisKey string, context []byte) [8]byte {
	return c.inner.(Sealer).Mark(redisKey, context)
}

func (c *compressed) Marked(redisKey string, context []byte, mark [8]byte) bool {
	return c.inner.(Sealer).Marked(redisKey, context, mark)
}

func (c *compressed) MarshalIn(redisKey string, context, dst []byte, v any) ([]byte, error) {
	start := len(dst)
	out, err := marshalIn(c.inner, redisKey, context, append(dst, plain), v)
	if err != nil {
		return dst, err
	}
	body := out[start+1:]
	if len(body) > c.maxSize {
		return dst, errorf("%d bytes to compress, and codec.MaxSize allows %d", len(body), c.maxSize)
	}
	if len(body) < c.threshold || len(body) == 0 {
		return out, nil
	}
	if c.zstd {
		return c.packZstd(out, start), nil
	}
	p := scratch.Get().(*[]byte)
	need := s2.MaxEncodedLen(len(body))
	if need < 0 {
		scratch.Put(p)
		return out, nil
	}
	buf := *p
	if cap(buf) < need {
		buf = make([]byte, need)
	}
	block := s2.Encode(buf[:need], body)
	if len(block) < len(body) {
		out[start] = packed
		out = append(out[:start+1], block...)
	}
	putScratch(p, buf)
	return out, nil
}

func (c *compressed) UnmarshalIn(redisKey string, context, data []byte, v any) error {
	if len(data) == 0 {
		return errorf("a compressed record is empty")
	}
	body := data[1:]
	switch data[0] {
	case plain:
		return unmarshalIn(c.inner, redisKey, context, body, v)
	case packed:
	case packedZstd:
		return c.unmarshalZstd(redisKey, context, body, v)
	default:
		return errorf("a compressed record begins with %#x", data[0])
	}
	n, err := s2.DecodedLen(body)
	if err != nil {
		return err
	}
	if n > c.maxSize {
		return errorf("a record would decompress to %d bytes, and codec.MaxSize allows %d", n, c.maxSize)
	}
	if !checkBlock(body, n) {
		return s2.ErrCorrupt
	}
	p := scratch.Get().(*[]byte)
	buf := *p
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	out, err := s2.Decode(buf[:n], body)
	if err == nil {
		err = unmarshalIn(c.inner, redisKey, context, out, v)
	}
	putScratch(p, buf)
	return err
}

func (c *compressed) CheckType(t reflect.Type) error {
	if c.threshold < 0 {
		return errorf("Threshold(%d) is negative: 0 compresses everything", c.threshold)
	}
	if c.maxSize <= 0 {
		return errorf("MaxSize(%d) must be positive", c.maxSize)
	}
	return checkInner("Compressed", c.inner, t)
}
