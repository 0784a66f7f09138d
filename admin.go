package cache

import (
	"context"
	"fmt"
	"strings"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
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
	rk := c.prefix + encoded
	key, ok := c.decodeKey(encoded)
	var e Entry[V]
	var err error
	switch {
	case ok:
		e, err = c.Inspect(ctx, key)
	case c.keys.Reversible():
		err = errNoKey
	default:
		e, err = c.inspectRemote(ctx, rk)
		err = c.explain("inspect", err)
	}
	if err != nil {
		return metrics.Inspection{}, err
	}
	return inspection(rk, e), nil
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
				return c.explain("invalidate", errNoKey)
			}
		}
		return c.Invalidate(ctx, decoded...)
	}
	start := local.Now()
	if err := c.usable(ctx); err != nil {
		return c.explain("invalidate", err)
	}
	// The encoded form is sufficient, except in a LocalOnly cache that keeps invalidated
	// entries.
	changes := make([]change[K, V], len(encoded))
	for i, enc := range encoded {
		changes[i].rk = c.prefix + enc
		changes[i].key, _ = c.decodeKey(enc)
	}
	c.invalidate(ctx, changes)
	c.stats.deleteHist.Record(since(start))
	for i := range changes {
		if err := changes[i].err; err != nil {
			return c.explain("invalidate", err)
		}
	}
	return nil
}

var errNoKey = fmt.Errorf("%w: no key of this cache is encoded like that", ErrInvalidOption)

// TopTags returns the tags that this process has invalidated most often by
// [Cache.InvalidateTags] since the cache was made, the most frequent first, at most n of
// them. 256 tags are counted: if there are more, rare ones are left out, and
// no count is too high. Tags of more than 128 bytes are truncated.
func (c *Cache[K, V]) TopTags(n int) []metrics.TagCount {
	top := c.tagged.Top(n)
	tags := make([]metrics.TagCount, len(top))
	for i, t := range top {
		tags[i] = metrics.TagCount{Tag: t.Name, Count: t.Count}
	}
	return tags
}

// Closed reports whether [Cache.Close] was called.
func (c *Cache[K, V]) Closed() bool { return c.isClosed() }

const (
	maxTagged  = 256 // tags that are counted
	maxTagSize = 128 // bytes of a tag that are kept
)

// shortened copies tags, so that a caller's long strings are not kept alive.
func shortened(tags []string) []string {
	short := make([]string, len(tags))
	for i, t := range tags {
		if len(t) > maxTagSize {
			t = strings.ToValidUTF8(t[:maxTagSize-len("…")], "") + "…"
		}
		short[i] = strings.Clone(t)
	}
	return short
}

// decodeKey returns the key of an encoding. If the encoding is not reversible, it searches
// the keys of the local tier: an operator's request is too rare for the cost to matter.
func (c *Cache[K, V]) decodeKey(encoded string) (key K, ok bool) {
	if c.keys.Reversible() {
		return c.keys.Decode(encoded)
	}
	if c.local == nil {
		return key, false
	}
	buf := make([]byte, 0, 128)
	c.local.Range(func(k K, _ *local.Entry[V]) bool {
		if enc, err := c.keys.Append(buf[:0], k); err == nil && string(enc) == encoded {
			key, ok = k, true
		}
		return !ok
	})
	return key, ok
}

// inspectRemote is Inspect for a key of which only the Redis key is known, and which
// therefore is not in the local tier.
func (c *Cache[K, V]) inspectRemote(ctx context.Context, rk string) (Entry[V], error) {
	if err := c.usable(ctx); err != nil {
		return Entry[V]{}, err
	}
	if c.client == nil {
		return Entry[V]{}, ErrMiss
	}
	replies, r, _, err := c.ask(ctx, []store.Command{{Op: store.Get, Key: rk}})
	if replies[0].Err != nil {
		err = replies[0].Err
	}
	if err != nil {
		return Entry[V]{}, &missError{c.unavailable(err)}
	}
	f := c.decode(ctx, rk, replies[0].Record, &r)
	c.judge(ctx, []*decoded[V]{&f})
	switch f.status {
	case unavailable:
		return Entry[V]{}, &missError{c.unavailable(f.err)}
	case usable, stale:
		e := Entry[V]{Value: f.ans.val, Info: f.ans.info}
		if f.status == stale {
			e.Stale, e.TTL = true, 0
		}
		return e, nil
	}
	if f.pending {
		return Entry[V]{}, &missError{c.unavailable(coherence.ErrPending)}
	}
	return Entry[V]{}, ErrMiss
}

func inspection[V any](rk string, e Entry[V]) metrics.Inspection {
	i := metrics.Inspection{RedisKey: rk, Tier: e.Tier, Age: e.Age, TTL: e.TTL, Stale: e.Stale, Absent: e.Absent, Tags: e.Tags}
	if !e.Absent {
		i.Value = e.Value
	}
	return i
}
