package outbox_test

import (
	"database/sql"
	"testing"

	"github.com/delqhi/cache/outbox"
	"github.com/delqhi/cache/outbox/internal/dbtest"
)

// cursor reads the outbox as a reader does that remembers the greatest number it has seen.
func cursor(t *testing.T, db *sql.DB, last *int64) (items []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT id, item FROM cache_outbox WHERE id > "+itoa(*last)+" ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var item []byte
		if err := rows.Scan(last, &item); err != nil {
			t.Fatal(err)
		}
		items = append(items, string(item))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return items
}

// A row's number is not the order of its commit (see the package's documentation):
//
//  1. Transaction A inserts row 1.
//  2. Transaction B inserts row 2, and commits.
//  3. The relay reads the table. It sees row 2, and not row 1.
//  4. A commits.
//
// SQLite has one writer at a time: there the numbers are in the order of commits.
func TestARowThatIsCommittedLateIsNotSkipped(t *testing.T) {
	for _, kind := range dbtest.Servers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, kind)
			users, watched := &fake{name: "users"}, &fake{name: "watched"}
			b.run(b.relay(users))

			late, err := b.db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer late.Rollback()
			for _, name := range []string{"users", "watched"} {
				if err := b.box.In(late).InvalidateEncoded(t.Context(), outbox.Named(name), "late"); err != nil {
					t.Fatal(err)
				}
			}
			b.in(func(tx *outbox.Tx) error { return tx.InvalidateEncoded(t.Context(), users, "early") })
			b.in(func(tx *outbox.Tx) error { return tx.InvalidateEncoded(t.Context(), watched, "early") })
			var last int64
			if got := cursor(t, b.db, &last); got[len(got)-1] != "early" {
				t.Fatalf("the cursor sees %q", got)
			}
			await(t, "the row of B", func() bool { return users.has("key early") })
			if users.has("key late") {
				t.Fatal("a row was applied before its commit")
			}
			if err := late.Commit(); err != nil {
				t.Fatal(err)
			}
			await(t, "the row of A", func() bool { return users.has("key late") })

			// The check of the check: the cursor has gone past row 1 and never sees it. The rows of
			// watched have no relay and are still there.
			if got := cursor(t, b.db, &last); len(got) != 0 {
				t.Errorf("the cursor sees %q: the rows were committed in the order of their numbers", got)
			}
			if n := b.backlog("watched").Pending; n != 2 {
				t.Errorf("%d rows of the other cache, want 2", n)
			}
		})
	}
}

// A relay that is busy all the time, since pages are always full, looks at the
// beginning again all the same.
func TestALateRowIsFoundInAStreamOfOthers(t *testing.T) {
	b := newBench(t, "PostgreSQL")
	users := &fake{name: "users"}
	// What waits fills pages, so that the relay has to go past it to higher numbers.
	users.failing(func(call string) error {
		if len(call) > 8 && call[:8] == "key wait" {
			return away(call)
		}
		return nil
	})
	relay := b.relay(users)
	relay.Batch = 4
	late, err := b.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Rollback()
	if err := b.box.In(late).InvalidateEncoded(t.Context(), users, "late"); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		b.keys("users", "wait "+itoa(int64(i)), "other "+itoa(int64(i)))
	}
	b.run(relay)
	stop, streaming := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(streaming)
		for i := int64(0); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := b.db.Exec("INSERT INTO cache_outbox (cache, kind, item, created) VALUES ('users', 1, $1, 0), ('users', 1, $2, 0), ('users', 1, $3, 0)",
				[]byte("a"+itoa(i)), []byte("b"+itoa(i)), []byte("c"+itoa(i))); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	defer func() { close(stop); <-streaming }()
	await(t, "the stream", func() bool { return users.has("key a20") })
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	await(t, "the late row", func() bool { return users.has("key late") })
}

// SQLite would give the number of the last row again when it is removed (see Migrations).
func TestNumbersAreNotGivenTwice(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		number := func() (id int64) {
			b.keys("users", "1")
			if err := b.db.QueryRow("SELECT MAX(id) FROM cache_outbox").Scan(&id); err != nil {
				t.Fatal(err)
			}
			b.exec("DELETE FROM cache_outbox")
			return id
		}
		if first, second := number(), number(); second <= first {
			t.Errorf("numbers %d and %d", first, second)
		}
	})
}

// Two relays that both believe to hold a lease apply a row twice and lose none.
func TestRowsThatAreWrittenDuringAnInvalidationStay(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		users := &fake{name: "users"}
		entered, leave := make(chan struct{}), make(chan struct{})
		first := true
		users.failing(func(string) error {
			if first {
				first = false
				close(entered)
				<-leave
			}
			return nil
		})
		b.keys("users", "1", "2")
		b.run(b.relay(users))
		<-entered
		// The same key changes again while its invalidation is under way: that one is not enough.
		b.keys("users", "1")
		close(leave)
		await(t, "an empty outbox", func() bool { return b.backlog("users").Pending == 0 })
		n := 0
		for _, c := range users.took() {
			if c == "key 1" {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%d invalidations of the key, want 2", n)
		}
	})
}
