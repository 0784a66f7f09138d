package codec

import "encoding/binary"

// maxDepth is how deep msgpack may nest, as much as encoding/json allows: a decoder
// that recurses on hostile input would otherwise exhaust the stack, which no
// program survives.
const maxDepth = 10_000

// plausible walks msgpack without decoding it and refuses input that would make a decoder
// allocate more than the input can fill, or recurse without bound: a length beyond the end of
// the input, and nesting beyond maxDepth. See
// https://github.com/msgpack/msgpack/blob/master/spec.md.
func plausible(data []byte) error {
	var small [16]uint64
	open := append(small[:0], 1) // values left in each level that is open
	for len(open) > 0 {
		top := len(open) - 1
		if open[top] == 0 {
			open = open[:top]
			continue
		}
		open[top]--
		size, children, ok := element(data)
		if !ok || size > uint64(len(data)) || children > uint64(len(data)) {
			return errorf("msgpack is cut off or malformed")
		}
		data = data[size:]
		if children == 0 {
			continue
		}
		if len(open) == maxDepth {
			return errorf("msgpack nests deeper than %d", maxDepth)
		}
		open = append(open, children)
	}
	return nil
}

// element reads the head of a value: how many bytes it has by itself, and how many
// values follow that belong to it.
func element(data []byte) (size, children uint64, ok bool) {
	if len(data) == 0 {
		return 0, 0, false
	}
	switch c := data[0]; {
	case c <= 0x7f, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3: // small integers, nil, bools
		return 1, 0, true
	case c <= 0x8f: // map
		return 1, 2 * uint64(c&0x0f), true
	case c <= 0x9f: // array
		return 1, uint64(c & 0x0f), true
	case c <= 0xbf: // string
		return 1 + uint64(c&0x1f), 0, true
	case c == 0xc1:
		return 0, 0, false
	case c >= 0xca && c <= 0xd3: // floats and integers
		return 1 + [...]uint64{4, 8, 1, 2, 4, 8, 1, 2, 4, 8}[c-0xca], 0, true
	case c >= 0xd4 && c <= 0xd8: // extensions of fixed sizes
		return 2 + 1<<(c-0xd4), 0, true
	default:
		return sized(c, data)
	}
}

// sized reads a head that is followed by a length.
func sized(c byte, data []byte) (size, children uint64, ok bool) {
	width := 4
	switch c {
	case 0xc4, 0xc7, 0xd9: // binary, extension, string
		width = 1
	case 0xc5, 0xc8, 0xda, 0xdc, 0xde: // the same, array, map
		width = 2
	}
	if len(data) < 1+width {
		return 0, 0, false
	}
	var n uint64
	switch width {
	case 1:
		n = uint64(data[1])
	case 2:
		n = uint64(binary.BigEndian.Uint16(data[1:]))
	case 4:
		n = uint64(binary.BigEndian.Uint32(data[1:]))
	}
	head := uint64(1 + width)
	switch {
	case c == 0xdc || c == 0xdd:
		return head, n, true
	case c == 0xde || c == 0xdf:
		return head, 2 * n, true
	case c >= 0xc7 && c <= 0xc9:
		return head + 1 + n, 0, true
	}
	return head + n, 0, true
}
