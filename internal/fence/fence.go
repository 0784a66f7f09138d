// Package fence tells whether anything has happened to a key since one looked.
//
// Each key has a generation, which every write, removal and notification moves. A
// reader takes a [Token] before it asks Redis or the source, and stores what it
// got in the local tier only if the token is still [Table.Valid]. Without it:
//
//  1. a reader misses and asks Redis, which answers the old value
//  2. a writer stores the new value in Redis, and removes the key locally
//  3. the reader stores the old value locally, where it stays
//
// A writer moves the generation twice: when it starts, and when Redis has
// acknowledged. The second move is for a reader that began in between, and may
// have been answered before or after the write:
//
//  1. a writer moves the generation and sends the new value
//  2. a reader takes its token and asks Redis, which answers the old value
//  3. Redis stores the new value and acknowledges; the writer puts it locally
//  4. the reader stores the old value over it
//
// The writer's own put is guarded by the token of its first move in the same way:
//
//  1. a writer moves the generation and sends its value
//  2. another process writes a newer one; its notification moves the generation
//  3. the first writer's acknowledgement arrives; its value is old by now
//
// Generations are kept for slots of a table, not for keys: two keys may share one,
// and then a move of either makes a reader of the other store nothing, once. That
// costs a miss, never a wrong value.
package fence

import (
	"hash/maphash"
	"sync/atomic"
)

const slots = 4096 // 32 KiB

// Table holds the generations. All methods are safe for concurrent use.
type Table struct {
	seed  maphash.Seed
	epoch atomic.Uint64 // moved by MoveAll
	gen   [slots]atomic.Uint64
}

// Token is the generation of a key at some moment.
type Token struct{ gen, epoch uint64 }

// NewTable returns a table in which nothing has moved.
func NewTable() *Table { return &Table{seed: maphash.MakeSeed()} }

func (t *Table) slot(key string) *atomic.Uint64 {
	return &t.gen[maphash.String(t.seed, key)%slots]
}

// Token returns the key's generation.
func (t *Table) Token(key string) Token {
	return Token{gen: t.slot(key).Load(), epoch: t.epoch.Load()}
}

// Move moves the key's generation and returns the new one.
func (t *Table) Move(key string) Token {
	// The epoch is read first: a MoveAll in between makes the token invalid.
	epoch := t.epoch.Load()
	return Token{gen: t.slot(key).Add(1), epoch: epoch}
}

// Valid reports whether nothing has moved the key since tok.
func (t *Table) Valid(key string, tok Token) bool { return t.Token(key) == tok }

// MoveIf moves the key's generation if nothing has moved it since tok, and
// reports whether it did. Of several callers with one token, one succeeds.
func (t *Table) MoveIf(key string, tok Token) bool {
	return t.epoch.Load() == tok.epoch && t.slot(key).CompareAndSwap(tok.gen, tok.gen+1)
}

// MoveAll moves every key's generation.
func (t *Table) MoveAll() { t.epoch.Add(1) }
