package keys

import (
	"math/rand/v2"
	"testing"
)

// redisMatch says what a Redis pattern matches, without regard to time.
func redisMatch(p, s string) bool {
	if p == "" {
		return s == ""
	}
	switch p[0] {
	case '*':
		return redisMatch(p[1:], s) || s != "" && redisMatch(p, s[1:])
	case '?':
		return s != "" && redisMatch(p[1:], s[1:])
	case '[':
		if s == "" {
			return false
		}
		in, rest := inBracket(p[1:], s[0])
		return in && redisMatch(rest, s[1:])
	case '\\':
		if len(p) > 1 {
			p = p[1:]
		}
	}
	return s != "" && s[0] == p[0] && redisMatch(p[1:], s[1:])
}

// inBracket reports whether b is in the bracket that p begins inside of, and
// returns what follows it.
func inBracket(p string, b byte) (in bool, rest string) {
	not := p != "" && p[0] == '^'
	if not {
		p = p[1:]
	}
	for p != "" && p[0] != ']' {
		switch {
		case p[0] == '\\' && len(p) > 1:
			in = in || p[1] == b
			p = p[2:]
		case len(p) > 2 && p[1] == '-':
			in = in || min(p[0], p[2]) <= b && b <= max(p[0], p[2])
			p = p[3:]
		default:
			in = in || p[0] == b
			p = p[1:]
		}
	}
	if p != "" {
		p = p[1:]
	}
	return in != not, p
}

func TestTheReferenceMatcherKnowsPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"*", "", true}, {"a*c", "abbc", true}, {"a*c", "abb", false}, {"?", "\xff", true}, {"?", "", false}, {"[a-c]x", "bx", true},
		{"[^a]", "a", false}, {"[^a]", "b", true}, {`\*`, "*", true}, {`\*`, "x", false}, {`[\]]`, "]", true}, {`\`, `\`, true},
	} {
		if got := redisMatch(c.pattern, c.s); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.s, got)
		}
	}
}

// checkQuote checks a quoted text against itself and a text that differs.
func checkQuote(t *testing.T, s, other string) {
	t.Helper()
	q := QuotePattern(s)
	if !redisMatch(q, s) {
		t.Fatalf("%q, quoted as %q, does not match itself", s, q)
	}
	if other != s && redisMatch(q, other) {
		t.Fatalf("%q, quoted as %q, matches %q", s, q, other)
	}
	if p := "users:" + q + ":*"; !redisMatch(p, "users:"+s+":1") || other != s && len(other) == len(s) && redisMatch(p, "users:"+other+":1") {
		t.Fatalf("as a part of the pattern %q it matches something else than %q", p, s)
	}
}

func TestAQuotedTextMatchesItselfAndNothingElse(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 20_000 {
		checkQuote(t, word(r), word(r))
	}
}

func FuzzQuotePattern(f *testing.F) {
	f.Add("a*b", "axb")
	f.Add(`\`, `\\`)
	f.Add("[a-z]", "b")
	f.Add("[^a]", "b")
	f.Add("a]", "a")
	f.Fuzz(func(t *testing.T, s, other string) {
		if len(s) > 64 || len(other) > 64 {
			t.Skip("the reference takes exponential time")
		}
		checkQuote(t, s, other)
	})
}
