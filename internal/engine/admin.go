package engine

import (
	"context"
	"strings"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/metrics"
)

// Methods for callers that know a key by its encoding only.

// InvalidateEncoded makes the keys of encodings that are not reversible invalid.
func (c *Cache) InvalidateEncoded(ctx context.Context, encoded []string) error {
	start := local.Now()
	if err := c.Usable(ctx); err != nil {
		return c.Explain("invalidate", err)
	}
	// The encoded form is sufficient, except in a LocalOnly cache that keeps invalidated
	// entries.
	changes := make([]Change, len(encoded))
	for i, enc := range encoded {
		changes[i].rk = c.prefix + enc
		changes[i].Key, _ = c.DecodeKey(enc)
	}
	c.invalidate(ctx, changes)
	c.stats.deleteHist.Record(since(start))
	for i := range changes {
		if err := changes[i].Err; err != nil {
			return c.Explain("invalidate", err)
		}
	}
	return nil
}

// TopTags returns the tags that were invalidated most often, at most n of them.
func (c *Cache) TopTags(n int) []metrics.TagCount {
	top := c.tagged.Top(n)
	tags := make([]metrics.TagCount, len(top))
	for i, t := range top {
		tags[i] = metrics.TagCount{Tag: t.Name, Count: t.Count}
	}
	return tags
}

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

// DecodeKey returns the key of an encoding. If the encoding is not reversible, it searches
// the keys of the local tier: an operator's request is too rare for the cost to matter.
func (c *Cache) DecodeKey(encoded string) (key Key, ok bool) {
	if c.types.Reversible() {
		return c.types.DecodeKey(encoded)
	}
	key = c.types.NewKey()
	if c.local == nil {
		return key, false
	}
	buf := make([]byte, 0, 128)
	c.local.Range(func(k Key, _ Held) bool {
		if enc, err := c.types.AppendKey(buf[:0], k); err == nil && string(enc) == encoded {
			key, ok = k, true
		}
		return !ok
	})
	return key, ok
}

// InspectEncoded reads what Redis holds under a key of which only the encoding is known, and
// which therefore is not in the local tier.
func (c *Cache) InspectEncoded(ctx context.Context, encoded string) (v Value, info Info, err error) {
	if err = c.Usable(ctx); err == nil {
		v, info, err = c.backend.inspect(ctx, c.prefix+encoded)
	}
	return v, info, c.Explain("inspect", err)
}
