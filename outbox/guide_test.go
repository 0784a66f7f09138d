package outbox_test

import (
	"context"
	"database/sql"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/outbox"
	"github.com/jackc/pgx/v5"
)

//lint:file-ignore SA4006 the guide leaves out what is done about an error

// The code of docs/outbox.md, so that it compiles. What it does, the other tests try.
var _ = func(ctx context.Context, db *sql.DB, users, orders *cache.Cache[int, string], name, user string, id int, url string) error {
	box, err := outbox.New(outbox.PostgreSQL) // or outbox.MySQL, for MariaDB as well, or outbox.SQLite

	tx, err := db.BeginTx(ctx, nil)
	defer tx.Rollback()
	_, err = tx.ExecContext(ctx, `UPDATE users SET name = $1 WHERE id = $2`, name, id)
	err = outbox.Invalidate(ctx, box.In(tx), users, id)         // keys, typed
	err = outbox.Set(ctx, box.In(tx), users, id, user)          // a key, with its new value
	err = box.In(tx).InvalidateTags(ctx, orders, "tenant:acme") // also InvalidatePattern, Clear
	err = tx.Commit()

	relay := &outbox.Relay{DB: db, Outbox: box, Targets: []outbox.Target{users, orders}}
	err = relay.Run(ctx) // until ctx ends

	relay.Listen = func(ctx context.Context, channel string, wake func()) error {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
			return err
		}
		for wake(); ; wake() { // at first for what was committed before
			if _, err := conn.WaitForNotification(ctx); err != nil {
				return err
			}
		}
	}
	return err
}
