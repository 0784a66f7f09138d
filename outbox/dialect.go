package outbox

import (
	"fmt"
	"strconv"
	"strings"
)

// Dialect is the kind of a database.
type Dialect int

// The databases for which there is SQL. The zero value is none of them.
const (
	PostgreSQL Dialect = iota + 1
	MySQL              // and MariaDB
	SQLite
)

// String returns the name of the database.
func (d Dialect) String() string {
	switch d {
	case PostgreSQL:
		return "PostgreSQL"
	case MySQL:
		return "MySQL"
	case SQLite:
		return "SQLite"
	}
	return "Dialect(" + strconv.Itoa(int(d)) + ")"
}

// now is the time of the server as microseconds since 1970, an expression that has one value in
// a statement. Times are compared by one clock, which no time zone moves.
func (d Dialect) now() string {
	switch d {
	case PostgreSQL:
		return "(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000)::BIGINT"
	case MySQL:
		return "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
	default:
		return "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)"
	}
}

// statement is SQL that is being written, with its arguments. The database's placeholders differ.
type statement struct {
	dialect Dialect
	text    strings.Builder
	args    []any
}

// add appends text. Each "?" in it stands for one of args, and "{now}" for the server's time.
func (s *statement) add(text string, args ...any) *statement {
	for i, part := range strings.Split(strings.ReplaceAll(text, "{now}", s.dialect.now()), "?") {
		if i > 0 {
			s.arg(args[i-1])
		}
		s.text.WriteString(part)
	}
	return s
}

// arg appends the placeholder of one argument.
func (s *statement) arg(v any) {
	s.args = append(s.args, v)
	if s.dialect == PostgreSQL {
		fmt.Fprintf(&s.text, "$%d", len(s.args))
		return
	}
	s.text.WriteByte('?')
}

// in appends a list in parentheses.
func in[T any](s *statement, list []T) *statement {
	s.text.WriteByte('(')
	for i := range list {
		if i > 0 {
			s.text.WriteByte(',')
		}
		s.arg(list[i])
	}
	s.text.WriteByte(')')
	return s
}

// names are names of caches as the column has them.
func names(list []string) [][]byte {
	bytes := make([][]byte, len(list))
	for i, n := range list {
		bytes[i] = []byte(n)
	}
	return bytes
}
