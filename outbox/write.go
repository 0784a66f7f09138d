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

	maxValue = 1 << 20 // of a value, encoded: a larger one is left out, and its key invalidated

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

// Valued is a cache that encodes keys and values: a *cache.Cache.
type Valued[K comparable, V any] interface {
	Keyed[K]
	EncodeReplacement(ctx context.Context, key K, val V, opts ...cache.WriteOption) ([]byte, error)
}

// Set notes in the transaction that the value of key is val when it is committed. Call it after
// the statement that changes the row, with what the row then has.
//
// It is an invalidation that saves the load which follows it, where that can be had safely: the
// relay puts val into the cache if the entry is still the one that the cache had when Set was
// called, and otherwise invalidates the key, as [Invalidate] does. So a value never takes the place
// of a newer one, whatever the order of commits, however late the relay is and however often it
// applies the row, and whatever else writes or invalidates the key; see the package's documentation.
// It is only an invalidation as well where the cache had no entry of the key, where Redis did not
// answer, where several rows concern the key, where a target of the relay is a [Client], and for a
// value that takes more than 1 MiB.
//
// Set asks Redis once, within the timeout of the cache. The life of val begins now; opts are those
// of cache.Cache.Set. Until it is applied the value is in the table, in the form of the cache's
// codec: encrypted if that encrypts. The error is that of cache.Cache.EncodeReplacement or
// EncodeKey, and nothing was written then; that Redis does not answer is none.
func Set[K comparable, V any](ctx context.Context, tx *Tx, c Valued[K, V], k K, val V, opts ...cache.WriteOption) error {
	if isNil(c) {
		return mistake("the cache is nil")
	}
	encoded, err := c.EncodeKey(k)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	if err := tx.check(c, []string{encoded}); err != nil {
		return err // before Redis is asked
	}
	value, err := c.EncodeReplacement(ctx, k, val, opts...)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	if len(value) > maxValue {
		value = nil
	}
	return tx.write(ctx, c, key, []string{encoded}, value)
}

// InvalidateEncoded is [Invalidate] for keys in the form that they have in Redis, without prefix
// and name; see invalidate.Key. Whether they are keys of the cache is not known before a relay
// tries: one that is none becomes a dead letter.
func (t *Tx) InvalidateEncoded(ctx context.Context, c Cache, keys ...string) error {
	return t.write(ctx, c, key, keys, nil)
}

// InvalidateTags notes that the entries of tags are to be invalidated. No tags is no error.
func (t *Tx) InvalidateTags(ctx context.Context, c Cache, tags ...string) error {
	if slices.Contains(tags, "") {
		return mistake("a tag is empty")
	}
	return t.write(ctx, c, tag, tags, nil)
}

// InvalidatePattern notes that keys that match a pattern are to be invalidated; see
// cache.Cache.InvalidatePattern. It is as slow as that: use tags for what happens often.
func (t *Tx) InvalidatePattern(ctx context.Context, c Cache, glob string) error {
	return t.write(ctx, c, pattern, []string{glob}, nil)
}

// Clear notes that all entries of a cache are to be invalidated.
func (t *Tx) Clear(ctx context.Context, c Cache) error {
	return t.write(ctx, c, everything, []string{""}, nil)
}

func mistake(text string) error { return fmt.Errorf("%w: outbox: %s", cache.ErrInvalidOption, text) }

// write writes rows. value is that of the only item, or nil.
func (t *Tx) write(ctx context.Context, c Cache, k kind, items []string, value []byte) error {
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
		switch {
		case value != nil:
			s = t.outbox.statement().add("INSERT INTO "+t.outbox.table+" (value, cache, kind, item, created) VALUES (?, ", value)
		case rows == 0:
			s = t.outbox.statement().add("INSERT INTO " + t.outbox.table + " (cache, kind, item, created) VALUES (")
		default:
			s.add(", (")
		}
		s.add("?, ?, ?, {now})", name, int64(k), []byte(item))
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
