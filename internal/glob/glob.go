// Package glob matches keys against patterns as Redis's KEYS and SCAN do, so that
// a local tier drops what an invalidation by pattern removes from Redis.
//
//	?        any one byte
//	*        any bytes, also none
//	[abc]    one of these bytes; [^abc] none of them; [a-z] a range, either way round
//	\x       x itself, also inside brackets
//
// A bracket that is not closed ends with the pattern; a backslash at the end
// stands for itself.
//
// Redis compares the ends of a range as C chars, which are signed on some
// processors and unsigned on others. Where that matters, for ranges that touch
// bytes above 127, a [Pattern] matches if either reading does.
package glob

// Pattern is a compiled pattern, safe for concurrent use.
type Pattern struct {
	readings [][]token // one, or two where the sign of a char matters
}

// token is one step of a pattern: a star, or a set of bytes.
type token struct {
	star bool
	set  [4]uint64 // bit b: byte b matches
}

func (t *token) add(b byte)      { t.set[b/64] |= 1 << (b % 64) }
func (t *token) has(b byte) bool { return t.set[b/64]>>(b%64)&1 != 0 }

func (t *token) invert() {
	for i := range t.set {
		t.set[i] = ^t.set[i]
	}
}

// Compile never fails: every string is a pattern.
func Compile(pattern string) *Pattern {
	tokens, differs := compile(pattern, true)
	p := &Pattern{readings: [][]token{tokens}}
	if differs {
		tokens, _ = compile(pattern, false)
		p.readings = append(p.readings, tokens)
	}
	return p
}

// compile reads a pattern. differs reports that the sign of a char matters for it.
func compile(pattern string, signed bool) (tokens []token, differs bool) {
	for i := 0; i < len(pattern); i++ {
		var t token
		switch b := pattern[i]; b {
		case '*':
			if n := len(tokens); n > 0 && tokens[n-1].star {
				continue // several stars are one
			}
			t.star = true
		case '?':
			t.invert()
		case '[':
			var d bool
			i, d = t.class(pattern, i+1, signed)
			differs = differs || d
		case '\\':
			if i+1 < len(pattern) {
				i++
			}
			t.add(pattern[i])
		default:
			t.add(b)
		}
		tokens = append(tokens, t)
	}
	return tokens, differs
}

// class reads a bracket from i on, which is after its opening, and returns where
// its last byte is.
func (t *token) class(pattern string, i int, signed bool) (last int, differs bool) {
	negated := i < len(pattern) && pattern[i] == '^'
	if negated {
		i++
	}
	for ; i < len(pattern) && pattern[i] != ']'; i++ {
		switch rest := len(pattern) - i; {
		case rest >= 2 && pattern[i] == '\\':
			i++
			t.add(pattern[i])
		case rest >= 3 && pattern[i+1] == '-':
			differs = t.addRange(pattern[i], pattern[i+2], signed) || differs
			i += 2
		default:
			t.add(pattern[i])
		}
	}
	if negated {
		t.invert()
	}
	return i, differs
}

func (t *token) addRange(from, to byte, signed bool) (differs bool) {
	order := func(b byte) int {
		if signed {
			return int(int8(b))
		}
		return int(b)
	}
	lo, hi := min(order(from), order(to)), max(order(from), order(to))
	for b := range 256 {
		if o := order(byte(b)); lo <= o && o <= hi {
			t.add(byte(b))
		}
	}
	return from > 127 || to > 127
}

// Match reports whether all of s matches. It takes time in proportion to the
// product of the lengths at worst, whatever the pattern.
func (p *Pattern) Match(s string) bool {
	for _, tokens := range p.readings {
		if match(tokens, s) {
			return true
		}
	}
	return false
}

// match goes forward and, on a mismatch, back to the last star, which then takes one byte more.
// Earlier stars need not be tried again: whatever they could give up, the last star can take.
func match(tokens []token, s string) bool {
	t, i := 0, 0
	star, from := -1, 0
	for i < len(s) {
		switch {
		case t < len(tokens) && tokens[t].star:
			star, from = t, i
			t++
		case t < len(tokens) && tokens[t].has(s[i]):
			t++
			i++
		case star >= 0:
			from++
			t, i = star+1, from
		default:
			return false
		}
	}
	for t < len(tokens) && tokens[t].star {
		t++
	}
	return t == len(tokens)
}
