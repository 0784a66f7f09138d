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
//	err = outbox.Invalidate(ctx, box.In(tx), users, id) // or outbox.Set, with the new value
//	err = tx.Commit()
//
//	relay := &outbox.Relay{DB: db, Outbox: box, Targets: []outbox.Target{users}} // in each process
//	err = relay.Run(ctx)
//
// The package knows database/sql and no driver. It is tested on PostgreSQL 15, MariaDB 10.11 and
// SQLite 3, and its SQL is meant for PostgreSQL 12, MariaDB 10.3, MySQL 8.0, SQLite 3.24, and later
// versions of them; [Outbox.Migrations] has the tables. The SQL for MySQL is that for MariaDB, without
// what one of the two lacks; the tests run on MySQL itself where its server is installed.
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
// since an invalidation says that a value is old, not what the new one is.
//
// # Values
//
// A row of [Set] says what the new value is, and for values order does matter:
//
//  1. Transaction A Sets a user to "a", by row 1.
//  2. Transaction B Sets the same user to "b", by row 2, changes the row in the database, and commits.
//  3. A changes the row in the database, and commits: it has "a" now.
//  4. A relay that applies row 1 and then row 2 leaves "b" in the cache.
//
// Neither the numbers of the rows nor the order in which a relay sees them say which value is the
// newer one; and other programs may have written a newer one without an outbox. So a row does not
// ask to store a value, but to put it in the place of one entry: the very one that the cache had
// when Set was called, which is known by an identity of its own.
//
//  1. Set reads the identity of the entry, R, and writes it with the value into the row.
//  2. The transaction commits.
//  3. The relay puts the value in the place of R, by a compare-and-set in Redis. If that fails, it
//     invalidates the key.
//
// That never leaves an older value than the database has. Let a later transaction change the same
// row, and say so to the cache when it is committed, in whatever way: by a row of the outbox, by an
// invalidation of the key, a tag or everything, or by a Set. It commits after step 2, and so what it
// says reaches Redis after step 1. If that comes before step 3, R is not there any more, and step 3
// invalidates (an invalidation by tag or of everything leaves R, and applies to the new value as
// well, which has the logical time of step 1). If it comes after step 3, it removes the value. The
// same holds if step 3 is repeated, by a relay that did not hear the acknowledgement, or after a
// pause of whatever length: the value is there already, or R is gone for good, since an identity is
// not given twice.
//
// In the example of before, one of rows 1 and 2 finds R, and the other one invalidates; and if the
// relay sees both, it only invalidates, once.
package outbox
