package outbox

import "strings"

// Migration is a step from one version of the tables to the next.
type Migration struct {
	Version int      // from 1 on
	Up      []string // statements, to be executed one by one
	Down    []string // those that take Up back, with all rows
}

// Migrations returns what makes the tables, the oldest version first. Later versions of this
// package append to the list and change nothing in it. They are for the program's own tool for
// migrations; [Outbox.Schema] is the same as text.
//
// Version 1 makes two tables. The outbox has a row for each thing to invalidate:
//
//	id        ascends; a number is never given twice
//	cache     the name of the cache
//	kind      1 a key, 2 a tag, 3 a pattern, 4 the whole cache
//	item      the key in its encoded form, the tag, or the pattern
//	value     of a key, what [Set] has encoded; NULL if the key is only to be invalidated
//	created   when the row was inserted, in microseconds since 1970
//	due       when it may be tried again, likewise
//	attempts  how often it was refused
//	state     0 to be applied, 1 a dead letter
//	error     why it was refused
//
// An index gives a relay the rows of a cache in ascending order.
//
// Names and items are bytes, not text: keys may contain any, and no collation may take two of
// them for the same. The table whose name ends in _lease has a row for each cache, with the relay
// that invalidates it at present.
//
// Rows live for a short time. Remove them by DELETE, not by TRUNCATE, which in some databases
// gives numbers again that a relay has read and is about to remove. On PostgreSQL a table that
// changes like that wants autovacuum_vacuum_scale_factor = 0 with a fixed threshold if it is busy.
func (o *Outbox) Migrations() []Migration {
	table, lease := o.table, o.lease()
	schema := table[:strings.LastIndexByte(table, '.')+1]
	index := table[len(schema):] + "_next"
	down := []string{"DROP TABLE IF EXISTS " + table, "DROP TABLE IF EXISTS " + lease}
	switch o.dialect {
	case PostgreSQL:
		return []Migration{{1, []string{
			`CREATE TABLE IF NOT EXISTS ` + table + ` (
	id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	cache    BYTEA NOT NULL,
	kind     SMALLINT NOT NULL,
	item     BYTEA NOT NULL,
	value    BYTEA,
	created  BIGINT NOT NULL,
	due      BIGINT NOT NULL DEFAULT 0,
	attempts INTEGER NOT NULL DEFAULT 0,
	state    SMALLINT NOT NULL DEFAULT 0,
	error    TEXT NOT NULL DEFAULT ''
)`,
			`CREATE TABLE IF NOT EXISTS ` + lease + ` (
	cache   BYTEA PRIMARY KEY,
	holder  TEXT NOT NULL,
	expires BIGINT NOT NULL
)`,
			`CREATE INDEX IF NOT EXISTS ` + index + ` ON ` + table + ` (cache, state, id)`,
		}, down}}
	case MySQL:
		return []Migration{{1, []string{
			`CREATE TABLE IF NOT EXISTS ` + table + ` (
	id       BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
	cache    VARBINARY(512) NOT NULL,
	kind     SMALLINT NOT NULL,
	item     MEDIUMBLOB NOT NULL,
	value    MEDIUMBLOB,
	created  BIGINT NOT NULL,
	due      BIGINT NOT NULL DEFAULT 0,
	attempts INTEGER NOT NULL DEFAULT 0,
	state    SMALLINT NOT NULL DEFAULT 0,
	error    VARCHAR(1000) CHARACTER SET utf8mb4 NOT NULL DEFAULT '',
	KEY ` + index + ` (cache, state, id)
) ENGINE=InnoDB`,
			`CREATE TABLE IF NOT EXISTS ` + lease + ` (
	cache   VARBINARY(512) NOT NULL PRIMARY KEY,
	holder  VARCHAR(64) NOT NULL,
	expires BIGINT NOT NULL
) ENGINE=InnoDB`,
		}, down}}
	default:
		// Without AUTOINCREMENT SQLite gives the number of a removed row again. A relay that was
		// held up would then remove a row that it has not applied:
		//
		//  1. Relay A reads row 5 and applies it. It is held up before it removes it.
		//  2. Its lease ends. Relay B applies row 5 as well, and removes it.
		//  3. A transaction inserts a row, which gets the number 5, and commits.
		//  4. A goes on, and removes row 5.
		return []Migration{{1, []string{
			`CREATE TABLE IF NOT EXISTS ` + table + ` (
	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	cache    BLOB NOT NULL,
	kind     INTEGER NOT NULL,
	item     BLOB NOT NULL,
	value    BLOB,
	created  INTEGER NOT NULL,
	due      INTEGER NOT NULL DEFAULT 0,
	attempts INTEGER NOT NULL DEFAULT 0,
	state    INTEGER NOT NULL DEFAULT 0,
	error    TEXT NOT NULL DEFAULT ''
)`,
			`CREATE TABLE IF NOT EXISTS ` + lease + ` (
	cache   BLOB NOT NULL PRIMARY KEY,
	holder  TEXT NOT NULL,
	expires INTEGER NOT NULL
)`,
			`CREATE INDEX IF NOT EXISTS ` + schema + index + ` ON ` + table[len(schema):] + ` (cache, state, id)`,
		}, down}}
	}
}

// Schema returns the statements of all migrations as a script, each ended by a semicolon.
func (o *Outbox) Schema() string {
	var b strings.Builder
	for _, m := range o.Migrations() {
		for _, s := range m.Up {
			b.WriteString(s + ";\n")
		}
	}
	return b.String()
}
