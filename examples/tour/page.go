package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// width is what fits a terminal.
const width = 80

// page writes the tour's text. The first error of w is kept in err, and ends
// the output.
type page struct {
	w       io.Writer
	err     error
	section int
}

// line writes one line, cut where the terminal ends.
func (p *page) line(format string, args ...any) {
	if p.err != nil {
		return
	}
	text := strings.TrimRight(fmt.Sprintf(format, args...), " ")
	if utf8.RuneCountInString(text) > width {
		text = string([]rune(text)[:width-1]) + "…"
	}
	_, p.err = io.WriteString(p.w, text+"\n")
}

// head begins a numbered section with its subject.
func (p *page) head(title, about string) {
	p.section++
	p.line("")
	p.line("%d. %s", p.section, title)
	p.text(about)
	p.line("")
}

// verbatim writes a text as it is.
func (p *page) verbatim(text string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, text+"\n")
	}
}

// text writes a paragraph, broken into lines.
func (p *page) text(words string) {
	const indent = "   "
	text := indent
	for word := range strings.FieldsSeq(words) {
		if text != indent && utf8.RuneCountInString(text)+1+utf8.RuneCountInString(word) > width-2 {
			p.line("%s", text)
			text = indent
		}
		if text != indent {
			text += " "
		}
		text += word
	}
	p.line("%s", text)
}

// took renders a duration in the unit that suits it, always as wide.
func took(d time.Duration) string {
	switch ns := float64(d); {
	case d < time.Microsecond:
		return fmt.Sprintf("%6.0f ns", ns)
	case d < time.Millisecond:
		return fmt.Sprintf("%6.1f µs", ns/1e3)
	case d < time.Second:
		return fmt.Sprintf("%6.1f ms", ns/1e6)
	default:
		return fmt.Sprintf("%6.1f s ", ns/1e9)
	}
}

// short is took for the middle of a sentence.
func short(d time.Duration) string { return strings.TrimSpace(took(d)) }

// times formats how many times as fast d is as slow.
func times(slow, d time.Duration) string {
	ratio := float64(slow) / float64(max(d, 1))
	if ratio < 10 {
		return fmt.Sprintf("%.1f×", ratio)
	}
	return count(int(ratio)) + "×"
}

// count renders a number with its thousands apart.
func count(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + " " + text[i:]
	}
	return text
}
