package cache

import (
	"context"
	"fmt"

	"github.com/delqhi/cache/internal/local"
)

// readMany reads several keys: each tier is asked once for all that are open.
func (c *Cache[K, V]) readMany(ctx context.Context, op string, keys []K, j *loader[K, V], o *callOptions) (map[K]V, error) {
	vals := make(map[K]V, len(keys))
	if o.report != nil {
		return vals, fmt.Errorf("%w: Report holds for one key, and this is a batch", ErrInvalidOption)
	}
	start := local.Now()
	s := c.scratch.get(len(keys))
	var zero V
	for _, k := range keys {
		if _, again := vals[k]; again {
			continue
		}
		s.items = append(s.items, lookup[K, V]{key: k})
		if k == k { // not NaN, which could not be deleted from the map again
			vals[k] = zero
		}
	}
	c.read(ctx, s, j, o)
	c.stats.getManyHist.Record(since(start))

	var failed map[K]error
	for i := range s.items {
		it := &s.items[i]
		if it.err == ErrMiss || it.err == nil && it.ans.absent != nil {
			delete(vals, it.key)
			continue
		}
		v, err := c.deliver(op, it)
		if err == nil {
			vals[it.key] = v
			continue
		}
		delete(vals, it.key)
		if failed == nil {
			failed = map[K]error{}
		}
		failed[it.key] = err
	}
	c.scratch.put(s)
	return vals, batchError(failed)
}
