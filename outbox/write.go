package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/delqhi/cache"
)

// Tx writes into the outbox as a part of a transaction; see [Outbox.In]. It is as safe for
// concurrent use as the transaction is.
//
// An error of the database is wrapped: roll the transaction back. Mistakes of the program wrap
// cache.ErrInvalidOption, and were found before anything was written: an *sql.DB instead of a
// transaction, an empty tag, a name of no cache or of more than 512 bytes, an item of more than
// 1 MiB.
type Tx struct {
	outbox *Outbox
	tx     Executor
}

// Cache is a cache by its name: a *cache.Cache, an *invalidate.Client, or a name, by [Named].
type Cache interface{ Name() string }

// Named is the cache of a name, for programs that do not have it.
func Named(name string) Cache { return named(name) }

type named string

// Name implements [Cache].
func (n named) Name() string { return string(n) }

// Keyed is a cache that encodes keys: a *cache.Cache.
type Keyed[K comparable] interface {
	Cache
	EncodeKey(key K) (string, error)
}

// kind is what a row invalidates.
type kind int64

const (
	key kind = iota + 1
	tag
	pattern
	everything
)

func (k kind) String() string {
	switch k {
	case key:
		return "key"
	case tag:
		return "tag"
	case pattern:
		return "pattern"
	case everything:
		return "clear"
	}
	return fmt.Sprintf("kind %d", int64(k))
}

const (
	maxName = 512
	maxItem = 1 << 20

	rowsAtOnce  = 250     // of one INSERT; SQLite may allow 999 arguments
	bytesAtOnce = 1 << 20 // likewise, beside the first row: MySQL may allow 4 MiB
)

// Invalidate notes in the transaction that keys of a cache are to be invalidated when it is
// committed. No keys is no error. A key that can't be encoded is an error, that of
// cache.Cache.EncodeKey, and nothing was written then.
func Invalidate[K comparable](ctx context.Context, tx *Tx, c Keyed[K], keys ...K) error {
	encoded := make([]string, len(keys))
	for i, k := range keys {
		var err error
		if encoded[i], err = c.EncodeKey(k); err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
	}
	return tx.InvalidateEncoded(ctx, c, encoded...)
}

// InvalidateEncoded is [Invalidate] for keys in the form that they have in Redis, without prefix
// and name; see invalidate.Key. Whether they are keys of the cache is not known before a relay
// tries: one that is none becomes a dead letter.
func (t *Tx) InvalidateEncoded(ctx context.Context, c Cache, keys ...string) error {
	return t.write(ctx, c, key, keys)
}

// InvalidateTags notes that the entries of tags are to be invalidated. No tags is no error.
func (t *Tx) InvalidateTags(ctx context.Context, c Cache, tags ...string) error {
	if slices.Contains(tags, "") {
		return mistake("a tag is empty")
	}
	return t.write(ctx, c, tag, tags)
}

// InvalidatePattern notes that keys that match a pattern are to be invalidated; see
// cache.Cache.InvalidatePattern. It is as slow as that: use tags for what happens often.
func (t *Tx) InvalidatePattern(ctx context.Context, c Cache, glob string) error {
	return t.write(ctx, c, pattern, []string{glob})
}

// Clear notes that all entries of a cache are to be invalidated.
func (t *Tx) Clear(ctx context.Context, c Cache) error {
	return t.write(ctx, c, everything, []string{""})
}

func mistake(text string) error { return fmt.Errorf("%w: outbox: %s", cache.ErrInvalidOption, text) }

func (t *Tx) write(ctx context.Context, c Cache, k kind, items []string) error {
	if err := t.check(c, items); err != nil {
		return err
	}
	name, seen := []byte(c.Name()), make(map[string]struct{}, len(items))
	var s *statement
	rows, size := 0, 0
	flush := func() error {
		if rows == 0 {
			return nil
		}
		if t.outbox.notify {
			// The server sends what is the same once, when the transaction is committed.
			s.add(" RETURNING pg_notify(?, '')", t.outbox.Channel())
		}
		rows, size = 0, 0
		if _, err := t.tx.ExecContext(ctx, s.text.String(), s.args...); err != nil {
			return fmt.Errorf("outbox: write: %w", err)
		}
		return nil
	}
	for _, item := range items {
		if _, twice := seen[item]; twice {
			continue
		}
		seen[item] = struct{}{}
		if rows == rowsAtOnce || size+len(item) > bytesAtOnce {
			if err := flush(); err != nil {
				return err
			}
		}
		if rows == 0 {
			s = t.outbox.statement().add("INSERT INTO " + t.outbox.table + " (cache, kind, item, created) VALUES ")
		} else {
			s.add(", ")
		}
		s.add("(?, ?, ?, {now})", name, int64(k), []byte(item))
		rows++
		size += len(item) + len(name)
	}
	return flush()
}

// check finds mistakes before anything is written.
func (t *Tx) check(c Cache, items []string) error {
	if isNil(c) {
		return mistake("the cache is nil")
	}
	if isNil(t.tx) {
		return mistake("the transaction is nil")
	}
	var mistakes []error
	if _, pool := t.tx.(*sql.DB); pool {
		mistakes = append(mistakes, mistake("an *sql.DB is no transaction: use BeginTx"))
	}
	if n := len(c.Name()); n == 0 || n > maxName {
		mistakes = append(mistakes, mistake(fmt.Sprintf("a name of %d bytes can't be that of a cache: it has 1 to %d", n, maxName)))
	}
	for _, item := range items {
		if len(item) > maxItem {
			mistakes = append(mistakes, mistake(fmt.Sprintf("an item of %d bytes is longer than %d", len(item), maxItem)))
		}
	}
	return errors.Join(mistakes...)
}

func isNil(v any) bool {
	r := reflect.ValueOf(v)
	return !r.IsValid() || r.Kind() == reflect.Pointer && r.IsNil()
}
