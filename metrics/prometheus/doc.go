// Package prometheus exports the metrics of caches to Prometheus.
//
// A [Collector] reads what caches have counted when it is scraped, so that it costs
// their hot paths nothing:
//
//	import (
//		"github.com/prometheus/client_golang/prometheus"
//		cacheprom "github.com/delqhi/cache/metrics/prometheus"
//	)
//
//	collector, err := cacheprom.NewCollector(users, orders)
//	prometheus.MustRegister(collector)
//
// A [Recorder] counts what can be observed only as it happens: operations on Redis by kind and
// outcome, loads in flight, changes of state. It is passed to the caches by cache.WithRecorder,
// and registered as well. The two have no metric in common.
//
// What relays of the module outbox have counted, and how far they are, is collected as well:
//
//	err = collector.AddRelays(relay)
//
// The names of all metrics begin with "cache_". A program whose metrics share a prefix puts it in
// front of that by a [Namespace]:
//
//	collector, err := cacheprom.Namespace("shop").NewCollector(users, orders) // shop_cache_requests_total
//
// Durations are in seconds. Every metric has the label cache, the cache's name; the
// others have few values, and none contains a key, a tag or the text of an error.
// Histograms have classic buckets and native ones: a server that scrapes native
// histograms gets quantiles exact to about a tenth, another one to a factor of two.
//
// The counters of a Collector do not go back when a program calls ResetMetrics. Those
// that are read one after the other while the cache is at work may differ by what
// happened in between; the equations on metrics.Snapshot hold for a cache at rest.
//
// Beside this file, grafana.json is a dashboard of these metrics, to be imported into Grafana,
// and alerts.yml has alerting rules for Prometheus. Both name the metrics without a namespace.
package prometheus
