package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/delqhi/cache"
)

// Outbox is a table in a database, by its dialect and its name. Make one with [New]. It has no
// state and is safe for concurrent use.
type Outbox struct {
	dialect Dialect
	table   string
	notify  bool
}

// Option configures an [Outbox]. Of several of one kind the last one holds.
type Option interface{ apply(*Outbox) }

type option func(*Outbox)

func (f option) apply(o *Outbox) { f(o) }

// Table sets the name of the table, which may begin with a schema: "app.cache_outbox". It
// consists of ASCII letters, digits and underscores, and is not quoted. The default is
// "cache_outbox".
func Table(name string) Option { return option(func(o *Outbox) { o.table = name }) }

// WithoutNotify leaves out the NOTIFY that transactions send on PostgreSQL. A commit with a NOTIFY
// waits for all other such commits of the server: where that is too slow, relays poll.
func WithoutNotify() Option { return option(func(o *Outbox) { o.notify = false }) }

var tableName = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]{0,49}\.)?[A-Za-z_][A-Za-z0-9_]{0,49}$`)

// New returns the outbox of a database. It does no I/O: the tables are made by
// [Outbox.Migrations]. The error joins all mistakes, each of which wraps cache.ErrInvalidOption:
// an unknown dialect, the name of a table that needs quotes or is longer than 50 bytes, a nil
// option.
func New(d Dialect, opts ...Option) (*Outbox, error) {
	o := &Outbox{dialect: d, table: "cache_outbox", notify: d == PostgreSQL}
	var mistakes []error
	if d < PostgreSQL || d > SQLite {
		mistakes = append(mistakes, fmt.Errorf("%w: outbox.New: %v is not known", cache.ErrInvalidOption, d))
	}
	for _, opt := range opts {
		if opt == nil {
			mistakes = append(mistakes, fmt.Errorf("%w: outbox.New: an option is nil", cache.ErrInvalidOption))
			continue
		}
		opt.apply(o)
	}
	if !tableName.MatchString(o.table) {
		mistakes = append(mistakes, fmt.Errorf("%w: outbox.New: %q is not the name of a table in ASCII letters, digits and underscores, of 50 bytes at most", cache.ErrInvalidOption, o.table))
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	return o, nil
}

func (o *Outbox) lease() string { return o.table + "_lease" }

// Channel returns the name that transactions notify on PostgreSQL, for LISTEN: that of the table
// in lower case, with an underscore for the dot, of 63 bytes at most; "" if there are no notifications.
func (o *Outbox) Channel() string {
	if !o.notify {
		return ""
	}
	name := strings.ToLower(strings.ReplaceAll(o.table, ".", "_"))
	return name[:min(len(name), 63)] // the longest that PostgreSQL takes
}

func (o *Outbox) statement() *statement { return &statement{dialect: o.dialect} }

// Executor is a transaction: an *sql.Tx, or an *sql.Conn on which one was begun. A transaction of
// another library can be given one in three lines.
type Executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Queryer is an *sql.DB, an *sql.Conn or an *sql.Tx.
type Queryer interface {
	Executor
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// In returns what writes into the outbox as a part of a transaction. Its calls fail for an
// *sql.DB, which has none: the change and its invalidation would be committed apart.
func (o *Outbox) In(tx Executor) *Tx { return &Tx{o, tx} }
