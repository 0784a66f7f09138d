package engine

import (
	"context"
	"iter"
	"reflect"
	"time"

	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/local"
)

// Key is a key of the program: a *K. The engine does not look into it; in Redis, and among the
// loads in flight, the key stands under its encoding.
type Key = any

// Value is a value of the program: a *V. What it points to is not modified. nil stands for the
// zero value.
type Value = any

// Types is what the engine asks of the types of keys and values. Its methods do not panic, but
// for those that the comment says so of: they call functions of the program.
type Types interface {
	// AppendKey appends the encoding of a key.
	AppendKey(dst []byte, k Key) ([]byte, error)
	// Text returns a key that is its own encoding; ok is false for any other.
	Text(k Key) (text string, ok bool)
	// Reversible reports whether DecodeKey decodes what AppendKey encodes.
	Reversible() bool
	DecodeKey(encoded string) (k Key, ok bool)
	// KeepKeys replaces keys by copies, for as long as they are needed.
	KeepKeys(keys []Key)

	// KeepKey is KeepKeys of one key, in one allocation with the memory of a value.
	KeepKey(Key) (kept Key, space Value)
	// Findable reports whether a key equals itself: NaN, for example, does not.
	Findable(k Key) bool
	// Key returns the K, as a codec takes it; NewKey a new one to decode into.
	Key(k Key) any
	NewKey() Key

	// NewValue returns a zero value to decode into.
	NewValue() Value
	// Elem returns the V, as a codec takes it.
	Elem(v Value) any
	// ValueType is the type of V.
	ValueType() reflect.Type

	// NewHandle returns the value that a loader finds under HandleKey in its context, and the
	// handle in it.
	NewHandle() (any, *Handle)
	// Single returns a function that gives the error of each key if err matches one that has the
	// errors of single keys, and how many they are; else nil.
	Single(err error) (of func(k Key) error, n int)
}

// Loader has the functions that load.
type Loader interface {
	// HasOne and HasMany say which of Load and LoadMany there are.
	HasOne() bool
	HasMany() bool
	// Load loads one value. It may panic.
	Load(ctx context.Context, k Key) (Value, error)
	// LoadMany loads several values; the function that it returns looks up one of them. It may
	// panic.
	LoadMany(ctx context.Context, keys []Key) (Found, error)
}

// loadsInto is a Loader that loads one value into a space that is the cache's.
type loadsInto interface {
	LoadInto(ctx context.Context, k Key, space Value) error
}

// Found is the result of a LoadMany. The zero value is an empty one.
type Found struct {
	// Get looks up the value of a key.
	Get func(k Key) (Value, bool)
	// N is how many values there are, and All has all of them, with keys that may be kept, also
	// those that were not asked for. nil: not known.
	N   int
	All iter.Seq2[Key, Value]
}

// Source has the functions of the program's source; nil for those that there are none of. They
// may panic.
type Source struct {
	Loader    Loader
	Store     func(ctx context.Context, k Key, v Value) error
	StoreMany func(ctx context.Context, keys []Key, vals []Value) error
	Delete    func(ctx context.Context, k Key) error
	Tags      func(k Key, v Value) []string
	TTL       func(k Key, v Value) time.Duration
	Clone     func(v Value) Value
	Weigh     func(k Key, v Value) int64
}

// Held is an entry of the local tier.
type Held = local.Held

// Local is the local tier; see [local.Untyped].
type Local interface {
	Get(k Key, now int64) (Held, bool)
	Peek(k Key) (Held, bool)
	Use(k Key) (Held, bool)
	Put(k Key, encoded string, e Held, f fence.Token) bool
	PutAndBump(k Key, encoded string, e Held, f fence.Token) bool
	Swap(k Key, encoded string, e Held, f fence.Token) bool
	Replace(k Key, old, e Held, encoded string) bool
	Set(k Key, encoded string, e Held, now int64) local.Outcome
	CompareAndSwap(k Key, encoded string, old, e Held) local.Outcome
	Fill(k Key, encoded string, e Held, c *fence.Claim, now int64) local.Outcome
	Remove(encoded string) bool
	Delete(encoded string) bool
	Resize(capacity int) error
	Range(f func(k Key, e Held) bool)
	Flush()
	Close()
	Len() int
	Bytes() int64
	Evictions() uint64
}
