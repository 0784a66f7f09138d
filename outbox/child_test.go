package outbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/outbox"
	"github.com/delqhi/cache/outbox/internal/dbtest"
	"github.com/redis/go-redis/v9"
)

// What a child of the test binary is told, in its environment.
const (
	roleEnv  = "OUTBOX_TEST_ROLE" // "writer" or "relay"
	modeEnv  = "OUTBOX_TEST_MODE" // how a writer invalidates: see the modes
	kindEnv  = "OUTBOX_TEST_KIND"
	dbEnv    = "OUTBOX_TEST_DB"
	drvEnv   = "OUTBOX_TEST_DRIVER"
	redisEnv = "OUTBOX_TEST_REDIS"
	oddsEnv  = "OUTBOX_TEST_ODDS" // one in so many points of a child's way ends it; 0: none does
)

// The modes of a writer.
const (
	byOutbox     = "outbox"
	afterCommit  = "after the commit"
	beforeCommit = "before the commit"
)

const items = 40 // rows of the table

// beChild does what the environment says, if this process is a child, and reports whether it is.
func beChild() bool {
	role := os.Getenv(roleEnv)
	if role == "" {
		return false
	}
	go func() { // the end of the parent is the end of its children
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	if err := (map[string]func() error{"writer": writer, "relay": relay})[role](); err != nil {
		fmt.Fprintln(os.Stderr, role, err)
		os.Exit(1)
	}
	return true
}

// point is one at which a process may be killed: kill -9, by itself, so that
// every place in the code is met, however short it is.
func point() {
	if odds, _ := strconv.Atoi(os.Getenv(oddsEnv)); odds > 0 && rand.IntN(odds) == 0 {
		p, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = p.Kill()
		}
		if err != nil {
			panic(err)
		}
		select {}
	}
}

func childDB() (*sql.DB, *outbox.Outbox, redis.UniversalClient, error) {
	data := dbtest.Database{Kind: os.Getenv(kindEnv), Driver: os.Getenv(drvEnv), DSN: os.Getenv(dbEnv)}
	db, err := data.Open()
	if err != nil {
		return nil, nil, nil, err
	}
	box, err := outbox.New(dialectOf(data.Kind))
	if err != nil {
		return nil, nil, nil, err
	}
	rdb, err := cache.NewClient(os.Getenv(redisEnv))
	return db, box, rdb, err
}

// writer changes rows for as long as it lives.
func writer() error {
	db, box, rdb, err := childDB()
	if err != nil {
		return err
	}
	c, err := cache.New[int64, int64](rdb, "items", cache.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	mode, ctx := os.Getenv(modeEnv), context.Background()
	for {
		ids := []int64{rand.Int64N(items)}
		if rand.IntN(3) == 0 {
			ids = append(ids, rand.Int64N(items))
			slices.Sort(ids) // no deadlocks
			ids = slices.Compact(ids)
		}
		if err := change(ctx, db, box, c, mode, ids); err != nil {
			fmt.Fprintln(os.Stderr, "writer:", err)
			time.Sleep(time.Millisecond)
		}
	}
}

// change is one transaction as a program has it, with the points at which it may end.
func change(ctx context.Context, db *sql.DB, box *outbox.Outbox, c *cache.Cache[int64, int64], mode string, ids []int64) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	note := func() error { return nil }
	early := rand.IntN(2) == 0 // before the rows are locked: numbers are then in another order than commits
	switch {
	case mode != byOutbox:
	case early || rand.IntN(3) == 0:
		note = func() error { return outbox.Invalidate(ctx, box.In(tx), c, ids...) }
	default:
		note = func() error { return setAll(ctx, tx, box, c, ids) }
	}
	if early {
		if err := note(); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE item SET version = version + 1 WHERE id = %d", id)); err != nil {
			return err
		}
	}
	point()
	if !early {
		if err := note(); err != nil {
			return err
		}
	}
	point()
	if mode == beforeCommit {
		if err := c.Invalidate(ctx, ids...); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	point()
	if mode == afterCommit {
		return c.Invalidate(ctx, ids...)
	}
	return nil
}

// setAll notes the values that the rows now have.
func setAll(ctx context.Context, tx *sql.Tx, box *outbox.Outbox, c *cache.Cache[int64, int64], ids []int64) error {
	for _, id := range ids {
		var version int64
		if err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT version FROM item WHERE id = %d", id)).Scan(&version); err != nil {
			return err
		}
		if err := outbox.Set(ctx, box.In(tx), c, id, version); err != nil {
			return err
		}
		point()
	}
	return nil
}

// relay runs one for as long as the process lives: over a cache, or over a client, which only
// invalidates.
func relay() error {
	db, box, rdb, err := childDB()
	if err != nil {
		return err
	}
	var target outbox.Target
	if rand.IntN(4) == 0 {
		c, err := invalidate.NewClient(rdb, "items")
		if err != nil {
			return err
		}
		target = mortal{outbox.Client(c)}
	} else {
		c, err := cache.New[int64, int64](rdb, "items", cache.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			return err
		}
		target = replacing{mortal{c}, c, rdb}
	}
	r := &outbox.Relay{
		DB: db, Outbox: box, Targets: []outbox.Target{target}, Logger: slog.New(slog.DiscardHandler),
		Poll: 5 * time.Millisecond, Lease: 200 * time.Millisecond, Batch: 200,
	}
	return r.Run(context.Background())
}

// mortal is a target in whose calls the process may end: before the invalidation, and between it
// and the removal of the row.
type mortal struct{ outbox.Target }

func (m mortal) InvalidateEncoded(ctx context.Context, keys ...string) error {
	point()
	err := m.Target.InvalidateEncoded(ctx, keys...)
	point()
	return err
}

// replacing is a mortal target that takes values as well.
type replacing struct {
	mortal
	cache *cache.Cache[int64, int64]
	rdb   redis.UniversalClient
}

func (r replacing) ReplaceEncoded(ctx context.Context, key string, value []byte) (bool, error) {
	point()
	ok, err := r.cache.ReplaceEncoded(ctx, key, value)
	if ok {
		r.rdb.Incr(ctx, replacedKey)
	}
	point()
	return ok, err
}

// replacedKey counts values that relays have put in place.
const replacedKey = "test:replaced"
