package writebehind_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// repair does to the append-only files below dir what redis-check-aof --fix does: it
// cuts off a transaction of which only a part was written when the server was killed.
//
// Redis does that itself when it starts, but not well (seen with 7.0.15; Valkey fixed
// it in pull request 4342): if the file ends within a command of a transaction, it cuts
// off the command and leaves the rest of the transaction open.
//
//  1. the server is killed while it writes MULTI, XADD, HSET, EXEC; the file ends in the
//     middle of HSET
//  2. it starts, cuts off the HSET, and goes on behind MULTI, XADD
//  3. the next script's MULTI, …, EXEC is acknowledged, and written behind that
//  4. the server is killed again, and starts: a MULTI within a MULTI is an error, and
//     the EXEC discards both
//
// That is a loss of what was acknowledged which no client can prevent.
func repair(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if n := whole(data); n < len(data) {
			t.Logf("the server was killed while it wrote: %d bytes are cut off", len(data)-n)
			if err := os.Truncate(name, int64(n)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// whole is the length of all that is complete.
func whole(data []byte) int {
	good, multi := 0, false
	for pos := 0; ; {
		n, name := command(data[pos:])
		if n == 0 {
			return good
		}
		pos += n
		switch name {
		case "multi":
			multi = true
		case "exec":
			multi = false
		}
		if !multi {
			good = pos
		}
	}
}

// command returns the length and name of the command that data begins with; 0: there is
// no whole one.
func command(data []byte) (size int, name string) {
	rest := data
	number := func(kind byte) int {
		line, after, ok := bytes.Cut(rest, []byte("\r\n"))
		if !ok || len(line) < 2 || line[0] != kind {
			return -1
		}
		rest = after
		n, err := strconv.Atoi(string(line[1:]))
		if err != nil {
			return -1
		}
		return n
	}
	words := number('*')
	if words < 1 {
		return 0, ""
	}
	for i := range words {
		n := number('$')
		if n < 0 || len(rest) < n+2 {
			return 0, ""
		}
		if i == 0 {
			name = strings.ToLower(string(rest[:n]))
		}
		rest = rest[n+2:]
	}
	return len(data) - len(rest), name
}

func TestRepairCutsOffWhatIsNotWhole(t *testing.T) {
	const set, multi, exec = "*2\r\n$3\r\nSET\r\n$1\r\nk\r\n", "*1\r\n$5\r\nMULTI\r\n", "*1\r\n$4\r\nEXEC\r\n"
	const good = set + multi + set + exec
	for _, tail := range []string{"", "*", "*2\r\n$3\r\nSE", "*2\r\n$3\r\nSET\r\n$1\r\nk", multi, multi + set, multi + set + exec[:9]} {
		if n := whole([]byte(good + tail)); n != len(good) {
			t.Errorf("%q: %d of %d", tail, n, len(good))
		}
	}
}
