package cache

import (
	"context"

	"github.com/delqhi/cache/internal/engine"
	"github.com/delqhi/cache/internal/usercode"
)

// lastResort returns the value of [Source].Default for a read whose load has failed; ok is false
// if there is none. A panic there is a lack of one: the reader gets the load's error.
func (c *Cache[K, V]) lastResort(ctx context.Context, key K, it *engine.Lookup) (v V, ok bool) {
	if !it.LoadFailed() || ctx.Err() != nil || c.Closed() {
		return v, false
	}
	err := usercode.Do(func() { v, ok = c.dflt(key) })
	if err != nil {
		c.engine.Panicked("Source.Default", err)
	}
	if err != nil || !ok {
		var zero V
		return zero, false
	}
	c.engine.CountDefault()
	return v, true
}
