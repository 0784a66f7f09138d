package prometheus

import (
	"fmt"

	"github.com/prometheus/common/model"
)

// Namespace is what the names of metrics begin with, in front of "_cache_": the metrics of
// Namespace("shop") are shop_cache_requests_total and so on. "" stands for none. A Collector and
// a Recorder may have different ones.
//
// grafana.json and alerts.yml name the metrics without a namespace. In a copy of them,
//
//	sed -E 's/\bcache_([a-z_]+)/shop_cache_\1/g'
//
// puts it in front.
type Namespace string

// name is the name of a metric in the namespace.
func (n Namespace) name(metric string) string {
	if n == "" {
		return metric
	}
	return string(n) + "_" + metric
}

func (n Namespace) check() error {
	if n != "" && !model.LegacyValidation.IsValidMetricName(string(n)) {
		return fmt.Errorf("cache: metrics for Prometheus: the namespace %q has characters other than letters, digits, _ and :, or begins with a digit", string(n))
	}
	return nil
}
