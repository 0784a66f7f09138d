package codec

import "encoding/binary"

// checkBlock walks an S2 block without decoding it, and refuses one that does not decode to
// exactly n bytes: the length is in the block's first bytes, and a corrupt one must not make
// the reader allocate so much first. See
// https://github.com/google/snappy/blob/main/format_description.txt, to which S2 adds copies of
// offset 0, which repeat the last offset with a longer length.
func checkBlock(block []byte, n int) bool {
	_, head := binary.Uvarint(block)
	if head <= 0 {
		return false
	}
	src := block[head:]
	out, offset := 0, 0
	for len(src) > 0 {
		size, length, copied := 0, 0, true
		switch kind, x := src[0]&3, int(src[0]>>2); kind {
		case 0: // a literal
			copied, size = false, 1
			if x >= 60 {
				if size += x - 59; size > len(src) {
					return false
				}
				x = int(little(src[1:size]))
			}
			if length = x + 1; length <= 0 || length > len(src)-size {
				return false
			}
			size += length
		case 1: // a copy with an offset of 11 bits; 0: the last one again
			if size = 2; size > len(src) {
				return false
			}
			length = x & 7
			if at := int(src[0]&0xe0)<<3 | int(src[1]); at != 0 {
				offset = at
			} else if more := length - 4; more > 0 {
				if size += more; size > len(src) {
					return false
				}
				length = int(little(src[2:size])) + [...]int{4, 1 << 8, 1 << 16}[more-1]
			}
			length += 4
		default: // copies with offsets of 16 and 32 bits
			if size = 3; kind == 3 {
				size = 5
			}
			if size > len(src) {
				return false
			}
			length, offset = 1+x, int(little(src[1:size]))
		}
		if copied && (offset <= 0 || offset > out) || length > n-out {
			return false
		}
		out, src = out+length, src[size:]
	}
	return out == n
}

// little reads up to four bytes, the least significant first.
func little(b []byte) (n uint32) {
	for i, c := range b {
		n |= uint32(c) << (8 * i)
	}
	return n
}
