// Package cmdscan finds the names of the commands in what a client sends to Redis.
package cmdscan

import (
	"bytes"
	"strconv"
	"strings"
)

// Scanner reads what a client sends over one connection: arrays of strings with their lengths, in
// pieces of any size. The zero value is ready for use, by one goroutine.
type Scanner struct {
	line  []byte // a header as far as it has arrived
	args  int    // arguments of the command that are still to come
	first bool   // the next one is the name
	body  int    // bytes of an argument that are still to come, with its end of line
	name  []byte // the name as far as it has arrived
	named bool   // body is of the name
	lost  bool   // it was no command: nothing is found any more
}

// maxHeader is more than any header has.
const maxHeader = 32

// Scan returns the names of the commands whose name ends in p, in lower case. After something
// that is no command it finds nothing any more.
func (s *Scanner) Scan(p []byte) (names []string) {
	for len(p) > 0 && !s.lost {
		if s.body > 0 {
			n := min(s.body, len(p))
			if s.named {
				s.name = append(s.name, p[:n]...)
			}
			if s.body -= n; s.body == 0 && s.named {
				names = append(names, strings.ToLower(string(bytes.TrimSuffix(s.name, []byte("\r\n")))))
				s.name, s.named = s.name[:0], false
			}
			p = p[n:]
			continue
		}
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			end = len(p) - 1
		}
		s.line, p = append(s.line, p[:end+1]...), p[end+1:]
		if s.lost = len(s.line) > maxHeader; s.lost || s.line[len(s.line)-1] != '\n' {
			continue
		}
		s.header(string(bytes.TrimRight(s.line, "\r\n")))
		s.line = s.line[:0]
	}
	return names
}

// header reads the number of arguments, or the length of one.
func (s *Scanner) header(line string) {
	kind := byte('*')
	if s.args > 0 {
		kind = '$'
	}
	if line == "" || line[0] != kind {
		s.lost = true
		return
	}
	n, err := strconv.Atoi(line[1:])
	switch {
	case err != nil || n < 0:
		s.lost = true
	case kind == '*':
		s.args, s.first = n, true
	default:
		s.args--
		s.body, s.named, s.first = n+2, s.first, false
	}
}
