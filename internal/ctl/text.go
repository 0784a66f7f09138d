package ctl

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

// quote returns s as it is if it consists of characters that are printed as they are, and none
// of them is a space, a quotation mark or a backslash; otherwise as a Go string. Characters that
// change the direction of writing are not printed as they are.
func quote(s string) string {
	if s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool {
		return r == ' ' || r == '"' || r == '\\' || !strconv.IsPrint(r)
	}) {
		return strconv.Quote(s)
	}
	return s
}

// printable replaces what is not printed as it is, and keeps the rest, spaces and quotation
// marks included: for sentences of which a part may come from Redis.
func printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n <= 1 || !strconv.IsPrint(r) {
			q := strconv.Quote(s[i : i+n])
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// text is a string of any bytes. In JSON it is a string, or, where it is not UTF-8, an object
// with its base64 form: {"base64": "/w=="}.
type text string

func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(t))})
}

func texts(list []string) []text {
	out := make([]text, len(list))
	for i, s := range list {
		out[i] = text(s)
	}
	return out
}

// writeJSON writes v in lines, or with line in a single one. Every character that is not
// printed as it is stands in it as \uXXXX: JSON, too, is looked at on terminals.
func writeJSON(w io.Writer, v any, line bool) error {
	var data []byte
	var err error
	if line {
		data, err = json.Marshal(v)
	} else {
		data, err = json.MarshalIndent(v, "", "  ")
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, safeJSON(string(data))+"\n")
	return err
}

// safeJSON escapes characters in a JSON text. Outside of strings it has none to escape.
func safeJSON(s string) string {
	if !strings.ContainsFunc(s, escapesInJSON) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !escapesInJSON(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xD800+(r>>10), 0xDC00+(r&0x3FF))
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func escapesInJSON(r rune) bool { return r != '\n' && !strconv.IsPrint(r) }

// answer prints v: as JSON, or by human for people.
func (c *call) answer(v any, human func(w io.Writer)) error {
	if c.json {
		return writeJSON(c.out, v, false)
	}
	human(c.out)
	return nil
}

// columns writes rows of cells as a table.
func columns(w io.Writer, rows ...[]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	t.Flush()
}

// span writes a duration as people say it.
func span(d time.Duration) string {
	if d < 0 {
		return "-" + span(-d)
	}
	switch {
	case d == 0:
		return "0s"
	case d < time.Millisecond:
		return "<1ms"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d.Round(time.Second) < time.Hour:
		s := d.Round(time.Second).String()
		if strings.HasSuffix(s, "m0s") {
			s = s[:len(s)-2]
		}
		return s
	case d < 48*time.Hour:
		d = d.Round(time.Minute)
		if m := int(d.Minutes()) % 60; m > 0 {
			return fmt.Sprintf("%dh%dm", int(d.Hours()), m)
		}
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func ago(d time.Duration) string {
	if d < time.Second {
		return "just now"
	}
	return span(d) + " ago"
}

// bytes writes a size.
func bytes(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 10<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

func micros(us int64) time.Duration {
	return time.Duration(min(us, 1<<62/1000)) * time.Microsecond
}

// number writes a count with its noun.
func number(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func ofSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// unquoted reads an argument that may be a Go string in double quotes.
func unquoted(s string) (string, error) {
	if !strings.HasPrefix(s, `"`) {
		return s, nil
	}
	out, err := strconv.Unquote(s)
	if err != nil {
		return "", usagef("%s begins with a double quote and is no Go string", printable(s))
	}
	return out, nil
}
