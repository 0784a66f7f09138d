package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache/outbox"
	"github.com/jackc/pgx/v5/stdlib"
)

// listen is a function for outbox.Relay.Listen, over pgx.
func listen(db *sql.DB) func(ctx context.Context, channel string, wake func()) error {
	return func(ctx context.Context, channel string, wake func()) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		return conn.Raw(func(c any) error {
			pg := c.(*stdlib.Conn).Conn()
			defer pg.Close(context.WithoutCancel(ctx)) // it listens: it is not to go back into the pool
			if _, err := pg.Exec(ctx, "LISTEN "+channel); err != nil {
				return err
			}
			for wake(); ; wake() { // at first for what was committed before
				if _, err := pg.WaitForNotification(ctx); err != nil {
					return err
				}
			}
		})
	}
}

func TestNotificationsWakeTheRelay(t *testing.T) {
	b := newBench(t, "PostgreSQL")
	users := &fake{name: "users"}
	relay := b.relay(users)
	relay.Poll, relay.Lease, relay.Listen = time.Hour, 3*time.Hour, listen(b.db)
	b.run(relay)
	await(t, "the lease", func() bool { return relay.Stats().Caches["users"].Held })
	await(t, "the listener", func() bool { return relay.Stats().Notifications > 0 })
	for i := range 10 {
		b.keys("users", fmt.Sprint(i), fmt.Sprint("also ", i))
		await(t, "the key", func() bool { return users.has(fmt.Sprint("key ", i)) })
	}

	// The connection is lost, and made anew.
	before := relay.Stats().Notifications
	b.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' AND pid <> pg_backend_pid()")
	await(t, "a new listener", func() bool { return relay.Stats().Notifications > before })
	b.keys("users", "after")
	await(t, "the key", func() bool { return users.has("key after") })
}

func TestWithoutNotifyThereAreNoNotifications(t *testing.T) {
	b := newBench(t, "PostgreSQL", outbox.WithoutNotify())
	if c := b.box.Channel(); c != "" {
		t.Errorf("channel %q", c)
	}
	users := &fake{name: "users"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	heard := make(chan struct{}, 100)
	ended := make(chan error, 1)
	go func() { ended <- listen(b.db)(ctx, "cache_outbox", func() { heard <- struct{}{} }) }()
	<-heard // it listens
	b.keys("users", "1")
	b.exec("NOTIFY cache_outbox") // comes after what the transaction would have sent
	<-heard
	b.run(b.relay(users))
	await(t, "the key, by polling", func() bool { return users.has("key 1") })
	if n := len(heard); n != 0 {
		t.Errorf("%d notifications", n)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
