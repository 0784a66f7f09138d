package cache

import (
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/delqhi/cache/internal/engine"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/topk"
	"github.com/delqhi/cache/metrics"
)

// Looking into a running cache, and steering it.

// Local returns what the local tier would answer reads with: values that are fresh and not
// invalidated, and remembered absences, in no order. Entries that come while the loop runs may or
// may not be among them; those that have left, and former values, are not. Nothing is counted as a request or as a use, and no lock is
// held: the loop may use the cache.
//
// It is empty while the local tier is not in use, as when notifications can't be received, and
// without a local tier. A value is shared with the cache, unless that copies values.
func (c *Cache[K, V]) Local() iter.Seq2[K, Entry[V]] {
	return func(yield func(K, Entry[V]) bool) {
		if c.local == nil {
			return
		}
		c.local.Range(func(k K, _ *local.Entry[V]) bool {
			e, info, ok := c.engine.PeekLocal(&k) // the loop may have changed it, or waited for long
			if !ok {
				return true
			}
			v := valueOf[V](e.Value)
			if c.clone != nil && !info.Absent {
				var err error
				if v, err = c.clone(v); err != nil {
					return true
				}
			}
			return yield(k, Entry[V]{Value: v, Info: Info(info)})
		})
	}
}

// Resize changes the number of entries that the local tier has room for, as strategy.LRU and
// strategy.TinyLFU set it at first. Entries that are too many are evicted before it returns, a
// few hundred at a time, so that readers and writers go on meanwhile.
//
// The error matches [ErrInvalidOption] if n is below 1, or below the number of parts that a tier
// of 1,024 entries or more is divided into, which are at most 16 and stay as many;
// [errors.ErrUnsupported] for a cache without a local tier; and [ErrClosed]. The bound of
// strategy.LocalBytes stays.
func (c *Cache[K, V]) Resize(n int) error {
	switch {
	case c.engine.Closed():
		return ErrClosed
	case c.local == nil:
		return engine.Unsupported("Resize of a cache without a local tier: write strategy.LRU or strategy.TinyLFU for one")
	case n > maxEntries:
		return fmt.Errorf("%w: Resize(%d): no memory holds so many entries: write at most %d", ErrInvalidOption, n, maxEntries)
	}
	if err := c.local.Resize(n); err != nil {
		return fmt.Errorf("%w: Resize(%d): %w", ErrInvalidOption, n, err)
	}
	return nil
}

const maxEntries = 1 << 30 // as in strategy.LRU

// KeyCount is how often a key was read, about.
type KeyCount[K comparable] struct {
	Key   K
	Count uint64
}

// maxHot is the number of keys that are counted.
const maxHot = 1024

// hotKeys counts reads by key, once that was asked for.
type hotKeys[K comparable] struct{ table atomic.Pointer[topk.Of[K]] }

// add counts n reads of a key.
func (h *hotKeys[K]) add(key K, n uint64) {
	if t := h.table.Load(); t != nil {
		addTo(t, key, n)
	}
}

// addTo does not count an interface's value that can't be compared, as a key that [Source].Key
// encodes may be: a read of it must not panic because another part of the program counts keys.
func addTo[K comparable](t *topk.Of[K], key K, n uint64) {
	defer func() { _ = recover() }()
	t.AddN(key, n)
}

// HotKeys returns the keys that this process has read most often since the first call of
// HotKeys, or of [Cache.HotKeysEncoded], the most frequent first, at most n of them. Until the
// first call nothing is counted, which therefore returns none; from then on a read costs hardly
// more: of hits in the local tier one in 256 is counted, for all of them, and each other read.
//
// Counts are estimates. 1,024 keys are counted: if there are more, rare ones are left out, and
// of a key that came late those reads are left out that may be other keys'.
func (c *Cache[K, V]) HotKeys(n int) []KeyCount[K] {
	t := c.hot.table.Load()
	if t == nil {
		c.hot.table.CompareAndSwap(nil, topk.NewOf[K](maxHot))
		t = c.hot.table.Load()
	}
	top := t.Top(n)
	keys := make([]KeyCount[K], len(top))
	for i, k := range top {
		keys[i] = KeyCount[K]{k.Name, k.Count}
	}
	return keys
}

// HotKeysEncoded is [Cache.HotKeys] for a program that does not know the type of keys: they
// have the form that they have in Redis, without prefix and name. A key whose text marshaler
// fails is left out.
func (c *Cache[K, V]) HotKeysEncoded(n int) []metrics.KeyCount {
	top := c.HotKeys(n)
	keys := make([]metrics.KeyCount, 0, len(top))
	for _, k := range top {
		if enc, err := c.EncodeKey(k.Key); err == nil {
			keys = append(keys, metrics.KeyCount{Key: enc, Count: k.Count})
		}
	}
	return keys
}
