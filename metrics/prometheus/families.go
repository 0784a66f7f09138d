package prometheus

import (
	"strings"
	"time"

	"github.com/delqhi/cache/internal/metrictable"
	"github.com/delqhi/cache/metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// described are the descriptors of the metrics of a Snapshot and of an Outbox, each in the order of
// its table.
type described struct{ caches, outboxes []*prometheus.Desc }

// descriptors are those without a namespace.
var descriptors = describe("")

func describe(n Namespace) *described {
	return &described{describeTable(n, metrictable.Of(new(metrics.Snapshot))), describeTable(n, metrictable.OfOutbox(new(metrics.Outbox)))}
}

func describeTable(namespace Namespace, table []metrictable.Metric) []*prometheus.Desc {
	all := make([]*prometheus.Desc, len(table))
	for i, m := range table {
		labels := []string{"cache"}
		for _, l := range m.Labels {
			labels = append(labels, l[strings.LastIndexByte(l, '.')+1:])
		}
		all[i] = prometheus.NewDesc(namespace.name(m.Prometheus), m.Help, labels, nil)
	}
	return all
}

// collect sends what was counted of a cache, by the descriptors of its table.
func collect(descriptors []*prometheus.Desc, cache string, table []metrictable.Metric, out chan<- prometheus.Metric) {
	for i, m := range table {
		for _, series := range m.Series {
			labels := append([]string{cache}, series.Labels...)
			kind, value := prometheus.GaugeValue, float64(series.Value)
			switch m.Kind {
			case metrictable.Histogram:
				out <- newHistogram(descriptors[i], series.Histogram, labels)
				continue
			case metrictable.Counter:
				kind = prometheus.CounterValue
			case metrictable.Seconds:
				value = time.Duration(series.Value).Seconds()
			case metrictable.SecondsCounter:
				kind, value = prometheus.CounterValue, time.Duration(series.Value).Seconds()
			}
			out <- prometheus.MustNewConstMetric(descriptors[i], kind, value, labels...)
		}
	}
}
