package cache

import "github.com/delqhi/cache/metrics"

// Metrics returns the metrics since the cache was made, or since
// [Cache.ResetMetrics].
func (c *Cache[K, V]) Metrics() metrics.Snapshot { return c.engine.Metrics() }

// ResetMetrics resets the counters and histograms of [Cache.Metrics] to zero; gauges
// and the result of [Cache.Totals] are not affected.
func (c *Cache[K, V]) ResetMetrics() { c.engine.ResetMetrics() }

var _ metrics.Cache = (*Cache[string, int])(nil)

// Totals is [Cache.Metrics] since the cache was made, regardless of resets: it is meant for
// monitoring systems, whose counters must never decrease.
func (c *Cache[K, V]) Totals() metrics.Snapshot { return c.engine.Totals() }
