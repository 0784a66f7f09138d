package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/outbox"
)

func TestWhatIsCommittedIsInvalidated(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		users := &fake{name: "users"}
		odd := "a\x00b\xff'\"\\?$1{now}\n:é"
		b.in(func(tx *outbox.Tx) error {
			return errors.Join(
				tx.InvalidateEncoded(ctx, users, "1", odd, "1", ""),
				tx.InvalidateTags(ctx, users, "tenant:acme", odd),
				tx.InvalidatePattern(ctx, users, "acme:*"),
				tx.InvalidateEncoded(ctx, users), tx.InvalidateTags(ctx, users),
			)
		})
		if got := b.backlog("users"); got.Pending != 6 || got.Dead != 0 || got.Oldest < 0 || got.Oldest > time.Hour {
			t.Errorf("backlog %+v", got)
		}
		b.run(b.relay(users))
		await(t, "an empty outbox", func() bool { return b.backlog("users").Pending == 0 })
		got := users.took()
		slices.Sort(got)
		want := []string{"key ", "key 1", "key " + odd, "pattern acme:*", "tag " + odd, "tag tenant:acme"}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		b.in(func(tx *outbox.Tx) error { return tx.Clear(ctx, users) })
		await(t, "clear", func() bool { return users.has("clear") })
	})
}

func TestWhatIsRolledBackIsNot(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		tx, err := b.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.box.In(tx).InvalidateEncoded(t.Context(), outbox.Named("users"), "1"); err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if n := b.backlog("users").Pending; n != 0 {
			t.Errorf("%d rows", n)
		}
	})
}

// Many keys take several statements, and long ones more.
func TestManyAndLongKeys(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		users := &fake{name: "users"}
		var keys []string
		for i := range 1000 {
			keys = append(keys, fmt.Sprint(i))
		}
		for i := range 5 {
			keys = append(keys, strings.Repeat(fmt.Sprint(i), 1<<20))
		}
		b.keys("users", keys...)
		if n := b.backlog("users").Pending; int(n) != len(keys) {
			t.Fatalf("%d rows of %d", n, len(keys))
		}
		b.run(b.relay(users))
		await(t, "an empty outbox", func() bool { return b.backlog("users").Pending == 0 })
		got := users.took()
		slices.Sort(got)
		if got = slices.Compact(got); len(got) != len(keys) {
			t.Errorf("%d keys of %d", len(got), len(keys))
		}
	})
}

// seat is a key of two fields.
type seat struct {
	Hall string
	No   int
}

func TestTypedKeysAreEncodedAsTheCacheDoes(t *testing.T) {
	b := newBench(t, "SQLite")
	seats, err := cache.New[seat, string](nil, "seats", cache.LocalOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer seats.Close()
	loads := 0
	load := func(context.Context, seat) (string, error) { loads++; return fmt.Sprint(loads), nil }
	get := func(k seat) string {
		v, err := seats.GetOrLoad(t.Context(), k, load)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	one, two := seat{"a:b", 7}, seat{"a", 8}
	if get(one) != "1" || get(two) != "2" {
		t.Fatal("not loaded")
	}
	b.in(func(tx *outbox.Tx) error { return outbox.Invalidate(t.Context(), tx, seats, one) })
	b.run(b.relay(seats))
	await(t, "the invalidation", func() bool { _, err := seats.Peek(t.Context(), one); return errors.Is(err, cache.ErrMiss) })
	if get(one) != "3" || get(two) != "2" {
		t.Error("another key was invalidated")
	}
}

func TestMistakesAreFoundBeforeAnythingIsWritten(t *testing.T) {
	b := newBench(t, "SQLite")
	ctx := t.Context()
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	users := outbox.Named("users")
	var noTx *sql.Tx
	var noCache *cache.Cache[int, int]
	for what, err := range map[string]error{
		"a pool":          b.box.In(b.db).Clear(ctx, users),
		"no transaction":  b.box.In(nil).Clear(ctx, users),
		"a nil one":       b.box.In(noTx).Clear(ctx, users),
		"no cache":        b.box.In(tx).Clear(ctx, nil),
		"a nil cache":     b.box.In(tx).Clear(ctx, noCache),
		"no name":         b.box.In(tx).Clear(ctx, outbox.Named("")),
		"a long name":     b.box.In(tx).Clear(ctx, outbox.Named(strings.Repeat("n", 513))),
		"an empty tag":    b.box.In(tx).InvalidateTags(ctx, users, "a", ""),
		"a very long key": b.box.In(tx).InvalidateEncoded(ctx, users, "a", strings.Repeat("k", 1<<20+1)),
	} {
		if !errors.Is(err, cache.ErrInvalidOption) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if all, err := b.box.Backlogs(ctx, b.db); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	for _, opts := range [][]outbox.Option{{nil}, {outbox.Table("")}, {outbox.Table("a b")}, {outbox.Table("a.b.c")}, {outbox.Table(strings.Repeat("t", 51))}, {outbox.Table("x; DROP TABLE y")}} {
		if _, err := outbox.New(outbox.SQLite, opts...); !errors.Is(err, cache.ErrInvalidOption) {
			t.Errorf("%v", err)
		}
	}
	if _, err := outbox.New(0); !errors.Is(err, cache.ErrInvalidOption) {
		t.Errorf("%v", err)
	}
}

func TestAnotherNameOfTheTable(t *testing.T) {
	for _, kind := range []string{"PostgreSQL", "SQLite"} {
		t.Run(kind, func(t *testing.T) {
			name := map[string]string{"PostgreSQL": "public.NOW_box", "SQLite": "main.NOW_box"}[kind]
			b := newBench(t, kind, outbox.Table(name))
			users := &fake{name: "users"}
			b.keys("users", "1")
			b.run(b.relay(users))
			await(t, "the key", func() bool { return users.has("key 1") })
		})
	}
}

// Migrations can be made twice, and taken back.
func TestMigrations(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		for _, m := range b.box.Migrations() {
			for _, s := range m.Up {
				b.exec(s)
			}
		}
		b.keys("users", "1")
		for _, m := range slices.Backward(b.box.Migrations()) {
			for _, s := range m.Down {
				b.exec(s)
			}
		}
		if _, err := b.box.Backlogs(t.Context(), b.db); err == nil {
			t.Error("the table is still there")
		}
		if schema := b.box.Schema(); strings.Count(schema, ";\n") < 2 || !strings.Contains(schema, "cache_outbox_lease") {
			t.Errorf("schema:\n%s", schema)
		}
	})
}
