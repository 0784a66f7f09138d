package cmdscan

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// command encodes a command as clients do.
func command(words ...string) string {
	var b strings.Builder
	b.WriteString("*" + strconv.Itoa(len(words)) + "\r\n")
	for _, w := range words {
		b.WriteString("$" + strconv.Itoa(len(w)) + "\r\n" + w + "\r\n")
	}
	return b.String()
}

func TestScannerFindsCommandsInPieces(t *testing.T) {
	text := command("GET", "k") + command("ping") + command("set", "k", "*1\r\n$9\r\nsubscribe\r\n", "") + command("Subscribe", "news", "more")
	want := []string{"get", "ping", "set", "subscribe"}
	for size := 1; size <= len(text); size++ {
		var s Scanner
		var got []string
		for piece := range slices.Chunk([]byte(text), size) {
			got = append(got, s.Scan(piece)...)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("in pieces of %d: %q, want %q", size, got, want)
		}
	}
}

func TestScannerGivesUpWhatIsNoCommand(t *testing.T) {
	for _, text := range []string{"PING\r\n", "*1\r\n+OK\r\n", "*x\r\n", "*-1\r\n", "*1\r\n$x\r\n", "\r\n", strings.Repeat("*", 100), "*1\r\n$-1\r\n"} {
		var s Scanner
		if got := s.Scan([]byte(text + command("subscribe", "news"))); len(got) > 0 {
			t.Errorf("after %q it finds %q", text, got)
		}
	}
}

// However its input is divided, a scanner finds the same.
func FuzzScanner(f *testing.F) {
	f.Add(command("SUBSCRIBE", "news"), uint8(3))
	f.Add(command("set", "k", "v")+command("", "x"), uint8(1))
	f.Add("*2\r\n$3\r\nGET", uint8(5))
	f.Add("*99999999999999999999\r\n$1\r\n", uint8(2))
	f.Add("*1\n$9223372036854775807\n", uint8(2))
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		var whole, divided Scanner
		want := whole.Scan([]byte(text))
		var got []string
		for piece := range slices.Chunk([]byte(text), int(size)+1) {
			got = append(got, divided.Scan(piece)...)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("in pieces %q, as a whole %q", got, want)
		}
	})
}
