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

// EncodeReplacement encodes val so that [Cache.ReplaceEncoded] can later put it in the place of the
// entry that Redis holds for key now, in any process that has this cache: to note in a database's
// transaction what the value will be once it is committed. Nothing is stored yet.
//
// It is nil, without an error, where there is nothing to be replaced later: Redis has no entry of
// the key, or one that is being loaded, or does not answer; the cache is LocalOnly, or has a
// strategy by which values are not put into it by writes, or are queued; the life of val, which
// begins now, is over already. Its form is not meant for other programs; with a codec that
// encrypts, the value is encrypted.
//
// A value that can't be encoded or is too large is an error as it is of [Cache.Set], whether or not
// Redis answers, and so is a context that has ended. The source is not written.
func (c *Cache[K, V]) EncodeReplacement(ctx context.Context, key K, val V, opts ...WriteOption) ([]byte, error) {
	o, err := collect(opts)
	if err != nil {
		return nil, err
	}
	p := &pair[K, V]{key, val}
	return c.engine.EncodeReplacement(ctx, &p.key, &p.val, &o.Options)
}

// ReplaceEncoded puts a replacement by [Cache.EncodeReplacement] in the place of exactly the entry
// that was there when it was encoded, and reports whether it did. Otherwise the key, in the form of
// [Cache.EncodeKey], is invalidated as by [Cache.InvalidateEncoded]: if anything has replaced,
// removed or invalidated the entry since, by any client; if the life of the value is over; if this
// program has another version, codec or type; if replacement is empty or damaged. Tags that were
// invalidated since apply to the value.
//
// So a value never takes the place of a newer one, however late it comes and however often. The
// error is that of InvalidateEncoded. If it matches [ErrUnavailable], call it again.
func (c *Cache[K, V]) ReplaceEncoded(ctx context.Context, encoded string, replacement []byte) (bool, error) {
	if len(replacement) > 0 {
		if _, ok := c.keys.Decode(encoded); !ok && c.keys.Reversible() {
			return false, c.engine.Explain("replace", errNoKey)
		}
		if ok, err := c.engine.Replace(ctx, encoded, replacement); ok || err != nil {
			return ok, err
		}
	}
	return false, c.InvalidateEncoded(ctx, encoded)
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
