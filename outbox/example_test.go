package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/outbox"
	_ "modernc.org/sqlite" // a driver; the package itself has none
)

// openDatabase makes a database with a table and an outbox.
func openDatabase(box *outbox.Outbox) (db *sql.DB, remove func()) {
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		panic(err)
	}
	if db, err = sql.Open("sqlite", "file:"+filepath.Join(dir, "db")+"?_pragma=busy_timeout(10000)&_txlock=immediate"); err != nil {
		panic(err)
	}
	statements := []string{"CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", "INSERT INTO users VALUES (42, 'Ada')"}
	for _, m := range box.Migrations() {
		statements = append(statements, m.Up...)
	}
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			panic(err)
		}
	}
	return db, func() {
		db.Close()
		os.RemoveAll(dir)
	}
}

// A row and its invalidation are committed together, and a relay invalidates.
func Example() {
	ctx := context.Background()
	box, err := outbox.New(outbox.SQLite)
	if err != nil {
		panic(err)
	}
	db, remove := openDatabase(box)
	defer remove()
	// A program gives a Redis client instead of nil and LocalOnly.
	users, err := cache.NewFrom(nil, "users", cache.Source[int64, string]{
		Load: func(ctx context.Context, id int64) (name string, err error) {
			err = db.QueryRowContext(ctx, "SELECT name FROM users WHERE id = ?", id).Scan(&name)
			return name, err
		},
	}, cache.LocalOnly())
	if err != nil {
		panic(err)
	}
	defer users.Close()

	// In every process:
	relayCtx, stop := context.WithCancel(ctx)
	relay := &outbox.Relay{DB: db, Outbox: box, Targets: []outbox.Target{users}}
	ended := make(chan error)
	go func() { ended <- relay.Run(relayCtx) }()

	rename := func(name string, commit bool) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, "UPDATE users SET name = ? WHERE id = 42", name); err != nil {
			return err
		}
		if err := outbox.Invalidate(ctx, box.In(tx), users, 42); err != nil {
			return err
		}
		if !commit {
			return errors.New("rolled back")
		}
		return tx.Commit()
	}

	fmt.Println(users.Get(ctx, 42))
	fmt.Println(rename("Grace", false))
	fmt.Println(rename("Edith", true))
	relay.Wake() // not needed: it looks by itself as well
	await(nil, "the invalidation", func() bool { _, err := users.Peek(ctx, 42); return errors.Is(err, cache.ErrMiss) })
	fmt.Println(users.Get(ctx, 42))
	stop()
	fmt.Println(<-ended)
	// Output:
	// Ada <nil>
	// rolled back
	// <nil>
	// Edith <nil>
	// context canceled
}

// A transaction says what the value is when it is committed, which saves the load.
func ExampleSet() {
	ctx := context.Background()
	box, err := outbox.New(outbox.SQLite)
	if err != nil {
		panic(err)
	}
	db, remove := openDatabase(box)
	defer remove()
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb, err := cache.NewClient("redis://" + server.Addr())
	if err != nil {
		panic(err)
	}
	defer rdb.Close()
	loads := 0
	users, err := cache.NewFrom(rdb, "users", cache.Source[int64, string]{
		Load: func(ctx context.Context, id int64) (name string, err error) {
			loads++
			err = db.QueryRowContext(ctx, "SELECT name FROM users WHERE id = ?", id).Scan(&name)
			return name, err
		},
	})
	if err != nil {
		panic(err)
	}
	defer users.Close()
	relayCtx, stop := context.WithCancel(ctx)
	relay := &outbox.Relay{DB: db, Outbox: box, Targets: []outbox.Target{users}, Logger: discard}
	ended := make(chan error)
	go func() { ended <- relay.Run(relayCtx) }()

	rename := func(name string) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, "UPDATE users SET name = ? WHERE id = 42", name); err != nil {
			return err
		}
		// After the statement that changes the row, and so locks it.
		if err := outbox.Set(ctx, box.In(tx), users, 42, name); err != nil {
			return err
		}
		return tx.Commit()
	}

	fmt.Println(users.Get(ctx, 42))
	fmt.Println(rename("Edith"))
	await(nil, "the relay", func() bool { return relay.Stats().Caches["users"].Applied == 1 })
	fmt.Println(users.Get(ctx, 42))
	fmt.Println("loads:", loads)
	stop()
	<-ended
	// Output:
	// Ada <nil>
	// <nil>
	// Edith <nil>
	// loads: 1
}

// The tables, for a tool that makes migrations.
func ExampleOutbox_Schema() {
	box, err := outbox.New(outbox.SQLite)
	if err != nil {
		panic(err)
	}
	fmt.Print(box.Schema())
	// Output:
	// CREATE TABLE IF NOT EXISTS cache_outbox (
	// 	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	// 	cache    BLOB NOT NULL,
	// 	kind     INTEGER NOT NULL,
	// 	item     BLOB NOT NULL,
	// 	value    BLOB,
	// 	created  INTEGER NOT NULL,
	// 	due      INTEGER NOT NULL DEFAULT 0,
	// 	attempts INTEGER NOT NULL DEFAULT 0,
	// 	state    INTEGER NOT NULL DEFAULT 0,
	// 	error    TEXT NOT NULL DEFAULT ''
	// );
	// CREATE TABLE IF NOT EXISTS cache_outbox_lease (
	// 	cache   BLOB NOT NULL PRIMARY KEY,
	// 	holder  TEXT NOT NULL,
	// 	expires INTEGER NOT NULL
	// );
	// CREATE INDEX IF NOT EXISTS cache_outbox_next ON cache_outbox (cache, state, id);
}

// Rows that no target accepts wait as dead letters until they are replayed or discarded.
func ExampleOutbox_DeadLetters() {
	ctx := context.Background()
	box, err := outbox.New(outbox.SQLite)
	if err != nil {
		panic(err)
	}
	db, remove := openDatabase(box)
	defer remove()
	users, err := cache.New[int64, string](nil, "users", cache.LocalOnly())
	if err != nil {
		panic(err)
	}
	defer users.Close()

	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		panic(err)
	}
	// A program in another language has made a mistake: keys of users are numbers.
	if err := box.In(tx).InvalidateEncoded(ctx, outbox.Named("users"), "x42"); err != nil {
		panic(err)
	}
	if err := tx.Commit(); err != nil {
		panic(err)
	}

	relayCtx, stop := context.WithCancel(ctx)
	relay := &outbox.Relay{DB: db, Outbox: box, Targets: []outbox.Target{users}, MaxAttempts: 2, Logger: discard}
	ended := make(chan error)
	go func() { ended <- relay.Run(relayCtx) }()
	await(nil, "the dead letter", func() bool { return relay.Stats().Caches["users"].Dead == 1 })
	stop()
	<-ended

	dead, err := box.DeadLetters(ctx, db, 0, 100)
	if err != nil {
		panic(err)
	}
	for _, row := range dead {
		fmt.Println(row.Cache, row.Kind, row.Item, row.Attempts)
		fmt.Println(box.Discard(ctx, db, row.ID))
	}
	// Output:
	// users key x42 2
	// 1 <nil>
}
