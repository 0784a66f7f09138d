package prometheus

import (
	"strings"
	"time"

	"github.com/delqhi/cache/internal/metrictable"
	"github.com/delqhi/cache/metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// descriptors are those of the metrics of a Snapshot without a namespace.
var descriptors = describe("")

// describe describes the metrics of a Snapshot, in the order of their table.
func describe(namespace Namespace) []*prometheus.Desc {
	table := metrictable.Of(new(metrics.Snapshot))
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

// collect sends what a cache has counted, by the descriptors of its collector.
func collect(descriptors []*prometheus.Desc, cache string, s *metrics.Snapshot, out chan<- prometheus.Metric) {
	for i, m := range metrictable.Of(s) {
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
			}
			out <- prometheus.MustNewConstMetric(descriptors[i], kind, value, labels...)
		}
	}
}
