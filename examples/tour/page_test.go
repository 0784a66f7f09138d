package main

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestTookFitsTheUnitAndTheColumn(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{0, "     0 ns"},
		{999, "   999 ns"},
		{time.Microsecond, "   1.0 µs"},
		{1234567, "   1.2 ms"},
		{90 * time.Second, "  90.0 s "},
	} {
		if got := took(tt.d); got != tt.want {
			t.Errorf("took(%d) = %q, want %q", tt.d, got, tt.want)
		}
	}
}

func TestTimesComparesWithoutDividingByZero(t *testing.T) {
	for _, tt := range []struct {
		slow, d time.Duration
		want    string
	}{
		{10, 4, "2.5×"},
		{1_234_567, 1, "1 234 567×"},
		{500, 0, "500×"},
	} {
		if got := times(tt.slow, tt.d); got != tt.want {
			t.Errorf("times(%d, %d) = %q, want %q", tt.slow, tt.d, got, tt.want)
		}
	}
}

func TestPageStaysWithinTheTerminal(t *testing.T) {
	var out strings.Builder
	p := page{w: &out}
	p.head("A title", strings.Repeat("some words ", 30))
	p.line("%s", strings.Repeat("ü", 200))
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
	if got := strings.Count(out.String(), "words"); got != 30 {
		t.Errorf("%d words of 30 were written", got)
	}
}

// A brokenWriter fails after some lines.
type brokenWriter struct{ left int }

func (b *brokenWriter) Write(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errBroken
	}
	b.left--
	return len(p), nil
}

var errBroken = errors.New("broken")

func TestPageKeepsTheFirstWriteError(t *testing.T) {
	p := page{w: &brokenWriter{left: 1}}
	p.line("one")
	p.line("two")
	p.w = &strings.Builder{}
	p.line("three")
	if !errors.Is(p.err, errBroken) {
		t.Errorf("err = %v, want the writer's", p.err)
	}
	if got := p.w.(*strings.Builder).String(); got != "" {
		t.Errorf("written after the error: %q", got)
	}
}
