// Package fence detects whether a key was written or invalidated since a reader or writer
// began.
//
// Each key has a generation, which every write, removal and notification moves. A reader takes
// a [Token] before it asks Redis or the source, and stores the value in the local tier only if
// the token is still [Table.Valid]. Without it:
//
//  1. a reader misses and asks Redis, which answers with the old value
//  2. a writer stores the new value in Redis, and removes the key locally
//  3. the reader stores the old value locally, where it stays
//
// A writer moves the generation when Redis has acknowledged. That also covers a reader that
// began while the write was in flight, and may have been answered before or after it:
//
//  1. a writer sends the new value
//  2. a reader takes its token and asks Redis, which answers with the old value
//  3. Redis stores the new value and acknowledges; the writer puts it locally
//  4. the reader stores the old value over it
//
// It need not move it when it starts: a value that a reader stores before the acknowledgement
// may be old, since the write has not returned to its caller yet, and the writer's put replaces
// it.
//
// The writer's own put is guarded by the token of its start in the same way:
//
//  1. a writer takes its token and sends its value
//  2. another process writes a newer one; its notification moves the generation
//  3. the first writer's acknowledgement arrives; its value is old by now
//
// Generations are kept for slots of a table, not for keys: two keys may share one, and then a
// move of either makes a reader of the other store nothing, once. That costs a miss, never a
// wrong value. Without Redis to read the value from, see [Table.WithClaims].
package fence

import (
	"hash/maphash"
	"sync/atomic"
)

const slots = 4096 // 32 KiB

// Table holds the generations. All methods are safe for concurrent use.
type Table struct {
	seed  maphash.Seed
	epoch atomic.Uint64 // moved by MoveAll and Turn
	gen   [slots]atomic.Uint64

	claims *claims // nil: none
}

// Token is the generation of a key at some moment.
type Token struct{ gen, epoch uint64 }

// NewTable returns a table in which no generation has moved.
func NewTable() *Table { return &Table{seed: maphash.MakeSeed()} }

func (t *Table) hash(key string) uint64 { return maphash.String(t.seed, key) }

// Place is where a table has a key, for who needs that several times.
type Place struct {
	key  string
	hash uint64
}

// Hash returns the hash of the key, by which the table places it.
func (p Place) Hash() uint64 { return p.hash }

// Place returns that of a key.
func (t *Table) Place(key string) Place { return Place{key, t.hash(key)} }

// Token returns the key's generation.
func (t *Table) Token(key string) Token { return t.TokenAt(t.Place(key)) }

// TokenAt is Token of the key of a place.
func (t *Table) TokenAt(p Place) Token {
	return Token{gen: t.gen[p.hash%slots].Load(), epoch: t.epoch.Load()}
}

// Move moves the key's generation and returns the new one. The claims of the key are lost.
func (t *Table) Move(key string) Token { return t.MoveAt(t.Place(key)) }

// MoveAt is Move of the key of a place.
func (t *Table) MoveAt(p Place) Token {
	tok := Token{gen: t.gen[p.hash%slots].Add(1), epoch: t.epoch.Load()}
	if t.claims.any(p.hash) {
		t.claims.lose(p)
	}
	return tok
}

// Bump moves the key's generation and leaves its claims.
func (t *Table) Bump(key string) { t.BumpAt(t.Place(key)) }

// BumpAt is Bump of the key of a place.
func (t *Table) BumpAt(p Place) { t.gen[p.hash%slots].Add(1) }

// Valid reports whether the key's generation is still that of tok.
func (t *Table) Valid(key string, tok Token) bool { return t.Token(key) == tok }

// MoveIf moves the key's generation if it is still that of tok, and reports whether it did. Of
// several callers with one token, one succeeds.
func (t *Table) MoveIf(key string, tok Token) bool {
	h := t.hash(key)
	if t.epoch.Load() != tok.epoch || !t.gen[h%slots].CompareAndSwap(tok.gen, tok.gen+1) {
		return false
	}
	if t.claims.any(h) {
		t.claims.lose(Place{key, h})
	}
	return true
}

// MoveAll moves every key's generation. All claims are lost.
func (t *Table) MoveAll() { t.LoseMatching(func(string) bool { return true }) }

// Turned reports whether every key's generation was moved since tok was taken, by Turn or MoveAll.
func (t *Table) Turned(tok Token) bool { return t.epoch.Load() != tok.epoch }

// Turn moves every key's generation and leaves the claims: loads from before may still be
// stored, if their claims hold, but do not answer callers that arrive later.
func (t *Table) Turn() { t.epoch.Add(1) }
