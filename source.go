package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/delqhi/cache/internal/usercode"
)

// LoadFunc loads one value from the source. It returns ErrNotFound, wrapped or not, to
// say that the value does not exist. Its context carries the values of the first caller's
// context and ends when no caller waits any more, at the hard timeout, or at Close. The
// context also identifies the load to the cache: a call of the same cache for the loader's
// own key, which would wait for itself, is an error.
type LoadFunc[K comparable, V any] = func(ctx context.Context, key K) (V, error)

// BatchFunc loads several values at once. A key that is left out of the map
// together with a nil error is absent. With an error, the values in the map are
// valid and the error applies to the keys left out; if the error matches a *[BatchError],
// that says which of them have failed, and those that it does not name are absent. Entries
// that were not requested are ignored, unless strategy.BatchLoads says otherwise.
type BatchFunc[K comparable, V any] = func(ctx context.Context, keys []K) (map[K]V, error)

// Source is the system of record behind a cache, given to [NewFrom]. Each field
// may be nil. Its functions are called concurrently.
type Source[K comparable, V any] struct {
	// Load loads one value. Without it, LoadMany is called with one key.
	Load LoadFunc[K, V]
	// LoadMany loads several values. Without it, a batch runs Load for each key,
	// a few at a time. By strategy.BatchLoads it loads single keys as well.
	LoadMany BatchFunc[K, V]

	// Store, StoreMany and Delete write to the source under a write strategy.
	Store     func(ctx context.Context, key K, val V) error
	StoreMany func(ctx context.Context, vals map[K]V) error
	Delete    func(ctx context.Context, key K) error

	// Key encodes a key for Redis. It is needed for a K that is not a string,
	// integer, bool, text marshaler or struct of those, and replaces the built-in
	// encoding of one that is. Different keys must give different strings: keys
	// with the same string share the value.
	Key func(key K) string

	// Tags returns the tags of a value, for InvalidateTags.
	Tags func(key K, val V) []string

	// TTL returns a lifetime for this value. 0 leaves it to the strategy, a
	// negative one keeps the value out of the cache.
	TTL func(key K, val V) time.Duration

	// Weigh returns how many bytes of strategy.LocalBytes a value with its key takes, in place
	// of an estimate by the size of the record or, without Redis, by reflection. A negative one
	// counts as 0. If Weigh panics the estimate counts. Values that are absent are not weighed.
	Weigh func(key K, val V) int64

	// Clone copies a value. With it, a value from the local tier or a shared load
	// is the caller's own copy; without it, such values are shared and must
	// not be modified. See [WithCloning] for a copy by the codec.
	Clone func(val V) V

	// Default returns a value for a read whose load has failed and that no stale value covers:
	// the last resort of Get, GetMany, GetOrLoad and GetOrLoadMany. It is not stored, and the
	// next read loads, as far as strategy.ErrorTTL allows. It is not asked if the load found
	// that there is no value ([ErrNotFound]), if the caller's context has ended, or if the cache
	// is closed. ok false leaves the caller with the error of the load, and so does a panic, which
	// is logged. It is asked also for a failure that no stale value may cover ([Load].NoStale).
	// [Info].LoadErr is that error. metrics.Snapshot.Defaults counts its values.
	Default func(key K) (val V, ok bool)

	// Removed is called for each value that has left the local tier, after that and not at
	// once: to release what the value holds, or to note what leaves. It is called on a goroutine
	// of its own, for one value after the other, those of a key in the order in which they left,
	// and under no lock: it may use the cache. Values that leave meanwhile wait in memory. A
	// reader may still hold the value. A remembered absence is no value, and neither is one that
	// never entered, such as the result of a load that a write has overtaken.
	//
	// What a tag or [Cache.Clear] has invalidated leaves when it is replaced, or evicted.
	// [Cache.Close] empties the local tier and waits for the calls, for 5 seconds at most; a
	// Removed that calls Close holds that up. A panic is contained, and logged. It needs a local
	// tier.
	Removed func(key K, val V, why Reason)
}

// SourceFunc is a Source that only loads.
func SourceFunc[K comparable, V any](load LoadFunc[K, V]) Source[K, V] {
	return Source[K, V]{Load: load}
}

// KeyedBy makes a BatchFunc of a function that returns a list in any order, as a
// query WHERE id IN (…) does; key returns the key that a value belongs to. Two values
// of one key are an error for that key's whole batch: one of them would be lost
// silently.
func KeyedBy[K comparable, V any](list func(context.Context, []K) ([]V, error), key func(V) K) BatchFunc[K, V] {
	if list == nil || key == nil {
		return func(context.Context, []K) (map[K]V, error) {
			return nil, fmt.Errorf("%w: KeyedBy needs both functions", ErrInvalidOption)
		}
	}
	return func(ctx context.Context, keys []K) (map[K]V, error) {
		vals, err := list(ctx, keys)
		m := make(map[K]V, len(vals))
		for _, v := range vals {
			k := key(v)
			if _, twice := m[k]; twice {
				return nil, errors.New("cache: KeyedBy: the list holds two values of one key")
			}
			m[k] = v
		}
		return m, err
	}
}

// loader returns the function that Get loads with, nil if there is none.
func (s *Source[K, V]) loader() LoadFunc[K, V] {
	if s.Load != nil || s.LoadMany == nil {
		return s.Load
	}
	return oneOf(s.LoadMany)
}

// oneOf returns a LoadFunc that calls many with a single key.
func oneOf[K comparable, V any](many BatchFunc[K, V]) LoadFunc[K, V] {
	return func(ctx context.Context, key K) (V, error) {
		vals, err := many(ctx, []K{key})
		if v, ok := vals[key]; ok {
			return v, nil
		}
		if !findable(key) && len(vals) == 1 {
			for k, v := range vals {
				if !findable(k) {
					return v, nil
				}
			}
		}
		if single, ok := usercode.As[*BatchError[K]](usercode.Checked(err)); ok && ctx.Err() == nil {
			err = single.For(key)
		}
		if err == nil {
			err = ErrNotFound
		}
		var zero V
		return zero, err
	}
}
