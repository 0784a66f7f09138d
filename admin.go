package cache

import (
	"context"
	"fmt"

	"github.com/delqhi/cache/internal/engine"
	"github.com/delqhi/cache/metrics"
)

// Methods for programs that do not know the types of a cache: for example an admin page
// where an operator enters a key.

// InspectEncoded is [Cache.Inspect] for a key in the form that it has in Redis,
// without prefix and name; see [Cache.RedisKey] and invalidate.Key. It loads,
// fills and extends nothing, and is not counted as a request.
//
// The error matches [ErrMiss] if no tier has an entry, and [ErrInvalidOption] if
// no key of this cache has that form.
func (c *Cache[K, V]) InspectEncoded(ctx context.Context, encoded string) (metrics.Inspection, error) {
	key, ok := c.engine.DecodeKey(encoded)
	var e Entry[V]
	var err error
	switch {
	case ok:
		e, err = c.Inspect(ctx, *key.(*K))
	case c.keys.Reversible():
		err = errNoKey
	default:
		var v engine.Value
		var info engine.Info
		v, info, err = c.engine.InspectEncoded(ctx, encoded)
		e = Entry[V]{valueOf[V](v), Info(info)}
	}
	if err != nil {
		return metrics.Inspection{}, err
	}
	return inspection(c.engine.Prefix()+encoded, e), nil
}

// EncodeKey returns key in the form that it has in Redis, without prefix and name, as
// [Cache.InspectEncoded] and [Cache.InvalidateEncoded] take it: to note in a database or a
// message what is to be invalidated. It does no I/O, and works after [Cache.Close]. The error
// is that of the key's text marshaler, or of [Source].Key.
func (c *Cache[K, V]) EncodeKey(key K) (string, error) {
	rk, err := c.engine.RedisKey(&key)
	if err != nil {
		return "", c.engine.Explain("encode key", err)
	}
	return rk[len(c.engine.Prefix()):], nil
}

// InvalidateEncoded is [Cache.Invalidate] for keys in the form that they have in
// Redis, without prefix and name. The error matches [ErrInvalidOption] if one of them is
// not the form of a key of this cache, as far as that can be determined: nothing was
// invalidated then.
func (c *Cache[K, V]) InvalidateEncoded(ctx context.Context, encoded ...string) error {
	if c.keys.Reversible() {
		decoded := make([]K, len(encoded))
		for i, enc := range encoded {
			var ok bool
			if decoded[i], ok = c.keys.Decode(enc); !ok {
				return c.engine.Explain("invalidate", errNoKey)
			}
		}
		return c.Invalidate(ctx, decoded...)
	}
	return c.engine.InvalidateEncoded(ctx, encoded)
}

var errNoKey = fmt.Errorf("%w: no key of this cache is encoded like that", ErrInvalidOption)

// TopTags returns the tags that this process has invalidated most often by
// [Cache.InvalidateTags] since the cache was made, the most frequent first, at most n of
// them. 256 tags are counted: if there are more, rare ones are left out, and
// no count is too high. Tags of more than 128 bytes are truncated.
func (c *Cache[K, V]) TopTags(n int) []metrics.TagCount {
	return c.engine.TopTags(n)
}

// Closed reports whether [Cache.Close] was called.
func (c *Cache[K, V]) Closed() bool { return c.engine.Closed() }

func inspection[V any](rk string, e Entry[V]) metrics.Inspection {
	i := metrics.Inspection{RedisKey: rk, Tier: e.Tier, Age: e.Age, TTL: e.TTL, Stale: e.Stale, Absent: e.Absent, Tags: e.Tags}
	if !e.Absent {
		i.Value = e.Value
	}
	return i
}
