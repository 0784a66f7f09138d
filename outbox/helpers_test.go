package outbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/outbox"
	"github.com/delqhi/cache/outbox/internal/dbtest"
)

// each runs a test on every database.
func each(t *testing.T, f func(t *testing.T, b *bench)) {
	onAll(t, func(t *testing.T, kind string) { f(t, newBench(t, kind)) })
}

func onAll(t *testing.T, f func(t *testing.T, kind string)) {
	for _, kind := range dbtest.Kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f(t, kind)
		})
	}
}

// bench is a database with an outbox.
type bench struct {
	t    *testing.T
	data dbtest.Database
	db   *sql.DB
	box  *outbox.Outbox
}

func dialectOf(kind string) outbox.Dialect {
	switch kind {
	case "PostgreSQL":
		return outbox.PostgreSQL
	case "MariaDB", "MySQL":
		return outbox.MySQL
	}
	return outbox.SQLite
}

func newBench(t *testing.T, kind string, opts ...outbox.Option) *bench {
	t.Helper()
	data, db := dbtest.New(t, kind)
	box, err := outbox.New(dialectOf(kind), opts...)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t, data, db, box}
	for _, m := range box.Migrations() {
		for _, s := range m.Up {
			b.exec(s)
		}
	}
	return b
}

func (b *bench) exec(query string, args ...any) {
	b.t.Helper()
	if _, err := b.db.ExecContext(b.t.Context(), query, args...); err != nil {
		b.t.Fatalf("%s: %v", query, err)
	}
}

// in runs f in a transaction and commits it.
func (b *bench) in(f func(tx *outbox.Tx) error) {
	b.t.Helper()
	tx, err := b.db.BeginTx(b.t.Context(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	defer tx.Rollback()
	if err := f(b.box.In(tx)); err != nil {
		b.t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) keys(name string, keys ...string) {
	b.t.Helper()
	b.in(func(tx *outbox.Tx) error { return tx.InvalidateEncoded(b.t.Context(), outbox.Named(name), keys...) })
}

func (b *bench) backlog(name string) outbox.Backlog {
	b.t.Helper()
	all, err := b.box.Backlogs(b.t.Context(), b.db)
	if err != nil {
		b.t.Fatal(err)
	}
	return all[name]
}

// relay is one with short times, for these targets.
func (b *bench) relay(targets ...outbox.Target) *outbox.Relay {
	return &outbox.Relay{
		DB: b.db, Outbox: b.box, Targets: targets, Logger: discard,
		Poll: 5 * time.Millisecond, Lease: 300 * time.Millisecond, MaxBackoff: 50 * time.Millisecond,
	}
}

// run runs a relay until stop is called, or the test ends.
func (b *bench) run(r *outbox.Relay) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		err = r.Run(ctx)
	}()
	stop = func() error {
		cancel()
		<-ended
		return err
	}
	b.t.Cleanup(func() { _ = stop() })
	return stop
}

const patience = 60 * time.Second

var discard = slog.New(slog.DiscardHandler)

// await polls until f is true. An example has no t.
func await(t *testing.T, what string, f func() bool) {
	if t != nil {
		t.Helper()
	}
	for end := time.Now().Add(patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			if t == nil {
				panic("waited in vain for " + what)
			}
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// fake is a target that records what it is asked.
type fake struct {
	name string

	mu    sync.Mutex
	calls []string
	fail  func(call string) error
}

func (f *fake) Name() string { return f.name }

func (f *fake) record(ctx context.Context, call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.fail != nil {
		if err := f.fail(call); err != nil {
			return err
		}
	}
	f.calls = append(f.calls, call)
	return nil
}

func (f *fake) InvalidateEncoded(ctx context.Context, keys ...string) error {
	for _, k := range keys {
		if err := f.record(ctx, "key "+k); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) InvalidateTags(ctx context.Context, tags ...string) error {
	for _, t := range tags {
		if err := f.record(ctx, "tag "+t); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) InvalidatePattern(ctx context.Context, p string) (int64, error) {
	return 1, f.record(ctx, "pattern "+p)
}

func (f *fake) Clear(ctx context.Context) error { return f.record(ctx, "clear") }

func (f *fake) failing(fail func(call string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *fake) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *fake) has(call string) bool { return slices.Contains(f.took(), call) }

func away(string) error { return fmt.Errorf("fake: %w", cache.ErrUnavailable) }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
