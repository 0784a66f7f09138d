// Package outbox invalidates entries of a cache in the database's own transaction.
//
// An invalidation that is sent before the commit is too early: a reader may load the old row once
// more. One that is sent after the commit may never be sent: the process may end in between. An
// outbox is a table in the same database. What is to be invalidated is written into it in the
// transaction that changes the rows, so that both are committed or neither is; a [Relay] reads
// the table and invalidates, until Redis has acknowledged.
//
//	box, err := outbox.New(outbox.PostgreSQL)
//
//	tx, err := db.BeginTx(ctx, nil)
//	_, err = tx.ExecContext(ctx, `UPDATE users SET name = $1 WHERE id = $2`, name, id)
//	err = outbox.Invalidate(ctx, box.In(tx), users, id)
//	err = tx.Commit()
//
//	relay := &outbox.Relay{DB: db, Outbox: box, Targets: []outbox.Target{users}} // in each process
//	err = relay.Run(ctx)
//
// The package knows database/sql and no driver. It is tested on PostgreSQL 15, MariaDB 10.11 and
// SQLite 3, and its SQL is meant for PostgreSQL 12, MariaDB 10.3, MySQL 8.0, SQLite 3.24, and later
// versions of them; [Outbox.Migrations] has the tables.
//
// # What holds
//
// For every row that was committed, its invalidation is applied after the commit, at least once.
// A row is removed only after all targets have acknowledged it. From the commit until then, which
// is the relay's lag, readers may see the old value; afterwards they do not, within what the cache
// itself promises of an invalidation. To shorten the lag, invalidate after the commit as well, or
// call [Relay.Wake]: the row in the outbox is there for the case that the process does not get
// that far.
//
// Loads must read what has been committed. A loader that reads from a replica of the database,
// which may be behind, can load the old row after the invalidation and keep it.
//
// # The order of commits
//
// Rows have ascending numbers, which are given when a row is inserted, and not when it is
// committed:
//
//  1. Transaction A inserts row 1.
//  2. Transaction B inserts row 2, and commits.
//  3. The relay reads the table. It sees row 2, and not row 1.
//  4. A commits.
//
// A relay that remembers the greatest number that it has seen, and asks for greater ones, never
// sees row 1. This one remembers no number: it reads all rows that there are, from the least
// number on, and removes exactly those that it has applied, one by one. Row 1 is found by the next
// look at the table.
//
// Of several rows for one key, one invalidation is made:
//
//  1. Transaction A changes a user, inserts row 1, and commits.
//  2. Transaction B changes the same user, inserts row 2, and commits.
//  3. The relay reads both rows.
//  4. It invalidates the user once, and removes both.
//
// That is enough, because step 4 comes after both commits: a value that is loaded after it is not
// older than the later one. A row that is committed between steps 3 and 4 is not removed: it was
// not read, even if its number is less than those that were.
//
// The order in which invalidations are applied is that of the rows' numbers, as far as rows are
// visible, and for one key one comes after the other. For the result the order does not matter,
// since an invalidation says that a value is old, not what the new one is. For the same reason
// there are no rows that carry values: a value that was written by row 1 and applied after that
// of row 2 would stay.
package outbox
